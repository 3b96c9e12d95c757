"""The cocotb side of test_flash_reader.py."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge, Timer

BASE = 0x100000
WAKE_CYCLES = 1_500
LINES = int(os.environ["FLASH_LINES"])
WORD_CYCLES = 16 // LINES
FIRST_WORD_CYCLES = 46 + WORD_CYCLES


class Bench:
    """Drives the bench at falling edges of the clock and reads it there."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.random = random.Random(int(os.environ["SEED"]))
        contents = np.fromfile(Path(os.environ["FLASH_CONTENTS"]), np.uint8)
        self.contents = contents
        Clock(dut.clk, 40, "ns").start()

    async def cycle(self) -> None:
        """To the next cycle's second half."""
        await FallingEdge(self.dut.clk)

    async def reset(self, *, wait: bool = True) -> None:
        """Clocks that rise 10 ns after each other, reset, and the wait for the flash."""
        cocotb.start_soon(self._settle())
        await self.cycle()
        self.dut.rst.value = 0
        await self.cycle()
        for _ in range(WAKE_CYCLES if wait else 0):
            await self.cycle()

    async def _settle(self) -> None:
        while True:
            await RisingEdge(self.dut.clk)
            await Timer(10, "ns")
            self.dut.settle.value = 1
            await Timer(10, "ns")
            self.dut.settle.value = 0

    async def start(self, offset: int) -> None:
        """One start pulse for the byte at `offset` of the contents."""
        self.dut.address.value = BASE + offset
        self.dut.start.value = 1
        await self.cycle()
        self.dut.start.value = 0

    async def take(self, count: int, stall: float = 0.0, longest: int = 1) -> list[int]:
        """`count` words; before each, with probability `stall`, up to `longest` cycles of none."""
        words: list[int] = []
        while len(words) < count:
            if self.random.random() < stall:
                self.dut.o_ready.value = 0
                for _ in range(self.random.randint(1, longest)):
                    await self.cycle()
            self.dut.o_ready.value = 1
            await Timer(1, "ns")
            if self.dut.o_valid.value:
                words.append(int(self.dut.o.value))
            await self.cycle()
        self.dut.o_ready.value = 0
        return words

    def expected(self, offset: int, count: int) -> list[int]:
        """The words at a byte offset; erased flash is ones."""
        padded = np.concatenate([self.contents, np.full(2 * count, 255, np.uint8)])
        words: list[int] = padded[offset : offset + 2 * count].copy().view("<u2").tolist()
        return words

    def check(self) -> None:
        """The flash model has nothing to complain of."""
        assert not self.dut.violated.value, "the flash model reports a violation, see the log"


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def wakes_up(dut: Any) -> None:
    bench = Bench(dut)
    await bench.reset(wait=False)
    for _ in range(WAKE_CYCLES):
        await bench.cycle()
    assert dut.ready.value and not dut.error.value
    await bench.start(6)
    assert await bench.take(20) == bench.expected(6, 20)
    bench.check()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def is_reported(dut: Any) -> None:
    bench = Bench(dut)
    await bench.reset()
    assert dut.violated.value


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def reports_silence(dut: Any) -> None:
    bench = Bench(dut)
    await bench.reset(wait=False)
    for _ in range(WAKE_CYCLES):
        await bench.cycle()
    assert dut.error.value and not dut.ready.value


async def _keeps_order(dut: Any, stall: float, longest: int) -> None:
    bench = Bench(dut)
    await bench.reset()
    for offset in (0, 1, 255, 1024):
        await bench.start(offset)
        assert await bench.take(300, stall, longest) == bench.expected(offset, 300)
    bench.check()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def keeps_order_never(dut: Any) -> None:
    await _keeps_order(dut, 0.0, 1)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def keeps_order_sometimes(dut: Any) -> None:
    await _keeps_order(dut, 0.1, 3)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def keeps_order_mostly(dut: Any) -> None:
    await _keeps_order(dut, 0.9, 5)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def keeps_order_long(dut: Any) -> None:
    await _keeps_order(dut, 0.05, 100)


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def keeps_full_rate(dut: Any) -> None:
    bench = Bench(dut)
    await bench.reset()
    await bench.start(0)
    dut.o_ready.value = 1
    arrivals = []
    for cycle in range(1, FIRST_WORD_CYCLES + WORD_CYCLES * 200):
        await bench.cycle()
        if dut.o_valid.value:
            arrivals.append(cycle)
    assert arrivals[0] <= FIRST_WORD_CYCLES, arrivals[0]
    assert set(np.diff(arrivals).tolist()) == {WORD_CYCLES}
    bench.check()


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def restarts(dut: Any) -> None:
    bench = Bench(dut)
    await bench.reset(wait=False)
    for _ in range(250):
        offset = bench.random.randrange(2000)
        for _ in range(bench.random.randrange(3)):
            await bench.start(bench.random.randrange(2000))
            for _ in range(bench.random.randrange(60)):
                await bench.cycle()
        if bench.random.random() < 0.5:
            dut.stop.value = 1
            await bench.cycle()
            dut.stop.value = 0
            dut.o_ready.value = bench.random.randrange(2)
            for _ in range(bench.random.randrange(60)):
                assert not dut.o_valid.value
                await bench.cycle()
        await bench.start(offset)
        assert await bench.take(3, 0.3, 4) == bench.expected(offset, 3), offset
    bench.check()


def crc16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE by its textbook loop."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
    return crc


@cocotb.test(timeout_time=20, timeout_unit="ms")
async def knows_the_crc(dut: Any) -> None:
    """Offsets are chosen so that some prefix's CRC is zero: its last word is its own CRC."""
    bench = Bench(dut)
    assert crc16(b"123456789") == 0x29B1, "the check value of CRC-16/CCITT-FALSE"
    await bench.reset()
    for count in (1, 2, 7, 50):
        await bench.start(0)
        dut.o_ready.value = 0
        seen = []
        for index in range(count):
            while not dut.o_valid.value:
                await bench.cycle()
            for _ in range(bench.random.randrange(12)):
                await bench.cycle()
            data = bench.contents[: 2 * (index + 1)].tobytes()
            assert bool(dut.crc_ok.value) == (crc16(data) == 0), index
            seen.append(bool(dut.crc_ok.value))
            dut.o_ready.value = 1
            await bench.cycle()
            dut.o_ready.value = 0
    bench.check()
