"""AXI4-Stream into memory."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.axi.signatures import AXI_STREAM, word_access
from qcompile.hw.link_ports import MemoryShape
from qcompile.runtime.protocol import BEAT_BITS


class StreamSink(wiring.Component):
    """Packs beats, low first, into words and writes them one after the other.

    A complete word waits for memory while the next one's beats come: words of three beats and more
    are taken at one beat a cycle, those of one beat at one in three cycles. Packets have no
    meaning, but the beats of a word that is not complete at TLAST are dropped.
    Backpressure: TREADY is low when a last beat comes and the word before still waits for
    memory.

    Attributes
    ----------
    i : AXI_STREAM, in
    load : 1, in; load_address : address_bits, in
        The next word's address, which begins with the next beat; only while not `busy`.
    address : address_bits, out
        Where the next word goes: what is below has reached memory.
    busy : 1, out
        A word waits for memory.
    access : word_access(memory), out
    """

    i: Any
    load: Signal
    load_address: Signal
    address: Signal
    busy: Signal
    access: Any

    def __init__(self, memory: MemoryShape) -> None:
        self._beats = memory.beats
        super().__init__(
            {
                "i": In(AXI_STREAM),
                "load": In(1),
                "load_address": In(memory.address_bits),
                "address": Out(memory.address_bits),
                "busy": Out(1),
                "access": Out(word_access(memory)),
            }
        )
        self._before = Signal(memory.word_bits - BEAT_BITS, reset_less=True)
        """Beats of a word that have come."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        access = self.access
        index = Signal(range(self._beats))
        last = index == self._beats - 1
        word = Cat(self._before, self.i.tdata)
        m.d.comb += [
            self.i.tready.eq(~(self.busy & last)),
            access.valid.eq(self.busy),
            access.write.eq(1),
            access.address.eq(self.address),
        ]
        with m.If(access.done):
            m.d.sync += [self.busy.eq(0), self.address.eq(self.address + 1)]
        with m.If(self.i.tvalid & self.i.tready):
            m.d.sync += [self._before.eq(word[BEAT_BITS:]), index.eq(index + 1)]
            with m.If(last):
                m.d.sync += [self.busy.eq(1), access.data.eq(word)]
            with m.If(last | self.i.tlast):
                m.d.sync += index.eq(0)
        with m.If(self.load):
            m.d.sync += [self.address.eq(self.load_address), index.eq(0)]
        return m
