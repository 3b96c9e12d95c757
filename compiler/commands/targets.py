"""`qcompile targets`: the devices and boards that qcompile knows."""

from __future__ import annotations

import argparse
import json

from qcompile.compiler.report import table
from qcompile.hw.boards import BOARDS


def run(arguments: argparse.Namespace) -> int:
    """Print a table, or JSON."""
    rows = [
        {
            "target": "ice40",
            "device": f"iCE40{board.device}",
            "board": name,
            "package": board.package,
            "flash_bytes": board.flash_bytes,
        }
        for name, board in BOARDS.items()
    ]
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    head = ("target", "device", "board", "package", "flash bytes")
    cells = [[f"{x:,}" if isinstance(x, int) else str(x) for x in row.values()] for row in rows]
    print("\n".join(table(head, cells)))
    return 0
