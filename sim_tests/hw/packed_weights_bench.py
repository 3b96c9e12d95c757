"""The cocotb side of `test_packed_weights`: layers of packed and plain weights in any order.

Stream words and whole words come in, codebooks are written up to 16 layers ahead, and the reader
behaves as the feeder does; everything at random times.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import cocotb

from sim_tests.hw.clocked import dice, edge, read, reset, start_clock

DEPTH = 32
REUSABLE_HALVES = 2 * (DEPTH - 3)
"""Halves of a group that several tiles may use."""
LATENCY = 3
LAYERS = 40
AHEAD = 16
"""Layers that wait while an older one runs."""
NUMBERS = 32
LAYER_PAUSE = 3
"""Cycles between what a descriptor changes and the layer's first pass, at least."""
RECALL_PAUSE = 3
HANGS = 800


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer: `groups` are lists of weight words, each of four codes from `codes`.

    `whole`: its words come 32 bits at once, from the prefetch store.
    """

    number: int
    codes: list[int]
    packed: bool
    reads: int
    tiles: int
    groups: list[list[list[int]]]
    whole: bool

    def halves(self) -> list[int]:
        """Stream words, worked out a nibble or byte at a time."""
        out = []
        for word in (word for group in self.groups for word in group):
            if self.packed:
                out.append(sum(self.codes.index(code) << 4 * i for i, code in enumerate(word)))
            else:
                out += [word[0] | word[1] << 8, word[2] | word[3] << 8]
        return out


def make_layers(rng: random.Random) -> Iterator[Layer]:
    """Groups longer than the buffer where they are used once."""
    for index in range(LAYERS):
        packed = rng.random() < 0.6
        reads = rng.choice([4, 4, 6, 13])
        tiles = rng.choice([1, 1, 2, 5])
        halves = reads if packed else 2 * reads
        most = (REUSABLE_HALVES if tiles > 1 else 6 * DEPTH) // halves
        even = 2 if packed and reads % 2 else 1  # two passes of odd reads fill whole words
        passes = max(1, rng.randint(1, most // even)) * even
        codes = rng.sample(range(256), rng.choice([1, 2, 3, 15, 16]))
        groups = [
            [[rng.choice(codes) for _ in range(4)] for _ in range(passes * reads)]
            for _ in range(rng.randint(1, 3))
        ]
        yield Layer(
            number=index % NUMBERS,
            codes=codes,
            packed=packed,
            reads=reads,
            tiles=tiles,
            groups=groups,
            whole=rng.random() < 0.3,
        )


class Bench:
    """Writers and a reader; `layer` is the one that the reader is at, `known` how many codebooks
    are written."""

    def __init__(self, dut: Any, rng: random.Random, layers: list[Layer]) -> None:
        self.dut = dut
        self.rng = rng
        self.layers = layers
        self.layer = 0
        self.known = 0

    async def write_codebooks(self) -> None:
        """A code a cycle, as early as the descriptor FIFO lets the stream be."""
        dut = self.dut
        for index, layer in enumerate(self.layers):
            while index - self.layer > AHEAD or self.rng.random() < 0.7:
                await edge(dut)
            for place, code in enumerate(layer.codes if layer.packed else []):
                dut.write.value = 1
                dut.write_index.value = place
                dut.write_data.value = code | layer.number << 8
                await edge(dut)
            dut.write.value = 0
            self.known += 1

    async def write_weights(self, chance: float) -> None:
        """A half is offered until it is taken; a whole word comes where there is room."""
        for layer in self.layers:
            halves = layer.halves()
            if layer.whole:
                for low, high in zip(halves[::2], halves[1::2], strict=True):
                    await self.write_whole(low | high << 16)
            else:
                for half in halves:
                    await self.write_half(half, chance)

    async def write_half(self, half: int, chance: float) -> None:
        dut = self.dut
        while self.rng.random() >= chance:
            await edge(dut)
        dut.i__valid.value, dut.i__payload.value = 1, half
        taken = False
        while not taken:
            taken = bool(read(dut, "i__ready"))
            await edge(dut)
        dut.i__valid.value = 0

    async def write_whole(self, word: int) -> None:
        dut = self.dut
        for _ in range(RECALL_PAUSE):
            await edge(dut)
        while not read(dut, "room"):
            await edge(dut)
        dut.word.value, dut.word_valid.value = word, 1
        await edge(dut)
        dut.word_valid.value = 0

    async def take_all(self, chance: float) -> None:
        """Every tile of every group, and what comes out, at its cycle."""
        expected: deque[int | None] = deque([None] * LATENCY)
        for index, layer in enumerate(self.layers):
            self.layer = index
            await self.begin(index, expected)
            for group in layer.groups:
                for tile in range(layer.tiles):
                    self.dut.last_tile.value = tile == layer.tiles - 1
                    await self.take_tile(group, layer.reads, chance, expected)
        while any(due is not None for due in expected):
            await self.cycle(expected, None)

    async def begin(self, index: int, expected: deque[int | None]) -> None:
        """The layer's registers, once the last one's words are out and its codebook is known."""
        dut, layer = self.dut, self.layers[index]
        while self.known <= index or any(due is not None for due in expected):
            await self.cycle(expected, None)
        dut.pass_reads.value = layer.reads - 1
        dut.packed.value = layer.packed
        dut.codebook.value = layer.number
        for _ in range(LAYER_PAUSE):
            await self.cycle(expected, None)

    async def take_tile(
        self, words: list[list[int]], reads: int, chance: float, expected: deque[int | None]
    ) -> None:
        for position, word in enumerate(words):
            waited = 0
            while position % reads == 0 and not (
                read(self.dut, "enough") and self.rng.random() < chance
            ):
                await self.cycle(expected, None)
                waited += 1
                assert waited < HANGS, f"no pass starts in layer {self.layer} at word {position}"
            self.dut.tile_end.value = position == len(words) - 1
            value = int.from_bytes(bytes(word), "little")
            await self.cycle(expected, value)

    async def cycle(self, expected: deque[int | None], taken: int | None) -> None:
        """One cycle, in which a word is taken or not."""
        due = expected.popleft()
        if due is not None:
            found = read(self.dut, "o")
            assert found == due, f"layer {self.layer}: {found:08x}, not {due:08x}"
        expected.append(taken)
        self.dut.take.value = int(taken is not None)
        if taken is None:
            self.dut.tile_end.value = 0
        await edge(self.dut)


@cocotb.test()
async def every_layer_gets_its_codes(dut: Any) -> None:
    """With pauses of neither, either and both sides."""
    start_clock(dut)
    for writer, reader in product((1.0, 0.3), (1.0, 0.2)):
        rng = dice(writer, reader)
        names = ("i__valid", "i__payload", "word", "word_valid", "take", "tile_end", "last_tile")
        more = ("pass_reads", "packed", "codebook", "write", "write_index", "write_data")
        await reset(dut, **dict.fromkeys((*names, *more), 0))
        bench = Bench(dut, rng, list(make_layers(rng)))
        codebooks = cocotb.start_soon(bench.write_codebooks())
        weights = cocotb.start_soon(bench.write_weights(writer))
        await bench.take_all(reader)
        assert codebooks.done() and weights.done(), "words are left over"
