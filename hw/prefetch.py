"""The prefetch store: weight words kept in activation memory until their layer wants them."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.layouts import ADDRESS_BITS
from qcompile.hw.program import RECALL_BITS

RECALL_CYCLES = 3
"""Between two recalled words, while the weight FIFO has room and nobody else wants the memory."""


class Prefetch(wiring.Component):
    """Writes the payload of STORE packets to memory, and sends words from there to the weight FIFO.

    A store takes the program's words as they come, so what the flash delivers while the weight FIFO
    is full is not lost. A recall runs beside the stream: the unpacker goes on, and only weights
    and another recall wait for its end. Neither knows what lies where; the compiler does.

    Backpressure: `store` waits behind every second word until the memory has it, `recall` for the
    recall before; a recalled word is asked for only when the FIFO has room for it. The memory has
    priorities of its own: `request` stays up until `grant`.

    Attributes
    ----------
    index : 12, in
        Index of the payload word at `store` or `recall`.
    store : stream of 16 bits, in
        First address, then words, low half first.
    recall : stream of 16 bits, in
        First address, then the number of words minus one.
    request, write : 1, out; address : 15, out; data : 32, out; grant : 1, in
    word : 32, in
        What was read, in the cycle after its grant.
    room : 1, in
        The weight FIFO takes a word; not looked at in the two cycles after a grant.
    o : 32, out; o_valid : 1, out
        A recalled word.
    pending : 1, out
        Words of a recall are still to come: weights of the stream must wait.
    """

    index: Signal
    store: Any
    recall: Any
    request: Signal
    write: Signal
    address: Signal
    data: Signal
    grant: Signal
    word: Signal
    room: Signal
    o: Signal
    o_valid: Signal
    pending: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "index": In(12),
                "store": In(stream.Signature(16)),
                "recall": In(stream.Signature(16)),
                "request": Out(1),
                "write": Out(1),
                "address": Out(ADDRESS_BITS),
                "data": Out(32),
                "grant": In(1),
                "word": In(32),
                "room": In(1),
                "o": Out(32),
                "o_valid": Out(1),
                "pending": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        store_address = Signal(ADDRESS_BITS, reset_less=True)
        storing = self._store(m, store_address)
        recall_address = Signal(ADDRESS_BITS, reset_less=True)
        reading = self._recall(m, recall_address, storing)
        m.d.comb += [
            self.request.eq(storing | reading),
            self.write.eq(storing),
            self.address.eq(Mux(storing, store_address, recall_address)),
            self.o.eq(self.word),
        ]
        return m

    def _store(self, m: Module, address: Signal) -> Signal:
        """Both halves into a register, from there to the memory. Returns the request."""
        storing = Signal()
        word = Signal(32, reset_less=True)
        m.d.comb += [self.store.ready.eq(~storing), self.data.eq(word)]
        with m.If(self.store.valid & self.store.ready):
            with m.If(self.index == 0):
                m.d.sync += address.eq(self.store.payload)
            with m.Else():
                m.d.sync += [
                    word.eq(Cat(word[16:], self.store.payload)),
                    storing.eq(~self.index[0]),
                ]
        with m.If(storing & self.grant):
            m.d.sync += [storing.eq(0), address.eq(address + 1)]
        return storing

    def _recall(self, m: Module, address: Signal, storing: Signal) -> Signal:
        """A read every third cycle at most. Returns the request, which gives way to a store."""
        busy = Signal()
        left = Signal(RECALL_BITS, reset_less=True)
        pause = Signal(2)
        reading = Signal()
        granted = reading & ~storing & self.grant
        m.d.comb += [
            self.recall.ready.eq(~busy),
            self.pending.eq(busy | self.o_valid),
            reading.eq(busy & self.room & (pause == 0)),
        ]
        m.d.sync += [self.o_valid.eq(granted), pause.eq(Cat(granted, pause[0]))]
        with m.If(self.recall.valid & self.recall.ready):
            with m.If(self.index == 0):
                m.d.sync += address.eq(self.recall.payload)
            with m.Else():
                m.d.sync += [left.eq(self.recall.payload), busy.eq(1)]
        with m.Elif(granted):
            m.d.sync += [address.eq(address + 1), left.eq(left - 1), busy.eq(left != 0)]
        return reading
