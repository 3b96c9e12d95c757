"""Memory into AXI4-Stream."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.axi.signatures import AXI_STREAM, word_access
from qcompile.hw.link_ports import MemoryShape
from qcompile.runtime.protocol import BEAT_BITS


class StreamSource(wiring.Component):
    """Sends words from an address on, their beats low first; TLAST stands with the last beat.

    The next word is read while one is sent. Where memory is free and answers after n cycles, words
    leave at one beat a cycle, or one in n + 2 cycles, whichever is slower. Backpressure: a
    beat stays until TREADY; reading waits for memory.

    Attributes
    ----------
    o : AXI_STREAM, out
    load : 1, in; load_address : address_bits, in
        The next packet's first word; only while not `busy`.
    start : 1, in; start_count : address_bits + 1, in
        So many words, none or more; only while not `busy`.
    address : address_bits, out; count : address_bits + 1, out
        Of the next word to read, and how many there are still to read.
    busy : 1, out
        From `start` to the last beat's end.
    access : word_access(memory), out
    """

    o: Any
    load: Signal
    load_address: Signal
    start: Signal
    start_count: Signal
    address: Signal
    count: Signal
    busy: Signal
    access: Any

    def __init__(self, memory: MemoryShape) -> None:
        self._memory = memory
        super().__init__(
            {
                "o": Out(AXI_STREAM),
                "load": In(1),
                "load_address": In(memory.address_bits),
                "start": In(1),
                "start_count": In(memory.address_bits + 1),
                "address": Out(memory.address_bits),
                "count": Out(memory.address_bits + 1),
                "busy": Out(1),
                "access": Out(word_access(memory)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        access, o = self.access, self.o
        beats = self._memory.beats
        index = Signal(range(beats))
        word = Signal(
            self._memory.word_bits, reset_less=True
        )  # the beats that are still to go, low first
        word_last = Signal()
        following = Signal(self._memory.word_bits, reset_less=True)
        following_valid = Signal()
        following_last = Signal()
        at_end = index == beats - 1
        moves = ~o.tvalid | (o.tready & at_end)
        m.d.comb += [
            access.valid.eq((self.count != 0) & (~following_valid | moves)),
            access.address.eq(self.address),
            o.tdata.eq(word[:BEAT_BITS]),
            o.tlast.eq(word_last & at_end),
            self.busy.eq((self.count != 0) | following_valid | o.tvalid),
        ]
        with m.If(o.tvalid & o.tready):
            m.d.sync += [word.eq(word >> BEAT_BITS), index.eq(index + 1)]
        with m.If(moves):
            m.d.sync += [
                o.tvalid.eq(following_valid),
                word.eq(following),
                word_last.eq(following_last),
                following_valid.eq(0),
                index.eq(0),
            ]
        with m.If(access.done):
            m.d.sync += [
                following.eq(access.read_data),
                following_valid.eq(1),
                following_last.eq(self.count == 1),
                self.address.eq(self.address + 1),
                self.count.eq(self.count - 1),
            ]
        with m.If(self.load):
            m.d.sync += self.address.eq(self.load_address)
        with m.If(self.start):
            m.d.sync += self.count.eq(self.start_count)
        return m
