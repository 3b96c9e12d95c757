"""Expands packed weight words at the array's edge: four 4-bit indices to four codes."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.program import CODEBOOK_BITS, CODEBOOK_LEVELS, CODEBOOKS, INDEX_BITS

COLUMNS = 4


class CodebookExpander(wiring.Component):
    """32 codebooks of 16 codes in a block RAM for each column; LATENCY from indices to codes is 1.

    Plain words pass in the same cycle. A codebook is written a code a cycle, `write_index` 0 first;
    its contents are undefined until then. Nothing waits: the descriptor FIFO is shorter than there
    are codebooks, so the stream is never so far ahead that it writes one that a layer still uses.

    Attributes
    ----------
    LATENCY : int
    indices : 16, in
        Index of column c in bits 4c..4c+3.
    codebook : 5, in
        Which one they are looked up in.
    word : 32, in
        Four codes, byte c for column c.
    packed : 1, in
        `o` is of the indices one cycle before, otherwise `word`. Constant while a layer runs.
    o : 32, out
    write : 1, in; write_index : 4, in
    write_data : 16, in
        The code in the low byte, the codebook's number above it.
    """

    LATENCY = 1

    indices: Signal
    codebook: Signal
    word: Signal
    packed: Signal
    o: Signal
    write: Signal
    write_index: Signal
    write_data: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "indices": In(INDEX_BITS * COLUMNS),
                "codebook": In(CODEBOOK_BITS),
                "word": In(8 * COLUMNS),
                "packed": In(1),
                "o": Out(8 * COLUMNS),
                "write": In(1),
                "write_index": In(INDEX_BITS),
                "write_data": In(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        number = self.write_data[8 : 8 + CODEBOOK_BITS]
        for column in range(COLUMNS):
            ram: memory.Memory = memory.Memory(shape=8, depth=CODEBOOKS * CODEBOOK_LEVELS, init=[])
            m.submodules[f"codes_{column}"] = ram
            writer, reader = ram.write_port(), ram.read_port()
            index = self.indices.word_select(column, INDEX_BITS)
            m.d.comb += [
                writer.addr.eq(Cat(self.write_index, number)),
                writer.data.eq(self.write_data[:8]),
                writer.en.eq(self.write),
                reader.addr.eq(Cat(index, self.codebook)),
                reader.en.eq(1),
                self.o.word_select(column, 8).eq(
                    Mux(self.packed, reader.data, self.word.word_select(column, 8))
                ),
            ]
        return m
