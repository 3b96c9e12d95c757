"""Wide memory words for a link that moves 32 bits at a time."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from qcompile.hw.link_ports import MemoryShape, host_ports
from qcompile.runtime.protocol import BEAT_BITS


class BeatWindow(wiring.Component):
    """Beats of consecutive words, low first, at a host port of 32 bits; words at one of any width.

    The first beat after `clear` names the first word's address; what the link counts behind it is
    ignored. A written word goes to memory behind its last beat, with zeros in the beats that
    `partial` leaves out; the first beat of a word that is read fetches it. Words of which not all
    beats come are dropped. Backpressure: `beats.host_ready` waits while a written word waits for
    memory.

    Attributes
    ----------
    clear : 1, in
        Begin anew; while no beat is under way.
    partial : 2, in
        So many beats make a written word; 0: all.
    beats : `link_ports.host_ports` of 32-bit words, in
    others : `link_ports.host_ports`, out
    """

    clear: Signal
    partial: Signal
    beats: Any
    host_valid: Signal
    host_ready: Signal
    host_write: Signal
    host_address: Signal
    host_write_data: Signal
    host_data: Signal
    host_data_valid: Signal

    def __init__(self, memory: MemoryShape) -> None:
        if memory.beats < 2 or memory.beats & (memory.beats - 1):
            raise ValueError(
                f"a memory word must have a power of two of beats, 2 or more, not {memory.beats}"
            )
        self._last = memory.beats - 1
        link = MemoryShape(word_bits=BEAT_BITS, address_bits=memory.address_bits)
        super().__init__(
            {
                "clear": In(1),
                "partial": In(2),
                "beats": In(wiring.Signature(host_ports(link))),
                **host_ports(memory),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beats = self.beats
        word = self.host_write_data
        index = Signal(range(self._last + 1))
        address_comes = Signal()
        last_written = Mux(self.partial == 0, self._last, self.partial - 1)
        m.d.comb += beats.host_data.eq(word[:BEAT_BITS])
        with m.FSM():
            with m.State("BEAT"):
                m.d.comb += beats.host_ready.eq(1)
                with m.If(beats.host_valid):
                    m.d.sync += address_comes.eq(0)
                    with m.If(address_comes):
                        m.d.sync += self.host_address.eq(beats.host_address)
                with m.If(beats.host_valid & beats.host_write):
                    m.d.sync += word.word_select(index, BEAT_BITS).eq(beats.host_write_data)
                    m.d.sync += index.eq(index + 1)
                    with m.If(index == last_written):
                        m.next = "STORE"
                with m.Elif(beats.host_valid):
                    m.next = "GIVE"
                    with m.If(index == 0):
                        m.next = "FETCH"
            with m.State("STORE"):
                m.d.comb += [self.host_valid.eq(1), self.host_write.eq(1)]
                with m.If(self.host_ready):
                    m.d.sync += self.host_address.eq(self.host_address + 1)
                    m.d.sync += [word.eq(0), index.eq(0)]
                    m.next = "BEAT"
            with m.State("FETCH"):
                m.d.comb += self.host_valid.eq(1)
                with m.If(self.host_ready):
                    m.d.sync += self.host_address.eq(self.host_address + 1)
                    m.next = "FETCHED"
            with m.State("FETCHED"), m.If(self.host_data_valid):
                m.d.sync += word.eq(self.host_data)
                m.next = "GIVE"
            with m.State("GIVE"):
                m.d.comb += beats.host_data_valid.eq(1)
                m.d.sync += [word.eq(word >> BEAT_BITS), index.eq(index + 1)]
                m.next = "BEAT"
        with m.If(self.clear):
            m.d.sync += [index.eq(0), word.eq(0), address_comes.eq(1)]
        return m
