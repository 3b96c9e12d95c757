"""Which tools that make bitstreams of 7-series devices this machine has; no registry has them."""

from __future__ import annotations

import os
import shutil

from qcompile.compiler import toolchain

OPEN_PROGRAMS = ("nextpnr-xilinx", "fasm2frames", "xc7frames2bit")
OPEN_FOLDERS = ("CHIPDB", "PRJXRAY_DB_DIR")
"""Variables that name the device's data for openXC7."""


def has_vivado() -> bool:
    """Vivado is on the PATH."""
    return _is_there("vivado")


def open_lacks() -> list[str]:
    """Programs and variables of openXC7 that are missing."""
    programs = [program for program in OPEN_PROGRAMS if not _is_there(program)]
    return programs + [name for name in OPEN_FOLDERS if not os.environ.get(name)]


def found() -> str:
    """What there is, and what is missing: a clause."""
    if has_vivado():
        return "vivado is on the PATH"
    lacks = open_lacks()
    if not lacks:
        return "openXC7's tools are there"
    begun = len(lacks) < len(OPEN_PROGRAMS) + len(OPEN_FOLDERS)
    openxc7 = f"openXC7 lacks {', '.join(lacks)}" if begun else "openXC7's tools are not either"
    return f"vivado is not on the PATH, {openxc7}"


def _is_there(program: str) -> bool:
    return shutil.which(program, path=toolchain.tool_environment()["PATH"]) is not None
