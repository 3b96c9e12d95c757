"""The cocotb side of `test_program_memory`: a reader with and without pauses, starts and stops."""

from __future__ import annotations

import os
import random
from typing import Any

import cocotb

from sim_tests.hw.clocked import dice, edge, settle, start_clock

DEPTH = 32
FILLED = 20
"""Words that are there from the start."""


def contents(seed: str) -> list[int]:
    """All words; the first `FILLED` of them are the memory's initial contents, one is zero."""
    words = random.Random(f"{seed} program")
    return [0 if index == 5 else words.getrandbits(64) for index in range(DEPTH)]


async def write_rest(dut: Any, words: list[int]) -> None:
    """The words that are not there from the start, through the write port."""
    dut.write.value = 1
    for address in range(FILLED, DEPTH):
        dut.write_address.value = address
        dut.write_word.value = words[address]
        await edge(dut)
    dut.write.value = 0


async def begin(dut: Any, address: int) -> None:
    """Starts at an address; returns in the cycle in which its word should stand at `o`."""
    dut.start.value = 1
    dut.start_address.value = address
    await edge(dut)
    dut.start.value = 0
    dut.start_address.value = DEPTH - 1 - address
    await settle()
    assert not dut.o__valid.value, "no word of before"
    await edge(dut)


async def take(dut: Any, rng: random.Random, chance: float, expected: list[int]) -> None:
    """Takes the expected words from this cycle on, one in every cycle in which it is ready."""
    while expected:
        dut.o__ready.value = int(rng.random() < chance)
        await settle()
        assert dut.o__valid.value, "a word in every cycle"
        found = int(dut.o__payload.value)
        assert found == expected[0], f"{found:016x}, not {expected[0]:016x}"
        if dut.o__ready.value:
            expected = expected[1:]
        await edge(dut)
    dut.o__ready.value = 0


@cocotb.test()
async def words_come_from_any_address_on_until_stopped(dut: Any) -> None:
    """Runs of random starts and lengths, around the end, cut off by the next start or by a stop."""
    rng = dice("reader")
    for name in ("start", "start_address", "stop", "o__ready", "write"):
        getattr(dut, name).value = 0
    start_clock(dut)
    dut.rst.value = 1
    await edge(dut)
    dut.rst.value = 0
    words = contents(os.environ["QCOMPILE_SEED"])
    await write_rest(dut, words)
    for run in range(60):
        start, count = rng.randrange(DEPTH), rng.randrange(2 * DEPTH)
        await begin(dut, start)
        expected = [words[(start + index) % DEPTH] for index in range(count)]
        await take(dut, rng, (1.0, 0.3)[run % 2], expected)
        if rng.randrange(2):
            dut.stop.value = 1
            await edge(dut)
            dut.stop.value = 0
            for _ in range(rng.randrange(4)):
                dut.o__ready.value = rng.randrange(2)
                await settle()
                assert not dut.o__valid.value, "no word after a stop"
                await edge(dut)
