"""The cocotb side of `test_prefetch`: an unpacker, a memory and a weight FIFO at random times.

Packets go one after the other, as the unpacker sends them; the memory grants requests with some
chance and answers a read in the next cycle; the FIFO has room with some chance.
"""

from __future__ import annotations

import os
import random
from itertools import product
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, Timer

ROUNDS = 25
CHUNK = 24
HANGS = 4000


class Bench:
    """Memory and FIFO, stepped with the clock."""

    def __init__(self, dut: Any, rng: random.Random, grant: float, room: float) -> None:
        self.dut = dut
        self.rng = rng
        self.grant_chance = grant
        self.room_chance = room
        self.memory: dict[int, int] = {}
        self.received: list[int] = []
        self.since_grant = 9

    async def cycle(self) -> None:
        """One clock; grants are drawn before it, words and writes taken at its end."""
        dut = self.dut
        dut.grant.value = self.rng.random() < self.grant_chance
        dut.room.value = self.rng.random() < self.room_chance
        await Timer(1, "ns")
        granted = bool(dut.request.value) and bool(dut.grant.value)
        write, address, data = (int(getattr(dut, n).value) for n in ("write", "address", "data"))
        if dut.o_valid.value:
            self.received.append(int(dut.o.value))
        self.since_grant += 1
        await RisingEdge(dut.clk)
        await Timer(1, "ns")
        dut.word.value = self.rng.getrandbits(32)
        if granted and write:
            self.memory[address] = data
        elif granted:
            assert self.since_grant >= 3, "two recalls within three cycles"
            self.since_grant = 0
            dut.word.value = self.memory[address]

    async def send(self, port: str, payload: list[int], chance: float) -> None:
        """A packet's payload, offered with some chance in each cycle."""
        valid, ready = getattr(self.dut, f"{port}__valid"), getattr(self.dut, f"{port}__ready")
        for index, word in enumerate(payload):
            while self.rng.random() >= chance:
                await self.cycle()
            self.dut.index.value = index
            getattr(self.dut, f"{port}__payload").value = word
            valid.value = 1
            for _ in range(HANGS):
                await Timer(1, "ns")
                taken = bool(ready.value)
                await self.cycle()
                if taken:
                    break
            else:
                raise AssertionError(f"{port} does not take word {index}")
            valid.value = 0


@cocotb.test()
async def recalled_words_are_stored_words(dut: Any) -> None:
    """Chunks at random places; each is stored while the one before is recalled."""
    Clock(dut.clk, 10, "ns").start()
    for grant, room in product((1.0, 0.3), (1.0, 0.2)):
        await run(dut, grant, room)


async def run(dut: Any, grant: float, room: float) -> None:
    """All rounds once, from a reset on."""
    rng = random.Random(f"{os.environ['QCOMPILE_SEED']} {grant} {room}")
    for name in ("store__valid", "recall__valid", "grant", "room", "index", "word"):
        getattr(dut, name).value = 0
    dut.rst.value = 1
    for _ in range(2):
        await RisingEdge(dut.clk)
    await Timer(1, "ns")
    dut.rst.value = 0
    bench = Bench(dut, rng, grant, room)
    starts = rng.sample(range(0, 1 << 15, 64), ROUNDS)
    chunks = [[rng.getrandbits(32) for _ in range(rng.randint(1, CHUNK))] for _ in starts]
    for number, (start, chunk) in enumerate(zip(starts, chunks, strict=True)):
        halves = [half for word in chunk for half in (word & 0xFFFF, word >> 16)]
        await bench.send("store", [start, *halves], rng.choice((1.0, 0.25)))
        await bench.send("recall", [start, len(chunk) - 1], 1.0)
        assert dut.pending.value, f"recall {number} has begun and nothing is pending"
    for _ in range(HANGS):
        await bench.cycle()
        if not dut.pending.value:
            break
    assert bench.received == [word for chunk in chunks for word in chunk]
