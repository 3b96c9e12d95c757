"""An array of lines in which any one pair of multiply-accumulators can be made faulty."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from qcompile.hw.lines.accelerator import LinesAccelerator
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.vendor.xilinx_dsp import LANE_BITS, DualMac
from sim_tests.hw import cosim

STUCK = [(bit, level) for bit in range(8) for level in (0, 1)]
SPILL = [(bit, level) for bit in (LANE_BITS - 1, LANE_BITS) for level in (0, 1)]
KINDS = [
    *(
        f"bit {bit} of {name} stuck at {level}"
        for name in ("b", "a0", "a1")
        for bit, level in STUCK
    ),
    *(f"bit {bit} of P stuck at {level} for the spill" for bit, level in SPILL),
    "a1 is 127 where -128 meets -128",
    "a0 is 1 where 0 meets -1",
    "b is 126 where 127 meets -128 in the lower row",
    "a sum begins with the sum before",
]
"""Faults of a pair, `FaultyAccelerator.kind` is the index."""


class FaultyAccelerator(wiring.Component):  # type: ignore[type-arg]  # generic in the stubs only
    """`LinesAccelerator` whose pair `site` (line, then pair of the line) has the fault `kind`.

    `broken` switches the fault on.
    """

    site: Signal
    kind: Signal
    broken: Signal

    def __init__(self, config: LinesConfig, program_words: int) -> None:
        self._pairs = config.pairs
        self._accelerator = LinesAccelerator(config, program_words)
        self._faults: list[Signal] = []
        self.made = 0
        ports = {"site": In(range(config.pairs)), "kind": In(range(len(KINDS))), "broken": In(1)}
        super().__init__({**self._accelerator.signature.members, **ports})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.accelerator = inner = self._accelerator
        for name, member in inner.signature.members.items():
            outer, port = getattr(self, name), getattr(inner, name)
            if member.is_signature:
                wiring.connect(m, wiring.flipped(outer), port)
            else:
                m.d.comb += port.eq(outer) if member.flow == In else outer.eq(port)
        self.made = 0
        self._faults = [
            Signal(range(len(KINDS) + 1), name=f"fault_{site}") for site in range(self._pairs)
        ]
        for site, fault in enumerate(self._faults):
            here = self.broken & (self.site == site)
            m.d.comb += fault.eq(Mux(here, self.kind, len(KINDS)))
        return m

    def pair(self, style: str, acc_width: int) -> DualMac:
        """The next pair, instead of `hw.vendor.dual_mac`'s: lines ask in order."""
        self.made += 1
        return FaultyMac(acc_width, self._faults[self.made - 1])


def faulty_verilog(config: LinesConfig, program_words: int) -> str:
    """The accelerator's Verilog with ports `site`, `kind` and `broken`."""
    accelerator = FaultyAccelerator(config, program_words)
    with patch("qcompile.hw.lines.array.dual_mac", accelerator.pair):
        text = cosim.to_verilog(accelerator)
    assert accelerator.made == config.pairs, "every pair can be made faulty"
    return text


class FaultyMac(DualMac):
    """A pair with the fault whose index is `fault`; none where that is the number of faults."""

    def __init__(self, acc_width: int, fault: Signal) -> None:
        super().__init__(acc_width)
        self._fault = fault

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.pair = inner = _Pair(self.acc_width, self._is)
        a0, a1, b = Signal.like(self.a0), Signal.like(self.a1), Signal.like(self.b)
        for number, (value, port) in enumerate(((b, self.b), (a0, self.a0), (a1, self.a1))):
            m.d.comb += value.eq(port)
            for index, (bit, level) in enumerate(STUCK):
                with m.If(self._is(number * len(STUCK) + index)):
                    m.d.comb += value[bit].eq(level)
        with m.If(self._named("a1 is 127") & (self.a1 == -128) & (self.b == -128)):
            m.d.comb += a1.eq(127)
        with m.If(self._named("a0 is 1") & (self.a0 == 0) & (self.b == -1)):
            m.d.comb += a0.eq(1)
        with m.If(self._named("b is 126") & (self.a0 == -128) & (self.b == 127)):
            m.d.comb += b.eq(126)
        keeps = self._named("a sum begins")
        m.d.comb += [
            inner.a0.eq(a0),
            inner.a1.eq(a1),
            inner.b.eq(b),
            inner.valid.eq(self.valid),
            inner.first.eq(self.first & ~keeps),
            self.acc0.eq(inner.acc0),
            self.acc1.eq(inner.acc1),
            self.upper.eq(inner.upper),
        ]
        return m

    def _is(self, kind: int) -> Value:
        return self._fault == kind

    def _named(self, begin: str) -> Value:
        (kind,) = (index for index, name in enumerate(KINDS) if name.startswith(begin))
        return self._is(kind)


class _Pair(DualMac):
    """`DualMac` whose spill is followed with a wrong bit of P."""

    def __init__(self, acc_width: int, is_fault: Callable[[int], Value]) -> None:
        super().__init__(acc_width)
        self._is_fault = is_fault

    def _track_quotient(self, m: Module, packed: Value, valid: Value, load: Value) -> Value:
        bits = list(packed)
        for index, (bit, level) in enumerate(SPILL):
            bits[bit] = Mux(self._is_fault(3 * len(STUCK) + index), level, bits[bit])
        return super()._track_quotient(m, Cat(bits), valid, load)
