"""The cocotb side of `test_constants`: channel groups, written and used at any time."""

from __future__ import annotations

import os
from collections import deque
from itertools import product
from random import Random
from typing import Any

import cocotb

from qcompile.hw.lines.program import constants_packet
from sim_tests.hw.clocked import dice, edge, read, reset, settle, start_clock

SLOTS = 32
GROUPS = 3 * SLOTS
RELEASE = 16
"""Cycles after which a group's slot is free for sure."""

Constants = tuple[int, int, int]
"""Bias (modulo 32 bits), mantissa, shift."""


class Bench:
    """A program that brings groups, and lanes that use the oldest one."""

    def __init__(self, dut: Any, rng: Random, source: float, use: float) -> None:
        self.dut, self.rng = dut, rng
        self.source, self.use = source, use
        self.columns, self.lanes, self.delay = (
            int(os.environ[f"QCOMPILE_{name}"]) for name in ("COLUMNS", "LANES", "DELAY")
        )
        self.groups = [self.group() for _ in range(GROUPS)]
        self.words = [
            word
            for group in self.groups
            for word in constants_packet(*zip(*group, strict=True))[1:]
        ]
        self.sent = 0
        self.done = 0
        self.free: deque[int] = deque([0] * RELEASE, RELEASE)
        """Groups done, in the last cycles."""
        self.asked: deque[list[Constants] | None] = deque([None] * (self.delay + 1))
        """What each lane must get, by cycle; the oldest one's mantissas are due."""

    def group(self) -> list[Constants]:
        """A group's constants, column by column."""
        rng = self.rng
        return [
            (rng.getrandbits(32), rng.getrandbits(24), rng.getrandbits(6))
            for _ in range(self.columns)
        ]

    def check(self) -> None:
        """Bias and shift of the step of the cycle before, mantissas of an earlier one's."""
        newest, oldest = self.asked[-1], self.asked[0]
        for name, bits, part, wanted in (
            ("bias", 32, 0, newest),
            ("shift", 6, 2, newest),
            ("mantissa", 24, 1, oldest),
        ):
            if wanted is not None:
                packed = sum(lane[part] << bits * number for number, lane in enumerate(wanted))
                assert read(self.dut, name) == packed, f"{name} of group {self.done}"

    async def cycle(self) -> None:
        """One cycle of both sides."""
        dut, rng = self.dut, self.rng
        offered = self.sent < len(self.words) and rng.random() < self.source
        dut.i__valid.value = int(offered)
        dut.i__payload.value = self.words[self.sent] if offered else rng.getrandbits(64)
        steps = self.columns // self.lanes
        step = rng.randrange(steps)
        dut.step.value = step
        complete = self.sent // self.columns
        available = complete > self.done
        done = available and rng.random() < self.use
        dut.group_done.value = int(done)
        await settle()
        ready = bool(read(dut, "i__ready"))
        sent = self.sent + (offered and ready)
        assert read(dut, "completes") == sent // self.columns - complete
        assert not ready or complete - self.done < SLOTS, "every slot is taken"
        assert ready or complete - self.free[0] >= SLOTS, "not ready, with free slots"
        self.check()
        self.sent = sent
        group = self.groups[self.done] if available else None
        self.asked.popleft()
        self.asked.append(group and [group[lane * steps + step] for lane in range(self.lanes)])
        self.free.append(self.done)
        self.done += done
        await edge(dut)


@cocotb.test()
async def constants_are_those_of_the_oldest_group(dut: Any) -> None:
    """With pauses of neither, either and both sides."""
    start_clock(dut)
    for source, use in product((1.0, 0.3), (1.0, 0.1, 0.03)):
        await reset(dut, i__valid=0, i__payload=0, step=0, group_done=0)
        bench = Bench(dut, dice(source, use), source, use)
        while bench.done < GROUPS:
            await bench.cycle()
        for _ in range(RELEASE):
            await bench.cycle()
