"""The measuring wrapper: a component's cells are its own, none of them the wrapper's."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.delay import delay
from sim_tests.hw.measure import measure

WIDTH, CYCLES = 8, 4
SLACK = 4
"""Cells that nextpnr adds for the chip: constants, ends of chains."""


class DelayLine(wiring.Component):  # type: ignore[type-arg]  # not a generic class at run time
    """`WIDTH` bits, `CYCLES` later: a register for each bit and cycle, nothing else."""

    i: Signal
    o: Signal

    def __init__(self) -> None:
        super().__init__({"i": In(WIDTH), "o": Out(WIDTH)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.o.eq(delay(m, self.i, CYCLES, "late"))
        return m


def test_registers_that_delay_a_port_are_counted() -> None:
    """In a wrapper that shifts its inputs in, the next bit's register is the delayed one."""
    figures = measure(DelayLine())
    assert WIDTH * CYCLES <= figures.logic_cells <= WIDTH * CYCLES + SLACK
    assert (figures.block_rams, figures.multipliers) == (0, 0)
