"""Memory behind one register: beats written to it or read from it, word after word."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.axi.signatures import word_access
from qcompile.hw.link_ports import MemoryShape
from qcompile.runtime.protocol import BEAT_BITS


class MemoryWindow(wiring.Component):
    """A word's beats, low first, in the order in which they are written or read.

    A write's last beat makes the word go to memory, a read's first beat fetches it; these take as
    long as memory does, the other beats are done at once. The address steps with each word. `load`
    begins a word anew; between two loads the direction changes only between words.
    Backpressure: `done` comes when memory is done.

    Attributes
    ----------
    request, write : 1, in; data : BEAT_BITS, in
        A beat to write, or one to read; stay until `done`.
    done : 1, out; read_data : BEAT_BITS, out
        `done` is 1 for one cycle, in which a read's beat stands at `read_data`.
    load : 1, in; load_address : address_bits, in
        The next word's address; never during a request.
    address : address_bits, out
        Of the word that the next beat belongs to, where that is its first.
    access : word_access(memory), out
    """

    request: Signal
    write: Signal
    data: Signal
    done: Signal
    read_data: Signal
    load: Signal
    load_address: Signal
    address: Signal
    access: Any

    def __init__(self, memory: MemoryShape) -> None:
        self._beats = memory.beats
        super().__init__(
            {
                "request": In(1),
                "write": In(1),
                "data": In(BEAT_BITS),
                "done": Out(1),
                "read_data": Out(BEAT_BITS),
                "load": In(1),
                "load_address": In(memory.address_bits),
                "address": Out(memory.address_bits),
                "access": Out(word_access(memory)),
            }
        )
        self._others = Signal(memory.word_bits - BEAT_BITS, reset_less=True)
        """Beats that have come before a write's last, or are still to go after a read's first."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        access, others = self.access, self._others
        index = Signal(range(self._beats))
        first, last = index == 0, index == self._beats - 1
        word = Cat(others, self.data)
        touches = Signal()  # this beat goes to memory, or fetches from it
        with m.If(self.write):
            m.d.comb += touches.eq(last)
        with m.Else():
            m.d.comb += touches.eq(first)
        m.d.comb += [
            access.valid.eq(self.request & touches),
            access.write.eq(self.write),
            access.address.eq(self.address),
            access.data.eq(word),
            self.done.eq(self.request & (access.done | ~touches)),
            self.read_data.eq(others[:BEAT_BITS]),
        ]
        with m.If(touches):
            m.d.comb += self.read_data.eq(access.read_data[:BEAT_BITS])
        with m.If(self.done):
            m.d.sync += index.eq(index + 1)
            m.d.sync += others.eq(word[BEAT_BITS:])
            with m.If(touches & ~self.write):
                m.d.sync += others.eq(access.read_data[BEAT_BITS:])
            with m.If(last):
                m.d.sync += index.eq(0)
            with m.If(touches):
                m.d.sync += self.address.eq(self.address + 1)
        with m.If(self.load):
            m.d.sync += [self.address.eq(self.load_address), index.eq(0)]
        return m
