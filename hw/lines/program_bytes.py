"""The host's view of the program memory: bytes from any address on, as a flash would give them."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.lines.program_memory import WORD_BITS


class ProgramBytes(wiring.Component):
    """Program words in, their bytes out in words of 16 bits, low byte first.

    Two cycles a word, and one more in which it stands at `o`. Backpressure: a program word stays at
    `i` until its last byte is taken, which waits for `o.ready`.

    Attributes
    ----------
    start : 1, in; offset : 3, in
        The first byte is byte `offset` of the first program word that comes after this cycle.
    i : stream of 64 bits, in; o : stream of 16 bits, out
    """

    start: Signal
    offset: Signal
    i: Any
    o: Any

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "offset": In(3),
                "i": In(stream.Signature(WORD_BITS)),
                "o": Out(stream.Signature(16)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        index = Signal(3)
        second = Signal()
        byte = self.i.payload.word_select(index, 8)
        with m.If(self.o.valid):
            m.d.sync += self.o.valid.eq(~self.o.ready)
        with m.Elif(self.i.valid):
            m.d.comb += self.i.ready.eq(index == 7)
            m.d.sync += [
                self.o.payload.eq(Cat(self.o.payload[8:], byte)),
                self.o.valid.eq(second),
                second.eq(~second),
                index.eq(index + 1),
            ]
        with m.If(self.start):
            m.d.sync += [self.o.valid.eq(0), second.eq(0), index.eq(self.offset)]
        return m
