"""Place and route by tools that the user has: Vivado, or openXC7's.

They run in a folder of their own inside the build directory, which keeps their log. What they left
there is taken again while the files that they started from are the same.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from qcompile.compiler import toolchain
from qcompile.compiler.errors import InputError, ToolError
from qcompile.compiler.hardware import write_whole
from qcompile.compiler.lines import vendor_tools
from qcompile.compiler.lines.vendor_reports import (
    Placed,
    UnreadableReport,
    read_nextpnr,
    read_vivado,
)

BITSTREAM = "top.bit"
DONE = "done.sha256"
"""Names, in a tool's folder, what it started from; empty until the tool has ended well."""
ERRORS = 5
"""Lines of errors that a message repeats."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorTool:
    """A way from a build's Verilog to a bitstream.

    Attributes
    ----------
    name : str
        Of the tool, of its folder and of its log.
    counts : str
        The program that counts resources and tells the clock.
    command : tuple of str
        Run in the tool's folder.
    inputs : tuple of str
        The build's files that it starts from.
    reports : tuple of str
        What it leaves besides `BITSTREAM`, as `read` takes their texts, before the clock in MHz.
    stages : tuple of str
        Words after "# " in its output that are told as steps.
    """

    name: str
    counts: str
    command: tuple[str, ...]
    inputs: tuple[str, ...]
    reports: tuple[str, ...]
    read: Callable[..., Placed]
    stages: tuple[str, ...]


VIVADO = VendorTool(
    name="vivado",
    counts="Vivado",
    command=("vivado", "-mode", "batch", "-nojournal", "-nolog", "-source", "build.tcl"),
    inputs=("top.v", "top.xdc", "build.tcl"),
    reports=("top_timing.rpt", "top_utilization.rpt"),
    read=read_vivado,
    stages=("synth_design", "opt_design", "place_design", "route_design", "write_bitstream"),
)
OPENXC7 = VendorTool(
    name="openxc7",
    counts="nextpnr-xilinx",
    command=("sh", "openxc7.sh"),
    inputs=("top.v", "top.xdc", "openxc7.sh"),
    reports=("nextpnr.log",),
    read=read_nextpnr,
    stages=("yosys", *vendor_tools.OPEN_PROGRAMS),
)


def find_tool() -> VendorTool | None:
    """The one that this machine has, Vivado first."""
    if vendor_tools.has_vivado():
        return VIVADO
    return None if vendor_tools.open_lacks() else OPENXC7


def nothing_found(folder: str) -> str:
    """What to do without: one sentence."""
    return (
        f"no bitstream: {vendor_tools.found()};"
        f" `vivado -mode batch -source {folder}/build.tcl` or `sh {folder}/openxc7.sh` makes one"
    )


def place_and_route(
    tool: VendorTool,
    files: Mapping[str, bytes],
    build: Path,
    clock_mhz: float,
    progress: Progress,
) -> tuple[Placed, bytes]:
    """What the tool reached, and its bitstream; `files` are the build's, by name.

    ToolError where it fails or leaves a report that cannot be read; its log stays.
    """
    folder = build / tool.name
    inputs = {name: files[name] for name in tool.inputs}
    digest = hashlib.sha256(b"\0".join(inputs.values())).hexdigest()
    results = [folder / name for name in (BITSTREAM, *tool.reports)]
    if not _is_done(folder, digest) or not all(path.is_file() for path in results):
        _clear(folder)
        for name, content in inputs.items():
            (folder / name).write_bytes(content)
        _run(tool, folder, progress)
        write_whole(folder / DONE, digest.encode())
    texts = [(folder / name).read_text(errors="replace") for name in tool.reports]
    try:
        placed = tool.read(*texts, clock_mhz)
    except UnreadableReport as error:
        (folder / DONE).write_bytes(b"")
        raise ToolError(
            f"{tool.counts}: {folder / tool.reports[0]} or a report beside it cannot be read",
            context=(str(error), f"log: {folder / f'{tool.name}.log'}"),
            help="compile with --no-bitstream, and look at the reports yourself",
        ) from error
    return placed, (folder / BITSTREAM).read_bytes()


def _is_done(folder: Path, digest: str) -> bool:
    done = folder / DONE
    return done.is_file() and done.read_text() == digest


def _clear(folder: Path) -> None:
    """An empty folder but for `DONE`, which says that it is ours."""
    if folder.exists():
        if not (folder / DONE).is_file():
            raise InputError(
                f"{folder}: is none of qcompile's folders, and is not replaced",
                help="move it away, or choose another folder with -o",
            )
        shutil.rmtree(folder)
    folder.mkdir()
    (folder / DONE).touch()


def _run(tool: VendorTool, folder: Path, progress: Progress) -> None:
    """Run it to its end; its output is the log, as it comes."""
    path = folder / f"{tool.name}.log"
    progress(f"place and route with {tool.counts}; its log is {path}")
    errors: list[str] = []
    with path.open("w") as log:

        def on_line(line: str) -> None:
            log.write(f"{line}\n")
            log.flush()
            mark, _, rest = line.partition(" ")
            stage = rest.split(maxsplit=1)[0] if mark == "#" and rest.strip() else ""
            if stage in tool.stages:
                progress(f"{tool.counts}: {stage}" if stage != tool.counts else stage)
            if line.startswith("ERROR"):
                errors.append(line)

        try:
            toolchain.run_tool(
                tool.command,
                cwd=folder,
                outputs=[Path(name) for name in (BITSTREAM, *tool.reports)],
                on_line=on_line,
            )
        except ToolError as error:
            told = errors[-ERRORS:] or error.context[1:][-ERRORS:]
            raise ToolError(
                f"{tool.counts}: {error.message}",
                context=(f"log: {path}", *told),
                help="the build is whole without a bitstream: mend what the log says, or add"
                " --no-bitstream",
            ) from error
