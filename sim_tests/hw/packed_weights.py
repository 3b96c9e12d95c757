"""The weight FIFO and the codebooks behind it, connected as the accelerator connects them."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.codebook import CodebookExpander
from qcompile.hw.program import CODEBOOK_BITS, COUNT_BITS, INDEX_BITS
from qcompile.hw.weight_fifo import WeightFifo


class PackedWeights(wiring.Component):  # type: ignore[type-arg]  # not a generic class at run time
    """Ports of both, but for what runs between them."""

    i: Any
    word: Signal
    word_valid: Signal
    room: Signal
    take: Signal
    tile_end: Signal
    last_tile: Signal
    pass_reads: Signal
    enough: Signal
    packed: Signal
    codebook: Signal
    write: Signal
    write_index: Signal
    write_data: Signal
    o: Signal

    def __init__(self, depth: int) -> None:
        self.depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(16)),
                "word": In(32),
                "word_valid": In(1),
                "room": Out(1),
                "take": In(1),
                "tile_end": In(1),
                "last_tile": In(1),
                "pass_reads": In(COUNT_BITS[0]),
                "enough": Out(1),
                "packed": In(1),
                "codebook": In(CODEBOOK_BITS),
                "write": In(1),
                "write_index": In(INDEX_BITS),
                "write_data": In(16),
                "o": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.fifo = fifo = WeightFifo(self.depth, packed=True)
        m.submodules.expander = expander = CodebookExpander()
        wiring.connect(m, wiring.flipped(self.i), fifo.i)
        m.d.comb += [
            *(
                getattr(fifo, name).eq(getattr(self, name))
                for name in ("word", "word_valid", "take", "tile_end", "last_tile", "pass_reads")
            ),
            *(
                getattr(expander, name).eq(getattr(self, name))
                for name in ("codebook", "write", "write_index", "write_data")
            ),
            fifo.packed.eq(self.packed),
            expander.packed.eq(self.packed),
            expander.indices.eq(fifo.indices),
            expander.word.eq(fifo.o),
            self.room.eq(fifo.room),
            self.enough.eq(fifo.enough),
            self.o.eq(expander.o),
        ]
        return m
