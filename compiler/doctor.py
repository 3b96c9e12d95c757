"""`qcompile doctor`: what is installed and where, what is missing, and what installs it."""

from __future__ import annotations

import ctypes.util
import dataclasses
import importlib.metadata
import importlib.util
import json as json_module
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from qcompile.compiler import libpython
from qcompile.compiler.lines.vendor_tools import found
from qcompile.compiler.requirements import pip_install
from qcompile.compiler.toolchain import Tool, find_tools

# Verbs whose failing makes `doctor` exit 1: without a board nobody needs the others.
ESSENTIAL = ("compile", "sim")

PACKAGES = (
    # distribution, module, purpose, verbs
    ("amaranth", "amaranth", "hardware description", ("compile", "sim")),
    ("amaranth-boards", "amaranth_boards", "pins of boards", ("compile", "sim")),
    ("numpy", "numpy", "tensors", ("compile", "sim", "run")),
    ("onnx", "onnx", "reads models", ("compile", "sim")),
    ("onnxruntime", "onnxruntime", "the reference of every result", ("compile", "sim")),
    ("cocotb", "cocotb", "drives simulations", ("sim",)),
    ("pyserial", "serial", "talks to boards", ("run",)),
    ("rich", "rich", "progress and tables", ("compile", "sim")),
)
SHARED_LIBRARIES = (
    # name for the linker, Debian package
    ("usb-1.0", "libusb-1.0-0"),
    ("ftdi1", "libftdi1-2"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that qcompile needs, present or missing.

    Attributes
    ----------
    name, purpose : str
        What it is, and what qcompile does with it.
    commands : tuple of str
        The verbs ("compile", "sim", "run", "flash") that cannot work without it.
    present : bool
        Whether it was found.
    version, path : str or None
        As far as it tells.
    install : str
        The command that installs or repairs it.
    """

    name: str
    purpose: str
    commands: tuple[str, ...]
    present: bool
    version: str | None
    path: str | None
    install: str

    @property
    def essential(self) -> bool:
        """Whether compiling or simulating cannot work without it."""
        return any(command in ESSENTIAL for command in self.commands)


def _python() -> Finding:
    return Finding(
        name="python",
        purpose=f"runs qcompile, on {platform.system()} {platform.machine()}",
        commands=("compile", "sim", "run", "flash"),
        present=sys.version_info >= (3, 11),
        version=platform.python_version(),
        path=sys.executable,
        install="apt install python3-venv",
    )


def _package(distribution: str, module: str, purpose: str, commands: tuple[str, ...]) -> Finding:
    try:
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        version = None
    spec = importlib.util.find_spec(module) if version else None
    return Finding(
        name=distribution,
        purpose=purpose,
        commands=commands,
        present=spec is not None,
        version=version,
        path=spec.origin if spec else None,
        install=pip_install(distribution, again=version is not None),
    )


def _libpython() -> Finding:
    path = libpython.find_libpython()
    return Finding(
        name="libpython",
        purpose="Python inside the simulator",
        commands=("sim",),
        present=path is not None,
        version=libpython.SERIES if path else None,
        path=path,
        install=libpython.INSTALL,
    )


def _shared_library(name: str, package: str) -> Finding:
    found = ctypes.util.find_library(name)
    return Finding(
        name=f"lib{name}",
        purpose="openFPGALoader reaches the board through it",
        commands=("flash",),
        present=found is not None,
        version=None,
        path=found,
        install=f"apt install {package}",
    )


def _from_tool(tool: Tool) -> Finding:
    return Finding(
        name=tool.name,
        purpose=tool.purpose,
        commands=tool.commands,
        present=tool.path is not None,
        version=tool.version,
        path=str(tool.path) if tool.path else None,
        install=tool.install,
    )


def diagnose() -> list[Finding]:
    """Look for everything that qcompile needs on this machine."""
    return [
        _python(),
        *(_package(*package) for package in PACKAGES),
        *(_from_tool(tool) for tool in find_tools()),
        _libpython(),
        *(_shared_library(*library) for library in SHARED_LIBRARIES),
    ]


def _line(finding: Finding) -> str:
    state = "ok     " if finding.present else "MISSING"
    where = finding.path or f"for {' and '.join(finding.commands)}: {finding.purpose}"
    return f"{state}  {finding.name:21}  {finding.version or '-':19}  {where}"


def print_findings(findings: Sequence[Finding], json: bool) -> int:
    """Print a table, or JSON; 1 when something that compile or sim needs is missing, else 0.

    What only `flash`, or `run` on a real board, needs is named as missing but is no failure.
    """
    missing = [finding for finding in findings if not finding.present]
    exit_code = int(any(finding.essential for finding in missing))
    if json:
        print(json_module.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
        return exit_code
    for finding in findings:
        print(_line(finding))
    print()
    for finding in missing:
        print(f"{finding.name} is missing: `qcompile {finding.commands[0]}` will not work")
        print(f"  help: {finding.install}")
    print(f"Bitstreams of 7-series devices (made by tools that pip does not have): {found()}.")
    if exit_code == 0:
        print("Everything that compile and sim need is there.")
    elif not any("run" in finding.commands for finding in missing):
        print("Everything that `python -m qcompile.runtime` needs is there.")
    return exit_code
