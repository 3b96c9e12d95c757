"""One loop of a loop nest: counts down its trips and says when the last one runs."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class LoopCounter(wiring.Component):
    """Trip counter whose end is a register, so that long nests of loops stay fast.

    Parameters
    ----------
    bits : int
        Of the trip count minus one.

    Attributes
    ----------
    trips : bits, in
        Trips of the loop minus one; constant while it runs.
    begin : 1, in
        Pulse: the nest starts.
    step : 1, in
        A trip ends in this cycle.
    last : 1, out
        The loop is in its last trip; one cycle after a step it is right for the next trip.
    """

    trips: Signal
    begin: Signal
    step: Signal
    last: Signal

    def __init__(self, bits: int) -> None:
        super().__init__({"trips": In(bits), "begin": In(1), "step": In(1), "last": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        left = Signal(len(self.trips))
        restart = self.begin | self.last
        with m.If(self.begin | self.step):
            m.d.sync += [
                left.eq(Mux(restart, self.trips, left - 1)),
                self.last.eq(Mux(restart, self.trips == 0, left == 1)),
            ]
        return m
