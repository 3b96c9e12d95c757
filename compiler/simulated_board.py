"""Builds the simulated board: the top level's Verilog, a UART at bit level and a strict flash.

The board's sources are in hw/sim/. PLLs, a STARTUPE2 and iCE40's I/O cells are our own models;
every other vendor cell is simulated with Yosys's, and memories without contents start with random
ones. An array of lines that has its program in the bitstream leaves the flash alone.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from qcompile import hw
from qcompile.compiler.cache import ONCE, make_once
from qcompile.compiler.errors import UsageError
from qcompile.compiler.toolchain import (
    SIMULATION_TOOLS,
    require_tools,
    run_tool,
    vendor_cells,
)
from qcompile.compiler.verilator_library import SPLIT, shared_library
from qcompile.hw.boards import Board, LinesBoard
from qcompile.hw.boards.board import flash_cells
from qcompile.hw.flash_parts import W25Q128JV

EXECUTABLE = "simulated_board"
FLASH_ARCHIVE = "Vflash__ALL.a"
MODELS = ("spi_flash.v", "simulated_board.cpp")
CELLS = "board_cells.v"
"""Models of our own."""
VENDOR_CELLS = "cells_sim.v"
"""Yosys's models."""
FLASH_PART = "flash_part.v"
"""The macros that choose the flash's part."""
VERILATOR_OPTIONS = (
    "--cc",
    "-O3",
    "-Wno-fatal",
    "-Wno-lint",
    "-Wno-MULTITOP",
    "--x-initial",
    "unique",
    "--x-assign",
    "unique",
    "--no-timing",
    "--noassert",
    "--timescale",
    "1ns/1ps",
    "-DNO_ICE40_DEFAULT_ASSIGNMENTS",
    *SPLIT,
)
COMPILE_OPTIONS = ("-CFLAGS", "-O2 -std=c++17 -DVL_TIME_CONTEXT")
ZERO_MEMORY_WORD = re.compile(r"^\s*\\?\S+\s*\[\d+\] = \d+'[hbd]0+;\n", re.MULTILINE)
"""Zeros that Amaranth gives to memories without contents; hardware does not have them."""


EMPTY_MEMORY = re.compile(r"initial begin\n(?:\s*\\?\S+\s*\[\d+\] = \d+'[hbd]0+;\n)+\s*end\n")
"""Contents of a memory all of whose words are zero."""


FILLED_MODULE = re.compile(r"module \\\S+\.core\.(program|weights)\b")
"""Where memories have contents of their own, be they zeros."""


def without_empty_memories(text: str) -> str:
    """Verilog of an array of lines whose memories start undefined where nothing fills them.

    Of one that reads a flash nothing fills any.
    """
    if reads_flash(text):
        return EMPTY_MEMORY.sub("", text)
    modules = re.split(r"^(?=module )", text, flags=re.MULTILINE)
    return "".join(
        module if FILLED_MODULE.match(module) else EMPTY_MEMORY.sub("", module)
        for module in modules
    )


def reads_flash(text: str) -> bool:
    """Whether Verilog of an array of lines takes its program from a flash."""
    return "flash__select" in text


def without_zero_memories(text: str) -> str:
    """Verilog whose memories start undefined where Amaranth fills them with zeros."""
    return ZERO_MEMORY_WORD.sub("", text)


def pins_verilog(board: Board, top: str) -> str:
    """A module `fpga` with one port for each kind of pin, whatever the top level calls them.

    `pulled_up` says which flash lines the top level has no cells for.
    """
    ports = board.ports
    cells = flash_cells(board.flash_lines)
    return f"""
module fpga (
    input clk, input rx, output tx, output cs_n, output sck, inout [{cells - 1}:0] dq,
    output [3:0] pulled_up
);
  wire clock_pin = clk, rx_pin = rx;  // the top level's ports are all bidirectional
  assign pulled_up = 4'hF << {cells};
  {top} top (
      .{ports.clock}(clock_pin),
      .{ports.rx}(rx_pin),
      .{ports.tx}(tx),
      .{ports.select}(cs_n),
      .{ports.flash_clock}(sck),
      .{ports.data}(dq)
  );
endmodule
"""


def lines_pins_verilog(board: LinesBoard, top: str, *, reads: bool) -> str:
    """`pins_verilog` for a board with an array of lines, which `reads` the flash or leaves it."""
    pins = board.pins
    if reads:
        flash = f", .{pins.select}(cs_n), .{pins.data}(dq)"
        levels = "sck = top.startup.cclk, pulled_up = 4'h0"
    else:
        flash, levels = "", "cs_n = 1, sck = 0, dq = 4'bz, pulled_up = 4'hF"
    return f"""
module fpga (
    input clk, input rx, output tx, output cs_n, output sck, inout [3:0] dq,
    output [3:0] pulled_up
);
  wire clock_pin = clk, rx_pin = rx;
  assign {levels};
  {top} top (.{pins.clock}(clock_pin), .{pins.rx}(rx_pin), .{pins.tx}(tx){flash});
endmodule
"""


def _require_uart(board: LinesBoard) -> None:
    if board.link != "uart":
        raise UsageError(
            f"{board.name}: there is a simulated board for boards with a UART only",
            help="simulate the core: qcompile sim; or compile for --board arty_a7_100t",
        )


def build_simulated_board(
    top_verilog: Path,
    directory: Path,
    *,
    board: Board | LinesBoard,
    top: str = "top",
    progress: Callable[[str], None] = lambda step: None,
    on_line: Callable[[str], None] = lambda line: None,
) -> Path:
    """Build the executable in a folder of `directory` and return its path.

    The folder's name is a hash of everything that goes in, so a second call with the same Verilog
    finds the executable of the first; processes that build at the same time wait for each other.

    Parameters
    ----------
    top_verilog : Path
        Verilog of the top level as made for `board`, with its vendor cells.
    directory : Path
        Where simulated boards are kept.
    board : Board or LinesBoard with a UART
        Names the top level's ports and its flash.
    top : str
        Name of the top module.
    progress : callable
        Gets a sentence when it has to be made, which takes about half a minute.
    on_line : callable
        Gets every line that the tools print.

    Raises
    ------
    ToolError
        When Verilator or the C++ compiler fails.
    UsageError
        When the board has no UART.
    """
    models = Path(hw.__file__).parent / "sim"
    if isinstance(board, LinesBoard):
        _require_uart(board)
        verilog = top_verilog.read_text()
        pins = lines_pins_verilog(board, top, reads=reads_flash(verilog))
        text = without_empty_memories(verilog) + pins
        flash_part = W25Q128JV if board.flash is None else board.flash.part
        part, cells, own_cells = flash_part.verilog_defines(), vendor_cells("xilinx"), "xc7_cells.v"
    else:
        text = without_zero_memories(top_verilog.read_text()) + pins_verilog(board, top)
        part, cells, own_cells = board.flash_part.verilog_defines(), vendor_cells("ice40"), CELLS
    copied = [models / own_cells, cells, *(models / name for name in MODELS)]
    sources = [text, part, *(path.read_text() for path in copied)]
    key = "\0".join((*sources, *VERILATOR_OPTIONS, *COMPILE_OPTIONS)).encode()
    folder = directory / hashlib.sha256(key).hexdigest()[:20]

    def make() -> None:
        require_tools(SIMULATION_TOOLS)
        progress(f"compile the simulated board, {ONCE}")
        (folder / "fpga.v").write_text(text)
        (folder / FLASH_PART).write_text(part)
        for path in copied:
            shutil.copy(path, folder)
        (folder / own_cells).rename(folder / CELLS)
        with shared_library(directory, folder / "fpga", (*VERILATOR_OPTIONS, *COMPILE_OPTIONS)):
            _build(folder, on_line)

    make_once(folder, make)
    return folder / EXECUTABLE


def _build(folder: Path, on_line: Callable[[str], None]) -> None:
    """Verilate flash and FPGA into one executable inside `folder`.

    Of the flash only the model itself is compiled: Verilator's own library comes with the FPGA's.
    """
    verilator = ["verilator", *VERILATOR_OPTIONS, *COMPILE_OPTIONS]
    flash = ["--prefix", "Vflash", "--Mdir", "flash", "--top-module", "spi_flash"]
    run_tool([*verilator, *flash, FLASH_PART, "spi_flash.v"], cwd=folder, on_line=on_line)
    run_tool(
        ["make", "-C", "flash", "-f", "Vflash.mk", FLASH_ARCHIVE],
        cwd=folder,
        outputs=[Path("flash") / FLASH_ARCHIVE],
        on_line=on_line,
    )
    run_tool(
        [
            *(*verilator, "--build", "-j", "2", "--exe", "--pins-inout-enables"),
            *("--prefix", "Vfpga", "--Mdir", "fpga", "--top-module", "fpga"),
            *("-CFLAGS", "-I../flash", "-LDFLAGS", f"../flash/{FLASH_ARCHIVE}"),
            *("-v", VENDOR_CELLS, CELLS, "fpga.v", "simulated_board.cpp"),
            *("-o", f"../{EXECUTABLE}"),
        ],
        cwd=folder,
        outputs=[Path(EXECUTABLE)],
        on_line=on_line,
    )
