"""The cocotb side of `test_residual`: rows that wait for their word, and rows that do not.

The bench is the drain around the reader: rows start when they may, their steps are known three
cycles later, their codes come out of a pipeline; a sequencer answers steps when the drain's end
does not ask for one, a memory grants with some chance.
"""

from __future__ import annotations

from collections import deque
from itertools import product
from random import Random
from typing import Any

import cocotb

from qcompile.hw.layouts import BANK_ADDRESS_BITS
from sim_tests.hw.clocked import dice, edge, port, read, reset, settle, start_clock

ROWS = 150
CHANNELS = 4
LATENCY = 13
HANGS = 4000
ADDRESSES = 1 << BANK_ADDRESS_BITS
LAST_STEP = 3
FASTEST = 6
"""Cycles from row to row."""
INPUTS = (
    *("enable", "begin", "load_start", "step_word", "offset", "row_step", "step", "step_held"),
    *("step_free", "row_start", "grant", "word", "take"),
)


class Bench:
    """Everything around the reader, for one layer."""

    def __init__(self, dut: Any, rng: Random, grant: float, free: float, go: float) -> None:
        self.dut = dut
        self.rng = rng
        self.chances = {"grant": grant, "step_free": free}
        self.go = go
        self.steps = [rng.randrange(ADDRESSES) for _ in range(3)]
        self.addresses: list[int] = []
        self.words: list[int] = []
        self.codes: list[int] = []
        self.starts: list[int] = []
        self.rows = [*(rng.choice([0, 0, 1, 2]) for _ in range(ROWS - 1)), LAST_STEP]
        self.time = 0
        self.column = CHANNELS
        """Of the value that goes in this cycle; CHANNELS: none."""
        self.pipeline: deque[bool] = deque([False] * LATENCY)

    async def cycle(self) -> None:
        """One cycle of all."""
        dut, rng = self.dut, self.rng
        row = len(self.starts) - 1
        stepping = self.column == 2
        dut.row_step.value = int(stepping)
        dut.step.value = self.rows[row] if stepping else rng.randrange(4)
        for name, chance in self.chances.items():
            getattr(dut, name).value = int(rng.random() < chance)
        take = self.pipeline.popleft()
        dut.take.value = int(take)
        await settle()
        may = self.column >= CHANNELS - 1 and len(self.starts) < ROWS
        go = may and bool(read(dut, "row_ready")) and rng.random() < self.go
        dut.row_start.value = int(go)
        await settle()
        if take:
            self.codes.append(read(dut, "code"))
        granted = bool(read(dut, "request")) and bool(read(dut, "grant"))
        if granted:
            self.addresses.append(read(dut, "address"))
        entry = read(dut, "step_entry") if read(dut, "step_reading") else None
        assert entry is None or read(dut, "step_free"), "a step is read in somebody else's cycle"
        self.pipeline.append(self.column < CHANNELS)
        await edge(dut)
        dut.step_word.value = rng.getrandbits(16) if entry is None else self.steps[entry]
        if stepping:
            dut.step_held.value = self.rows[row]
        word = rng.getrandbits(len(dut.word))
        dut.word.value = word
        if granted:
            self.words.append(word)
        self.column = min(self.column + 1, CHANNELS)
        if go:
            self.starts.append(self.time)
            self.column = 0
        self.time += 1


async def run_layer(bench: Bench) -> list[int]:
    """Load, begin, run to the last code; the addresses that the rows must have."""
    dut, rng = bench.dut, bench.rng
    first, offset = rng.randrange(ADDRESSES), rng.randrange(ADDRESSES)
    dut.offset.value = offset
    dut.step_word.value = first
    dut.load_start.value = 1
    await edge(dut)
    dut.load_start.value = 0
    port(dut, "begin").value = 1
    await edge(dut)
    port(dut, "begin").value = 0
    for _ in range(HANGS):
        await bench.cycle()
        if len(bench.codes) == ROWS * CHANNELS:
            break
    else:
        raise AssertionError(f"{len(bench.starts)} rows have started, {len(bench.codes)} codes")
    wanted = [first + offset]
    for step in bench.rows[:-1]:
        wanted.append(wanted[-1] + bench.steps[step])
    return [address % ADDRESSES for address in wanted]


@cocotb.test()
async def rows_get_their_words(dut: Any) -> None:
    """Layer after layer; memory, sequencer and drain at once or late."""
    start_clock(dut)
    for grant, free, go in product((1.0, 0.15), (1.0, 0.7), (1.0, 0.5)):
        rng = dice(grant, free, go)
        await reset(dut, **dict.fromkeys(INPUTS, 0))
        dut.enable.value = 1
        for _ in range(2):
            bench = Bench(dut, rng, grant, free, go)
            wanted = await run_layer(bench)
            assert bench.addresses == wanted, "a word for each row, in order"
            bits = len(dut.code)
            lanes = [w >> bits * lane & (1 << bits) - 1 for w in bench.words for lane in range(4)]
            assert bench.codes == lanes
            gaps = [b - a for a, b in zip(bench.starts, bench.starts[1:], strict=False)]
            assert min(gaps) >= FASTEST
            if grant == free == go == 1.0:
                assert max(gaps) == FASTEST
            for _ in range(20):
                await bench.cycle()
            assert len(bench.addresses) == ROWS, "a word was fetched behind the last row"


@cocotb.test()
async def rows_without_an_operand_never_wait(dut: Any) -> None:
    """Nothing is requested then, and no step is asked for."""
    start_clock(dut)
    await reset(dut, **dict.fromkeys(INPUTS, 0))
    port(dut, "begin").value = 1
    await edge(dut)
    port(dut, "begin").value = 0
    dut.step_free.value = 1
    dut.grant.value = 1
    for cycle in range(200):
        dut.row_step.value = int(cycle % 4 == 2)
        await settle()
        assert read(dut, "row_ready")
        assert not read(dut, "request")
        assert not read(dut, "step_reading")
        await edge(dut)
