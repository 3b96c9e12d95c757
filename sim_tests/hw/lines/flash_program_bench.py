"""The cocotb side of `test_flash_program`: words and the very cycles in which they come."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import cocotb
import numpy as np

from qcompile.compiler.lines.flash_pace import FlashPace
from qcompile.hw.lines.flash_program import FlashTiming
from sim_tests.hw.clocked import dice, edge, reset, settle, start_clock

BASE = 0x400000
"""Byte address of the contents."""
CLOCK_HZ = 80_000_000
INPUTS = ("start", "start_address", "stop", "o__ready")


class Bench:
    """The component with a flash behind its pins."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.rng = dice("reader")
        contents = np.fromfile(Path(os.environ["FLASH_CONTENTS"]), "<u8")
        self.words: list[int] = contents.tolist()
        self.timing = FlashTiming(
            clock_hz=CLOCK_HZ,
            divider=int(os.environ["FLASH_DIVIDER"]),
            lines=int(os.environ["FLASH_LINES"]),
        )

    async def begin(self, *, awake: bool = True) -> None:
        """Clock, reset, and the flash awake, the reader at rest behind its last command."""
        start_clock(self.dut)
        await reset(self.dut, **dict.fromkeys(INPUTS, 0))
        while awake and not int(self.dut.ready.value):
            await edge(self.dut)
        await wait(self.dut, random.Random(1), 1, least=200 * self.timing.divider * awake)

    async def start(self, first: int) -> None:
        """A pulse for word `first`; returns in the cycle after it."""
        self.dut.start.value = 1
        self.dut.start_address.value = BASE // 8 + first
        await edge(self.dut)
        self.dut.start.value = 0
        self.dut.start_address.value = self.rng.getrandbits(21)

    async def take(self, first: int, count: int, pauses: list[int]) -> list[tuple[int, int]]:
        """Words in order; each is refused for some cycles. When each came and was taken."""
        cycle, times = 1, []
        for number in range(count):
            await settle()
            while not int(self.dut.o__valid.value):
                self.dut.o__ready.value = self.rng.randrange(2)
                await edge(self.dut)
                await settle()
                cycle += 1
                assert cycle < 100_000, "no word comes"
            came = cycle
            self.dut.o__ready.value = 0
            for _ in range(pauses[number % len(pauses)]):
                await edge(self.dut)
                await settle()
                cycle += 1
                assert int(self.dut.o__valid.value), "a word stands until it is taken"
            found = int(self.dut.o__payload.value)
            assert found == self.words[first + number], f"word {number}: {found:016x}"
            self.dut.o__ready.value = 1
            times.append((came, cycle))
            await edge(self.dut)
            cycle += 1
        self.dut.o__ready.value = 0
        return times

    def check(self, times: list[tuple[int, int]]) -> None:
        """Words come when the compiler says; the flash has nothing to complain of."""
        pace = FlashPace(self.timing)
        for number, (came, taken) in enumerate(times):
            expected = pace.comes()
            assert came == expected, f"word {number} came in cycle {came}, not {expected}"
            pace.taken(taken)
        assert not int(self.dut.violated.value), "the flash reports a violation, see the log"


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def keeps_full_rate(dut: Any) -> None:
    """The first word and the distance of the others are what `FlashTiming` says."""
    bench = Bench(dut)
    await bench.begin()
    for first in (0, 7):
        await bench.start(first)
        times = await bench.take(first, 40, [0])
        came = [cycle for cycle, _ in times]
        assert came[0] == bench.timing.first_word_cycles, came[0]
        assert set(np.diff(came).tolist()) == {bench.timing.word_cycles}
        bench.check(times)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def comes_when_the_compiler_says(dut: Any) -> None:
    """Pauses of every length, shorter and longer than a word's time."""
    bench = Bench(dut)
    await bench.begin()
    longest = 2 * bench.timing.word_cycles
    for chance in (0.2, 0.6, 1.0):
        pauses = [
            bench.rng.randrange(longest) if bench.rng.random() < chance else 0 for _ in range(50)
        ]
        first = bench.rng.randrange(len(bench.words) - 50)
        await bench.start(first)
        bench.check(await bench.take(first, 50, pauses))


@cocotb.test(timeout_time=40, timeout_unit="ms")
async def restarts(dut: Any) -> None:
    """Starts and stops in any cycle, the first ones before the flash is awake."""
    bench = Bench(dut)
    await bench.begin(awake=False)
    for _ in range(80):
        for _ in range(bench.rng.randrange(3)):
            await bench.start(bench.rng.randrange(len(bench.words)))
            await wait(dut, bench.rng, 2 * bench.timing.word_cycles)
        if bench.rng.random() < 0.5:
            dut.stop.value = 1
            await edge(dut)
            dut.stop.value = 0
            for _ in range(bench.rng.randrange(200)):
                dut.o__ready.value = bench.rng.randrange(2)
                await settle()
                assert not int(dut.o__valid.value), "no word after a stop"
                await edge(dut)
        first = bench.rng.randrange(len(bench.words) - 3)
        await bench.start(first)
        await bench.take(first, 3, [bench.rng.randrange(30) for _ in range(3)])
    bench.check([])


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def reports_silence(dut: Any) -> None:
    bench = Bench(dut)
    await bench.begin(awake=False)
    await wait(dut, random.Random(1), 1, least=10_000)
    assert int(dut.error.value) and not int(dut.ready.value)


async def wait(dut: Any, rng: random.Random, longest: int, *, least: int = 0) -> None:
    """Some cycles."""
    for _ in range(least + rng.randrange(longest)):
        await edge(dut)
