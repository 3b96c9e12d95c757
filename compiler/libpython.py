"""Python's shared library, which cocotb loads into the simulator; Debian packages it apart."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys

from qcompile.compiler.errors import ToolError

SERIES = f"{sys.version_info.major}.{sys.version_info.minor}"
INSTALL = f"apt install libpython{SERIES}"


def find_libpython() -> str | None:
    """Path of the library, looked for as cocotb does.

    None where it is missing or nothing that a process can load.
    """
    if importlib.util.find_spec("find_libpython") is None:  # comes with cocotb
        return None
    path: str | None = importlib.import_module("find_libpython").find_libpython()
    if path is None:
        return None
    try:
        ctypes.CDLL(path)
    except OSError:
        return None
    return path


def require_libpython() -> None:
    """Raise ToolError where cocotb could not load the library into the simulator."""
    if find_libpython() is None:
        raise ToolError(
            f"libpython{SERIES} was not found on this machine; the simulator runs Python",
            help=f"{INSTALL}; `qcompile doctor` lists everything missing",
        )
