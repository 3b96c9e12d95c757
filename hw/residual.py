"""Fetches the residual operand's words, one row of the drain at a time."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class ResidualReader(wiring.Component):
    """Holds a row back until its residual word is here, and hands out the word's bytes.

    The word's address derives from the write address, so a row goes only when the one before is
    written: a row of a layer with a residual operand takes about the drain path's latency.
    Backpressure: `request` waits for `grant`; the word follows one cycle later.

    Attributes
    ----------
    enable : 1, in
        The layer has a residual operand; otherwise rows are always ready.
    begin : 1, in; active : 1, in
        A layer starts; rows of it remain.
    row_start, written : 1, in
        A row goes; its word is written.
    request : 1, out; grant : 1, in; word : 32, in
    row_ready : 1, out
    code : 8, out; take : 1, in
        The next byte, and that it is used in this cycle.
    """

    enable: Signal
    begin: Signal
    active: Signal
    row_start: Signal
    written: Signal
    request: Signal
    grant: Signal
    word: Signal
    row_ready: Signal
    code: Signal
    take: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "enable": In(1),
                "begin": In(1),
                "active": In(1),
                "row_start": In(1),
                "written": In(1),
                "request": Out(1),
                "grant": In(1),
                "word": In(32),
                "row_ready": Out(1),
                "code": Out(8),
                "take": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal(32, reset_less=True)
        wanted = Signal()
        arriving = Signal()
        ready = Signal()
        m.d.comb += [
            self.request.eq(wanted & self.active),
            self.row_ready.eq(~self.enable | ready),
            self.code.eq(held[:8]),
        ]
        m.d.sync += arriving.eq(self.request & self.grant)
        with m.If(self.begin | (self.written & self.enable)):
            m.d.sync += wanted.eq(self.enable)
        with m.Elif(self.request & self.grant):
            m.d.sync += wanted.eq(0)
        with m.If(arriving):
            m.d.sync += held.eq(self.word)
        with m.Elif(self.take):
            m.d.sync += held.eq(Cat(held[8:], Const(0, 8)))
        with m.If(self.begin | self.row_start):
            m.d.sync += ready.eq(0)
        with m.Elif(arriving):
            m.d.sync += ready.eq(1)
        return m
