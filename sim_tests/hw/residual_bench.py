"""The cocotb side of `test_residual`: rows that wait for their word, and rows that do not."""

from __future__ import annotations

from random import Random
from typing import Any

import cocotb

from sim_tests.hw.clocked import dice, edge, port, read, reset, settle, start_clock

ROWS = 60
CHANNELS = 4
HANGS = 400


class Bench:
    """A memory that grants with some chance and answers a cycle later."""

    def __init__(self, dut: Any, rng: Random, grant: float) -> None:
        self.dut = dut
        self.rng = rng
        self.grant = grant
        self.words: list[int] = []
        """What the memory has answered."""

    async def cycle(self) -> None:
        """One cycle."""
        dut = self.dut
        dut.grant.value = int(self.rng.random() < self.grant)
        await settle()
        granted = bool(read(dut, "request")) and bool(read(dut, "grant"))
        await edge(dut)
        word = self.rng.getrandbits(32)
        dut.word.value = word
        if granted:
            self.words.append(word)

    async def pulse(self, name: str) -> None:
        """One cycle with an input up."""
        port(self.dut, name).value = 1
        await self.cycle()
        port(self.dut, name).value = 0

    async def row(self, number: int) -> None:
        """Wait for the row's word, let the row go, take its bytes, have it written."""
        dut = self.dut
        for _ in range(HANGS):
            await settle()
            if read(dut, "row_ready"):
                break
            await self.cycle()
        else:
            raise AssertionError(f"row {number} never gets its word")
        assert len(self.words) == number + 1, "one word a row"
        await self.pulse("row_start")
        await settle()
        assert not read(dut, "row_ready"), "the next row needs a word of its own"
        codes = []
        for _ in range(CHANNELS):
            for _ in range(self.rng.randrange(3)):
                await self.cycle()
            await settle()
            codes.append(read(dut, "code"))
            await self.pulse("take")
        assert bytes(codes) == self.words[number].to_bytes(4, "little")
        for _ in range(self.rng.randrange(4)):
            await self.cycle()
        assert len(self.words) == number + 1, "a word was fetched before its address was known"
        dut.active.value = int(number < ROWS - 1)
        await self.pulse("written")


@cocotb.test()
async def rows_get_their_words(dut: Any) -> None:
    """Layers with a residual operand; the memory at once or late."""
    start_clock(dut)
    inputs = ("enable", "begin", "active", "row_start", "written", "grant", "word", "take")
    for grant in (1.0, 0.2):
        rng = dice(grant)
        await reset(dut, **dict.fromkeys(inputs, 0))
        dut.enable.value = 1
        dut.active.value = 1
        bench = Bench(dut, rng, grant)
        await bench.pulse("begin")
        for number in range(ROWS):
            await bench.row(number)
        for _ in range(20):
            await bench.cycle()
        assert len(bench.words) == ROWS, "a word was fetched behind the last row"


@cocotb.test()
async def rows_without_an_operand_never_wait(dut: Any) -> None:
    """Nothing is requested then."""
    start_clock(dut)
    inputs = ("enable", "begin", "active", "row_start", "written", "grant", "word", "take")
    await reset(dut, **dict.fromkeys(inputs, 0))
    bench = Bench(dut, dice("off"), 1.0)
    dut.active.value = 1
    for name in ("begin", "row_start", "written", "row_start", "written"):
        await bench.pulse(name)
        await settle()
        assert read(dut, "row_ready")
    assert not bench.words
