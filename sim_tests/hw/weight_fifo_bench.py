"""The cocotb side of `test_weight_fifo`: a writer and a reader at random times, and a queue.

The reader behaves as the feeder does: it starts a pass only where `enough` is up, and then takes
the pass's words without a pause.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, Timer

DEPTH = 32
REUSABLE = DEPTH - 3
"""Words of a group that several tiles may use."""
LATENCY = 3
GROUPS = 40
LAYER_PAUSE = 3
"""Cycles without a pass after `pass_reads` has changed, which a new layer's descriptor does."""
HANGS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """One word that the reader takes."""

    word: int
    pass_start: bool
    pass_reads: int
    tile_end: bool
    last_tile: bool


def make_groups(rng: random.Random) -> Iterator[tuple[list[int], int, int]]:
    """Words of a group, reads of a pass, and tiles; longer than the buffer where used once."""
    for _ in range(GROUPS):
        reads = rng.choice([4, 4, 5, 7, 13])
        tiles = rng.choice([1, 1, 2, 5])
        passes = rng.randint(1, (REUSABLE if tiles > 1 else 3 * DEPTH) // reads)
        yield [rng.getrandbits(32) for _ in range(passes * reads)], reads, tiles


def takes_of(words: list[int], reads: int, tiles: int) -> Iterator[Take]:
    """What the reader takes of a group."""
    for tile in range(tiles):
        for index, word in enumerate(words):
            yield Take(
                word=word,
                pass_start=index % reads == 0,
                pass_reads=reads,
                tile_end=index == len(words) - 1,
                last_tile=tile == tiles - 1,
            )


async def write_halves(dut: Any, halves: list[int], rng: random.Random, chance: float) -> None:
    """Writes the stream, offering a half with some chance in each cycle until it is taken."""
    for half in halves:
        while rng.random() >= chance:
            dut.i__valid.value = 0
            await RisingEdge(dut.clk)
            await Timer(1, "ns")
        dut.i__valid.value = 1
        dut.i__payload.value = half
        taken = False
        while not taken:
            taken = bool(dut.i__ready.value)
            await RisingEdge(dut.clk)
            await Timer(1, "ns")
    dut.i__valid.value = 0


async def read_words(dut: Any, takes: list[Take], rng: random.Random, chance: float) -> None:
    """Takes all words and compares each at its cycle."""
    expected: deque[tuple[int, int] | None] = deque([None] * LATENCY)
    waited = position = settle = 0
    while position < len(takes) or any(item is not None for item in expected):
        due = expected.popleft()
        if due is not None:
            found = int(dut.o.value)
            assert found == due[1], f"word {due[0]}: {found:08x}, not {due[1]:08x}"
        expected.append(None)
        take = takes[position] if position < len(takes) else None
        settle = max(0, settle - 1)
        if take is not None:
            if int(dut.pass_reads.value) != take.pass_reads - 1:
                settle = LAYER_PAUSE
            dut.pass_reads.value = take.pass_reads - 1
            dut.last_tile.value = take.last_tile
        enough = bool(dut.enough.value) and not settle and rng.random() < chance
        if take is not None and (enough or not take.pass_start):
            dut.take.value = 1
            dut.tile_end.value = take.tile_end
            expected[-1] = (position, take.word)
            position += 1
            waited = 0
        else:
            dut.take.value = 0
            dut.tile_end.value = 0
            waited += 1
            assert waited < HANGS, f"no pass starts after word {position} of {len(takes)}"
        await RisingEdge(dut.clk)
        await Timer(1, "ns")


@cocotb.test()
async def words_come_back_in_order(dut: Any) -> None:
    """Every tile gets its group's words, with pauses of neither, either and both sides."""
    Clock(dut.clk, 10, "ns").start()
    for writer, reader in product((1.0, 0.3), (1.0, 0.2)):
        await run(dut, writer, reader)


async def run(dut: Any, writer: float, reader: float) -> None:
    """All groups once, from a reset on."""
    rng = random.Random(f"{os.environ['QCOMPILE_SEED']} {writer} {reader}")
    groups = list(make_groups(rng))
    halves = [
        part for words, _, _ in groups for word in words for part in (word & 0xFFFF, word >> 16)
    ]
    takes = [take for group in groups for take in takes_of(*group)]
    for name in ("i__valid", "i__payload", "take", "tile_end", "last_tile", "pass_reads"):
        getattr(dut, name).value = 0
    dut.rst.value = 1
    for _ in range(2):
        await RisingEdge(dut.clk)
    await Timer(1, "ns")
    dut.rst.value = 0
    source = cocotb.start_soon(write_halves(dut, halves, rng, writer))
    await read_words(dut, takes, rng, reader)
    assert source.done(), "words are left over"
