"""The program of the array of lines in block RAM: a stream of 64-bit words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

WORD_BITS = 64
"""Of a program word."""


class ProgramMemory(wiring.Component):
    """Program words that are read one after another, one a cycle.

    `start` makes `o` begin at an address: its word is valid two cycles later. `stop` ends the
    stream in the next cycle. Both drop the word that stands at `o`: a reader is reset beside.
    Behind the last word comes the first where `depth` is a power of two, otherwise an undefined
    one. Backpressure: the stream waits with its word for `o.ready`. A word written in cycle t is
    read from cycle t + 1 on; write while stopped, for the stream reads ahead.

    Parameters
    ----------
    depth : int
        Words.
    init : up to `depth` words
        The first words' contents; without, all are undefined until written.

    Attributes
    ----------
    start : 1, in; start_address : in
    stop : 1, in
    o : stream of 64 bits, out
    write : 1, in; write_address : in; write_word : 64, in
    """

    start: Signal
    start_address: Signal
    stop: Signal
    o: Any
    write: Signal
    write_address: Signal
    write_word: Signal

    def __init__(self, depth: int, *, init: Sequence[int] = ()) -> None:
        if depth < 2:
            raise ValueError(f"depth must be 2 or more, not {depth}")
        if len(init) > depth:
            raise ValueError(f"the program memory has {depth} words, not {len(init)}")
        self.depth = depth
        self.init = init
        bits = (depth - 1).bit_length()
        super().__init__(
            {
                "start": In(1),
                "start_address": In(bits),
                "stop": In(1),
                "o": Out(stream.Signature(WORD_BITS)),
                "write": In(1),
                "write_address": In(bits),
                "write_word": In(WORD_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ram: memory.Memory = memory.Memory(shape=WORD_BITS, depth=self.depth, init=self.init)
        m.submodules.ram = ram
        writer, reader = ram.write_port(), ram.read_port()
        address = Signal.like(self.start_address, reset_less=True)
        running = Signal()
        # The block RAM's output is the stream's word: it is read again where it is free.
        free = ~self.o.valid | self.o.ready
        m.d.comb += [
            reader.addr.eq(address),
            reader.en.eq(free),
            self.o.payload.eq(reader.data),
            writer.en.eq(self.write),
            writer.addr.eq(self.write_address),
            writer.data.eq(self.write_word),
        ]
        with m.If(free):
            m.d.sync += self.o.valid.eq(running)
            with m.If(running):
                m.d.sync += address.eq(address + 1)
        with m.If(self.start | self.stop):
            m.d.sync += [running.eq(self.start), self.o.valid.eq(0)]
        with m.If(self.start):
            m.d.sync += address.eq(self.start_address)
        return m
