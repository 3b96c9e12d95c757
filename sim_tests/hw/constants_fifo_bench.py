"""The cocotb side of `test_drain`: constants of channel groups, written and used at any time."""

from __future__ import annotations

import os
from itertools import product
from random import Random
from typing import Any

import cocotb

from qcompile.hw.drain import GROUP_SLOTS, channel_constants
from qcompile.hw.program import HIGH_FLAG, constants_packet
from sim_tests.hw.clocked import bits_of, dice, edge, read, reset, settle, start_clock

CHANNELS = 4
GROUPS = 3 * GROUP_SLOTS
WORD = 0xFFFF
BIAS = 0xFFFF_FFFF
LATE = int(os.environ["QCOMPILE_LATE"])
"""Cycles by which all but the bias comes behind it."""


def make_group(rng: Random, words: int) -> tuple[list[int], list[int]]:
    """A packet's payload, and each channel's constants as the FIFO must show them."""
    bias = [rng.randint(-(1 << 31), (1 << 31) - 1) for _ in range(CHANNELS)]
    mantissa = [rng.getrandbits(24) for _ in range(CHANNELS)]
    shift = [rng.getrandbits(6) for _ in range(CHANNELS)]
    halves = [rng.getrandbits(1) for _ in range(CHANNELS)]
    shown = [
        bits_of(
            channel_constants(words),
            {"bias": b & 0xFFFF_FFFF, "mantissa": m, "shift": s, "flags": half << HIGH_FLAG},
        )
        for b, m, s, half in zip(bias, mantissa, shift, halves, strict=True)
    ]
    return constants_packet(bias, mantissa, shift, words=words, halves=halves)[1:], shown


async def run(dut: Any, rng: Random, source: float, use: float) -> None:
    """All groups, in and out."""
    per_channel = len(dut.o) // 16
    groups = [make_group(rng, per_channel) for _ in range(GROUPS)]
    words = [word for payload, _ in groups for word in payload]
    sent = oldest = 0
    asked: list[int | None] = [None] * LATE
    """The constants of the channel asked for in each cycle, if they are there."""
    while oldest < GROUPS:
        offered = sent < len(words) and rng.random() < source
        dut.i__valid.value = int(offered)
        dut.i__payload.value = words[sent] if offered else rng.getrandbits(16)
        column = rng.randrange(CHANNELS)
        dut.column.value = column
        await settle()
        complete = sent // (CHANNELS * per_channel)
        available = bool(read(dut, "available"))
        assert available <= (complete > oldest), "a group that is not complete"
        done = available and rng.random() < use
        dut.group_done.value = int(done)
        await settle()
        sent += offered and bool(read(dut, "i__ready"))
        assert complete - oldest <= GROUP_SLOTS
        await edge(dut)
        asked.append(groups[oldest][1][column] if available else None)
        found = read(dut, "o")
        now, due = asked[-1], asked[-1 - LATE]
        assert now is None or found & BIAS == now & BIAS
        assert due is None or found | BIAS == due | BIAS
        oldest += done


@cocotb.test()
async def constants_are_those_of_the_oldest_group(dut: Any) -> None:
    """With pauses of neither, either and both sides."""
    start_clock(dut)
    for source, use in product((1.0, 0.3), (1.0, 0.1, 0.01)):
        await reset(dut, i__valid=0, i__payload=0, column=0, group_done=0)
        await run(dut, dice(source, use), source, use)
