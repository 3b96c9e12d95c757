"""`cosim.run_vectors` for components with ports wider than a harness field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Elaboratable, Module, Shape, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.compiler.ir import Int64Array
from sim_tests.hw import cosim, xc7


class Narrowed(wiring.Component):  # type: ignore[type-arg]  # generic in its stub only
    """A component with some ports cut into parts of equal width, named PORT__INDEX.

    Parameters
    ----------
    parts : name -> bits
        Ports to cut, all others stay; a part is unsigned.
    """

    def __init__(self, component: wiring.Component[Any], parts: Mapping[str, int]) -> None:
        self.component = component
        self.parts = parts
        ports: dict[str, Any] = {}
        for name, member in component.signature.members.items():
            flow = In if member.flow == wiring.In else Out
            width = Shape.cast(cast(Any, member).shape).width
            if name not in parts:
                ports[name] = flow(width)
                continue
            assert width % parts[name] == 0, f"{name} has {width} bits"
            for index in range(width // parts[name]):
                ports[f"{name}__{index}"] = flow(parts[name])
        super().__init__(ports)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        # The stubs' base class has no `elaborate`; every component has.
        m.submodules.component = cast(Any, self.component)
        for name, member in self.signature.members.items():
            port, _, index = name.partition("__")
            inner = cast(Any, Value.cast(getattr(self.component, port)))
            outer = getattr(self, name)
            if index:
                inner = inner.word_select(int(index), self.parts[port])
            m.d.comb += inner.eq(outer) if member.flow == wiring.In else outer.eq(inner)
        return m


def run_vectors(
    component: wiring.Component[Any],
    inputs: Mapping[str, npt.NDArray[Any]],
    parts: Mapping[str, int],
    folder: Path,
    *,
    seed: int,
    sources: Sequence[Path] = (),
    synthesized: bool = False,
) -> dict[str, Int64Array]:
    """As `cosim.run_vectors`; ports in `parts` take and give arrays [cycles, parts], low first.

    `synthesized`: simulate the netlist for 7-series instead.
    """
    narrow: dict[str, npt.NDArray[Any]] = {}
    for name, values in inputs.items():
        if name in parts:
            narrow |= {f"{name}__{i}": column for i, column in enumerate(values.T)}
        else:
            narrow[name] = values
    dut = Narrowed(component, parts)
    netlist = xc7.synthesize(dut).verilog if synthesized else None
    found = cosim.run_vectors(dut, narrow, folder, seed=seed, sources=sources, netlist=netlist)
    out: dict[str, Int64Array] = {}
    for name in component.signature.members:
        if name in found:
            out[name] = found[name]
        elif f"{name}__0" in found:
            count = sum(other.startswith(f"{name}__") for other in found)
            out[name] = np.stack([found[f"{name}__{i}"] for i in range(count)], axis=1)
    return out
