"""`qcompile targets`: the devices and boards that qcompile knows, and what they hold."""

from __future__ import annotations

import argparse
import json
from typing import Any

from qcompile.compiler.report_text import table
from qcompile.hw.boards import BOARDS, LINES_BOARDS, Board, LinesBoard

HEAD = (
    *("target", "device", "board", "logic", "block RAM", "DSP", "activations", "flash", "lines"),
    *("clock", "MACs"),
)

LINES_HEAD = ("target", "device", "board", "link", "LUT", "block RAM", "DSP", "clock")


def run(arguments: argparse.Namespace) -> int:
    """Print a table, or JSON."""
    rows = [_row(board) for board in BOARDS.values()]
    lines = [_lines_row(board) for board in LINES_BOARDS.values()]
    if arguments.json:
        print(json.dumps([*rows, *lines], indent=2))
        return 0
    print("\n".join(table(HEAD, [_cells(row) for row in rows], left=3)))
    print("\nthe array is sized for each model:\n")
    print("\n".join(table(LINES_HEAD, [_lines_cells(row) for row in lines], left=4)))
    if not all(row["place_and_route"] for row in rows):
        print("\nno bitstream: " + ", ".join(r["board"] for r in rows if not r["place_and_route"]))
    return 0


def _row(board: Board) -> dict[str, Any]:
    """A board and its device: an element of what --json prints."""
    device = board.device
    return {
        "target": device.family,
        "device": device.name,
        "part": device.part,
        "board": board.name,
        "package": board.package,
        "logic_cells": device.logic_cells,
        "block_rams": device.block_rams,
        "block_ram_bytes": device.block_rams * device.block_ram_bits // 8,
        "dsp": device.multipliers,
        "activation_bytes": device.activation_bytes,
        "flash_part": board.flash_part.name,
        "flash_bytes": board.flash_part.size_bytes,
        "flash_lines": board.flash_lines,
        "clock_mhz": device.clock_hz / 1e6,
        "macs_per_cycle": device.config.macs_per_cycle,
        "place_and_route": device.place_and_route,
        "loader": board.loader_board,
    }


def _lines_row(board: LinesBoard) -> dict[str, Any]:
    """A board with an array of lines: an element of what --json prints."""
    device = board.device
    return {
        "target": device.family,
        "device": device.name,
        "part": board.part,
        "board": board.name,
        "luts": device.luts,
        "block_rams": device.block_rams,
        "dsp": device.dsps,
        "clock_mhz": board.clock_hz / 1e6,
        "link": board.link,
        "place_and_route": False,
        "loader": board.loader_board,
    }


def _lines_cells(row: dict[str, Any]) -> list[str]:
    return [
        row["target"],
        f"{row['device']} ({row['part']})",
        row["board"],
        row["link"],
        f"{row['luts']:,}",
        f"{row['block_rams']} x 36 Kbit",
        str(row["dsp"]),
        f"{row['clock_mhz']:.0f} MHz",
    ]


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["target"],
        f"{row['device']} ({row['part']})",
        row["board"],
        f"{row['logic_cells']:,}",
        _size(row["block_ram_bytes"]),
        str(row["dsp"]),
        _size(row["activation_bytes"]),
        _size(row["flash_bytes"]),
        str(row["flash_lines"]),
        f"{row['clock_mhz']:.0f} MHz",
        str(row["macs_per_cycle"]),
    ]


def _size(count: int) -> str:
    """Bytes in the largest unit that leaves them whole."""
    for unit, size in (("MB", 1 << 20), ("KB", 1 << 10)):
        if count % size == 0:
            return f"{count // size:,} {unit}"
    return f"{count:,} B"
