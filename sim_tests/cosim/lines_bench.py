"""The cocotb side of `lines_runs`: subjects through an array of lines, one after the other.

`job.npz` in the folder that QCOMPILE_JOB names holds each subject's program, weights, inputs and
what to read after how many layers; `result.npz` gets the words that were read and the cycles.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, First, RisingEdge, Timer

from qcompile.hw.sequencer import State

CLOCK_NS = 10
UNUSED = (
    *("host_valid", "weight_write", "program_write", "start", "resume", "abort"),
    *("start_address", "read_start", "read_stop", "read_address", "read_o__ready"),
)
"""Inputs that nothing drives at first, or ever."""
LIMIT_CYCLES = 3_000_000
"""A run that takes longer hangs."""


def number(data: bytes) -> int:
    """A little-endian word."""
    return int.from_bytes(data, "little")


class LinesBench:
    """Drives the accelerator just after the clock rises."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.ends: list[int] = []

    async def reset(self) -> None:
        """Clock and reset."""
        dut = self.dut
        Clock(dut.clk, CLOCK_NS, "ns").start()
        for name in UNUSED:
            getattr(dut, name).value = 0
        dut.rst.value = 1
        await ClockCycles(dut.clk, 3)
        dut.rst.value = 0
        await self.edge()

    async def edge(self) -> None:
        """To just after the next rise of the clock."""
        await RisingEdge(self.dut.clk)
        await Timer(1, "ns")

    async def fill(self, memory: str, addresses: np.ndarray, words: np.ndarray) -> None:
        """Words [n, bytes] into the weight or program memory."""
        getattr(self.dut, f"{memory}_write").value = 1
        for at, word in zip(addresses.tolist(), words, strict=True):
            getattr(self.dut, f"{memory}_address").value = at
            getattr(self.dut, f"{memory}_data").value = number(word.tobytes())
            await self.edge()
        getattr(self.dut, f"{memory}_write").value = 0

    async def write(self, place: tuple[int, int], words: np.ndarray) -> None:
        """Words [n, V] into a set, from an address on."""
        dut = self.dut
        dut.host_set.value, first = place
        dut.host_valid.value = dut.host_write.value = 1
        for at, word in enumerate(words, first):
            dut.host_address.value = at
            dut.host_data.value = number(word.tobytes())
            await self._accepted()
        dut.host_valid.value = 0

    async def read(self, place: tuple[int, int], count: int) -> list[bytes]:
        """Words of a set, from an address on."""
        dut = self.dut
        dut.host_set.value, first = place
        dut.host_write.value = 0
        words = []
        for at in range(first, first + count):
            dut.host_address.value = at
            dut.host_valid.value = 1
            await self._accepted()
            dut.host_valid.value = 0
            await Timer(1, "ns")
            while not int(dut.host_word_valid.value):
                await self.edge()
            words.append(int(dut.host_word.value).to_bytes(len(dut.host_word) // 8, "little"))
        return words

    async def _accepted(self) -> None:
        await Timer(1, "ns")
        while not int(self.dut.host_ready.value):
            await self.edge()
        await self.edge()

    async def go(self, name: str, stop_after: int) -> int:
        """`start` or `resume`, and the wait until nothing runs; the cycles."""
        dut = self.dut
        dut.stop_after.value = stop_after
        self.ends = []
        watch = cocotb.start_soon(self._watch())
        getattr(dut, name).value = 1
        await self.edge()
        getattr(dut, name).value = 0
        await ClockCycles(dut.clk, 4)
        if int(dut.state.value) == State.RUNNING:
            await First(dut.state.value_change, Timer(LIMIT_CYCLES * CLOCK_NS, "ns"))
            await self.edge()
        watch.cancel()
        state = int(dut.state.value)
        layers = int(dut.layers_done.value)
        assert state in (State.DONE, State.PAUSED), f"state {state} after {layers} layers"
        return int(dut.cycles.value)

    async def _watch(self) -> None:
        while True:
            await self.dut.layers_done.value_change
            if int(self.dut.layers_done.value):
                self.ends.append(int(self.dut.cycles.value))


@cocotb.test()
async def run_subjects(dut: Any) -> None:
    """All of them."""
    folder = Path(os.environ["QCOMPILE_JOB"])
    job = np.load(folder / "job.npz")
    bench = LinesBench(dut)
    await bench.reset()
    results: dict[str, Any] = {}
    for subject in range(int(job["subjects"])):
        key = f"s{subject}"
        program = job[f"{key}_program"]
        await bench.fill("program", np.arange(len(program)), program[:, np.newaxis])
        await bench.fill("weight", job[f"{key}_weights_at"], job[f"{key}_weights"])
        layered = job[f"{key}_layers"]
        for index in range(int(job[f"{key}_inputs"])):
            place = tuple(job[f"{key}_place{index}"].tolist())
            await bench.write(place, job[f"{key}_words{index}"])
        if int(job["whole"]):
            results[f"{key}_cycles"] = await bench.go("start", 0xFFFF)
            results[f"{key}_ends"] = np.array(bench.ends)
        for number_, (done, set_, address, count) in enumerate(layered.tolist()):
            if not int(job["whole"]):
                await bench.go("resume" if number_ else "start", done)
            words = await bench.read((set_, address), count)
            results[f"{key}_layer{number_}"] = np.frombuffer(b"".join(words), np.int8)
    np.savez(folder / "result.npz", **results)
