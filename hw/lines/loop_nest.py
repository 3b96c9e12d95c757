"""Loops inside each other whose ends are registers, all of them together too."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

TILE_LEVELS = (4, 5, 6)
"""Loops behind a tile: tiles along the rows, line groups, channel groups."""


class LoopNest(wiring.Component):
    """Trip counters of several loops, the first one the innermost.

    `step` does nothing but enable registers, so it may come late in its cycle; what comes from
    registers, as the ends of loops inside these, belongs to `counts`.

    Parameters
    ----------
    bits : sequence of int
        Of each loop's trip count minus one.

    Attributes
    ----------
    trips : sum of bits, in
        Trips of each loop minus one, the innermost lowest; constant while they run.
    begin : 1, in
        Pulse: the nest starts.
    step, counts : 1, in
        With both a trip of the innermost loop ends in this cycle.
    last : loops, out
        The loop is in its last trip; right one cycle after a step.
    ends : loops, out
        The loop and all inside it are.
    """

    trips: Signal
    begin: Signal
    step: Signal
    counts: Signal
    last: Signal
    ends: Signal

    def __init__(self, bits: Sequence[int]) -> None:
        self.bits = tuple(bits)
        loops = len(self.bits)
        super().__init__(
            {
                "trips": In(sum(self.bits)),
                "begin": In(1),
                "step": In(1),
                "counts": In(1),
                "last": Out(loops),
                "ends": Out(loops),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        at = 0
        ends_inside: Value = Const(1, 1)  # this step ends a trip of the loop
        then: list[Value] = []  # the loop is in its last trip after a step
        for number, bits in enumerate(self.bits):
            trips = self.trips[at : at + bits]
            at += bits
            left = Signal(bits, name=f"left{number}")
            last = self.last[number]
            restart = self.begin | last
            with m.If(self.begin | (self.step & self.counts & ends_inside)):
                m.d.sync += left.eq(Mux(restart, trips, left - 1))
            stepped = Mux(last, trips == 0, left == 1)
            then.append(Mux(self.begin, trips == 0, Mux(ends_inside, stepped, last)))
            ends_inside = self.ends[number]
        with m.If(self.begin | (self.step & self.counts)):
            m.d.sync += [
                self.last.eq(Cat(then)),
                self.ends.eq(Cat(Cat(then[: n + 1]).all() for n in range(len(then)))),
            ]
        return m
