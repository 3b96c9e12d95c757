"""The weight FIFO: a circular buffer that replays a channel group's words for every tile."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.program import COUNT_BITS

BLOCK_WORDS = 4
"""Words that are released together."""


class WeightFifo(wiring.Component):
    """Weight words of 32 bits in block RAM, written as 16-bit halves in stream order.

    The reader takes one word with each `take`; with `tile_end` it goes back to the group's first
    word, unless the tile is the group's last (`last_tile`): its words are released as they are
    taken. A taken word stands at `o` three cycles later, in the cycle after the array's tags for
    it. Whole words come from the prefetch store instead, never while halves of one come.
    Backpressure: `i.ready` and `room` are low while the buffer is full; a reader looks at `enough`.
    A group used by several tiles may have `depth - BLOCK_WORDS + 1` words.

    A *packed* word is a half: four indices of a codebook. Writing does not know it. Groups have
    an even number of them, so plain words stay whole and twice as many fit.

    Parameters
    ----------
    depth : int
        Words, a power of two.
    packed : bool
        Packed words can be read.

    Attributes
    ----------
    i : stream of 16 bits, in
    word : 32, in; word_valid : 1, in; room : 1, out
        A whole word, only where `room` was up since the last word's second cycle.
    take, tile_end, last_tile : 1, in
    pass_reads : 6, in
        Words of a pass, minus one.
    enough : 1, out
        The words of a whole pass are in the buffer.
    o : 32, out
    packed : 1, in; indices : 16, out
        Words are packed: changes between layers, two cycles or more before `enough` counts. A taken
        word stands at `indices` two cycles later, not at `o`. Ports of a FIFO that is built so.
    """

    i: Any
    word: Signal
    word_valid: Signal
    room: Signal
    take: Signal
    tile_end: Signal
    last_tile: Signal
    pass_reads: Signal
    enough: Signal
    o: Signal
    packed: Signal
    indices: Signal

    def __init__(self, depth: int, *, packed: bool = False) -> None:
        self.depth = depth
        self._halves = int(packed)  # bits of a read pointer that tell halves apart, its lowest
        super().__init__(
            {
                **({"packed": In(1), "indices": Out(16)} if packed else {}),
                "i": In(stream.Signature(16)),
                "word": In(32),
                "word_valid": In(1),
                "room": Out(1),
                "take": In(1),
                "tile_end": In(1),
                "last_tile": In(1),
                "pass_reads": In(COUNT_BITS[0]),
                "enough": Out(1),
                "o": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = (self.depth - 1).bit_length()
        write = Signal(bits + 2)  # lowest bit: half of the word
        read = Signal(bits + 1 + self._halves)
        base = Signal(bits + 1 + self._halves)
        written = write[1:]
        kept = base[self._halves :]

        # A released word is read up to two cycles later, so room is counted in blocks of four:
        # the block that holds `base` is written again when `base` has left it.
        full = (written[2:bits] == kept[2:bits]) & (written[bits] != kept[bits])
        # A register, so low in the cycle after a word: the stream has one in four cycles.
        transfer = self.i.valid & self.i.ready
        m.d.sync += [
            self.i.ready.eq(~full & ~transfer & ~self.word_valid),
            self.room.eq(~full),
        ]
        self._memory(m, write, read, transfer)
        with m.If(transfer | self.word_valid):
            m.d.sync += write.eq(write + Mux(self.word_valid, 2, 1))

        # `enough` is for the next cycle and one cycle behind with `ahead`: after an uninterrupted
        # pass two takes are missing in it. A replayed group is complete.
        ahead = Signal(bits + 1 + self._halves)
        took = Signal()
        replay = self.tile_end & ~self.last_tile
        m.d.sync += [
            ahead.eq(self._between(m, write, read)),
            took.eq(self.take),
            self.enough.eq(
                (self.take & replay) | (ahead > self.pass_reads + Cat(Const(0, 1), took))
            ),
        ]
        with m.If(self.take):
            after = Signal.like(read, name="after")
            m.d.comb += after.eq(read + (Mux(self.packed, 1, 2) if self._halves else 1))
            m.d.sync += read.eq(Mux(replay, base, after))
            with m.If(self.last_tile):
                m.d.sync += base.eq(after)
        return m

    def _between(self, m: Module, write: Signal, read: Signal) -> Any:
        """Words that are there, packed ones where they are packed."""
        if not self._halves:
            return write[1:] - read
        halves = Signal.like(write)
        m.d.comb += halves.eq(write - read)
        return Mux(self.packed, halves, halves[1:])

    def _memory(self, m: Module, write: Signal, read: Signal, transfer: Value) -> None:
        """Cycle 1 and 2: the address travels to where the word meets the array's tags.

        A packed word is read one cycle earlier, for it is looked up in the codebook then.
        """
        bits = len(write) - 2
        address_1 = Signal(bits + self._halves, reset_less=True)
        address_2 = Signal(bits + self._halves, reset_less=True)
        m.d.sync += [address_1.eq(read[:-1]), address_2.eq(address_1)]
        address = Mux(self.packed, address_1, address_2)[1:] if self._halves else address_2
        for half in range(2):
            ram: memory.Memory = memory.Memory(shape=16, depth=self.depth, init=[])
            m.submodules[f"ram{half}"] = ram
            writer = ram.write_port()
            reader = ram.read_port()
            m.d.comb += [
                writer.addr.eq(write[1:-1]),
                writer.data.eq(
                    Mux(
                        self.word_valid,
                        self.word[16 * half : 16 * half + 16],
                        self.i.payload,
                    )
                ),
                writer.en.eq(self.word_valid | (transfer & (write[0] == half))),
                reader.en.eq(1),
                reader.addr.eq(address),
                self.o[16 * half : 16 * half + 16].eq(reader.data),
            ]
        if self._halves:
            m.d.comb += self.indices.eq(Mux(address_2[0], self.o[16:], self.o[:16]))
