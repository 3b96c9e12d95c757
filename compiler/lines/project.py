"""The files that vendor tools make a bitstream from: Verilog, constraints, and how to run them."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qcompile.compiler import toolchain
from qcompile.compiler.errors import UsageError
from qcompile.compiler.hardware import Progress, as_bytes, cached_folder, write_whole
from qcompile.hw.boards import LinesBoard
from qcompile.hw.lines.clock import find_pll_settings
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.contents import LinesContents
from qcompile.hw.uart import clocks_per_bit
from qcompile.runtime.protocol import BAUD

BOARD_FILES = ("top.v", "top.xdc", "build.tcl", "openxc7.sh")
RTLIL = "top.il.gz"
"""`top.v` before Yosys wrote it as Verilog; stays in the cache."""
CLOCKS_MHZ = range(20, 251)
"""Those that are offered."""
FINAL_REPORT = b"report_utilization -file top_utilization.rpt\n"
"""Of what is written as a bitstream; the report of its timing is Amaranth's own."""
DATABASES = {"xc7a": "artix7", "xc7z": "zynq7"}
"""Project X-Ray's folder of a device's family."""


def board_files(
    config: LinesConfig,
    board: LinesBoard,
    contents: LinesContents | None,
    clock_hz: int,
    progress: Progress,
) -> dict[str, bytes]:
    """`BOARD_FILES`, cached: the whole design on a board, with its program and weights.

    Without `contents` it takes them from the board's flash, and serves every model of its size.

    * `top.v`, module `top`; `top.xdc`, its pins and the clock that comes from outside;
    * `build.tcl`, for `vivado -mode batch -source build.tcl`: leaves top.bit, top_timing.rpt,
      top_utilization.rpt and other reports beside it;
    * `openxc7.sh`, for openXC7's tools: leaves top.bit and nextpnr.log beside it.

    UsageError where `require_clock` has it.
    """
    with _made(config, board, contents, clock_hz, progress) as folder:
        return {name: (folder / name).read_bytes() for name in BOARD_FILES}


def board_rtlil(
    config: LinesConfig,
    board: LinesBoard,
    contents: LinesContents | None,
    clock_hz: int,
    progress: Progress,
) -> str:
    """The same design as `top.v`, as RTLIL, which Yosys reads in no time; cached with it."""
    with _made(config, board, contents, clock_hz, progress) as folder:
        return gzip.decompress((folder / RTLIL).read_bytes()).decode()


@contextlib.contextmanager
def _made(
    config: LinesConfig,
    board: LinesBoard,
    contents: LinesContents | None,
    clock_hz: int,
    progress: Progress,
) -> Iterator[Path]:
    """The cache's folder with `BOARD_FILES` and `RTLIL`."""
    require_clock(board, clock_hz)
    facts = [
        Path(__file__).read_bytes(),
        b"" if contents is None else contents.image,
        b"" if contents is None else len(contents.program).to_bytes(4, "little"),
        clock_hz.to_bytes(8, "little"),
    ]
    key = hashlib.sha256(b"".join(hashlib.sha256(fact).digest() for fact in facts)).hexdigest()
    with cached_folder("lines", config, f"{board.name} {key}", progress) as folder:
        if not all((folder / name).exists() for name in (*BOARD_FILES, RTLIL)):
            progress("write the board's Verilog")
            for name, data in _make(config, board, contents, clock_hz).items():
                write_whole(folder / name, data)
        yield folder


def require_clock(board: LinesBoard, clock_hz: int) -> None:
    """UsageError where the board's PLL or its serial line cannot do with this clock."""
    problem = _clock_problem(board, clock_hz)
    if problem is None:
        return
    able = [mhz for mhz in CLOCKS_MHZ if _clock_problem(board, mhz * 1_000_000) is None]
    near = sorted(able, key=lambda mhz: abs(mhz * 1_000_000 - clock_hz))[:4]
    raise UsageError(
        f"{board.name}: {problem}",
        help=f"clocks near it that do: {', '.join(map(str, sorted(near)))} MHz",
    )


def _clock_problem(board: LinesBoard, clock_hz: int) -> str | None:
    try:
        find_pll_settings(board.oscillator_hz, clock_hz)
        if board.link == "uart":
            clocks_per_bit(clock_hz, BAUD)
    except ValueError as error:
        return str(error)
    return None


def _make(
    config: LinesConfig, board: LinesBoard, contents: LinesContents | None, clock_hz: int
) -> dict[str, bytes]:
    """Amaranth's build plan for the board, and the commands for openXC7."""
    from qcompile.hw.lines.top import LinesTop

    top = LinesTop(config, board, contents, clock_hz=clock_hz)
    with toolchain.activated_tools():
        plan = _platform(board).build(top, name="top", do_build=False, emit_src=False)
    found = {name: as_bytes(content) for name, content in plan.files.items()}
    beside = b"cd [file dirname [file normalize [info script]]]\n"
    before, write, after = found["top.tcl"].partition(b"write_bitstream ")
    return {
        "top.v": found["top.v"],
        "top.xdc": found["top.xdc"],
        "build.tcl": beside + before + FINAL_REPORT + write + after,
        "openxc7.sh": openxc7_script(board, clock_hz).encode(),
        RTLIL: gzip.compress(found["top.il"], compresslevel=1),
    }


def _platform(board: LinesBoard) -> Any:
    """The board's Amaranth platform, which writes RTLIL too."""
    base: Any = type(board.platform())

    class Platform(base):  # type: ignore[misc]  # the boards' classes have no types
        @property
        def file_templates(self) -> dict[str, str]:
            return {**super().file_templates, "{{name}}.il": "{{emit_rtlil()}}"}

    return Platform(toolchain="Vivado")


def openxc7_script(board: LinesBoard, clock_hz: int) -> str:
    """Commands from Verilog to bitstream with openXC7's tools.

    nextpnr does not follow a clock through a PLL, so it gets the array's clock as a number.
    """
    part = board.open_part
    device = part.rpartition("-")[0]
    database = DATABASES[part[:4]]
    return f"""#!/bin/sh
# Makes top.bit of top.v with openXC7's tools (https://github.com/openXC7).
# CHIPDB: folder with {device}.bin, which nextpnr-xilinx's bbaexport.py and bbasm make.
# PRJXRAY_DB_DIR: Project X-Ray's data base.
# nextpnr.log says whether the clock is met: top.bit is made even where it is not.
set -eu
cd "$(dirname "$0")"
: "${{CHIPDB:?folder with {device}.bin}}" "${{PRJXRAY_DB_DIR:?folder with {database}/{part}}}"
echo "# yosys"
"${{YOSYS:-yosys}}" -q -l yosys.log \\
  -p 'read_verilog top.v; synth_xilinx -flatten -abc9 -arch xc7 -top top' \\
  -p 'delete t:$scopeinfo; write_json top.json'  # nextpnr-xilinx does not know these cells
echo "# nextpnr-xilinx"
nextpnr-xilinx --chipdb "$CHIPDB/{device}.bin" --xdc top.xdc --json top.json \\
  --fasm top.fasm --freq {clock_hz / 1e6:g} --timing-allow-fail --log nextpnr.log
echo "# fasm2frames"
fasm2frames --part {part} --db-root "$PRJXRAY_DB_DIR/{database}" top.fasm > top.frames
echo "# xc7frames2bit"
xc7frames2bit --part_file "$PRJXRAY_DB_DIR/{database}/{part}/part.yaml" --part_name {part} \\
  --frm_file top.frames --output_file top.bit
"""
