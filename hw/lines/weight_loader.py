"""Weights of the program stream into the weight memory."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.program import WORD_BITS
from qcompile.hw.lines.unpacker import WeightsWord
from qcompile.hw.lines.weights import following


class WeightLoader(wiring.Component):
    """Puts words of the program together to words of the weight memory, low first.

    A word of the memory is written in the cycle after its last part; addresses go on as
    `LinesConfig.weight_address` counts them. No backpressure.

    Attributes
    ----------
    i : WeightsWord, in
    write : 1, out; address : out; word : 8V, out
        As `WeightMemory` takes them.
    """

    i: Any
    write: Signal
    address: Signal
    word: Signal

    def __init__(self, config: LinesConfig) -> None:
        self.config = config
        super().__init__(
            {
                "i": In(WeightsWord),
                "write": Out(1),
                "address": Out(config.weight_address_bits),
                "word": Out(config.word_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        parts = self.config.word_bits // WORD_BITS
        part = Signal(range(parts))
        ends = self.i.valid & (part == parts - 1)
        m.d.sync += self.write.eq(ends)
        with m.If(self.i.valid):
            m.d.sync += [
                part.eq(Mux(ends, 0, part + 1)),
                self.word.eq(Cat(self.word, self.i.word)[WORD_BITS:]),
            ]
        with m.If(self.i.valid & self.i.first):
            m.d.sync += self.address.eq(self.i.address)
        with m.Elif(self.write):
            m.d.sync += self.address.eq(following(self.config, self.address))
        return m
