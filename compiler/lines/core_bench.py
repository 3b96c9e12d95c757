"""The cocotb side of the array of lines' engine: runs inside the simulator, over a job in a folder.

`job.npz` holds what to do, `result.npz` what came out; environment variable QCOMPILE_JOB names the
folder. Program and weights go into their memories first, through their ports, as the bitstream
has them, unless they are in a flash; then one input after the other: its words, a run, its output
words and cycles. With layers, a second run pauses after each and reads its tensor, which leaves the
first run's cycles as they are without pauses.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, First, RisingEdge, Timer

from qcompile.hw.sequencer import State
from qcompile.runtime.protocol import ALL_LAYERS

CLOCK_NS = 10
UNUSED = (
    *("host_valid", "weight_write", "program_write", "start", "resume", "abort"),
    *("start_address", "read_start", "read_stop", "read_address", "read_o__ready"),
)
"""Inputs that nothing drives at first, or ever; those of a program memory are not always there."""
WAKE_CYCLES = 2_000
"""From a flash's being ready until its reader rests."""
LIMIT_CYCLES = 100_000_000
"""A run that takes longer hangs."""
Words = npt.NDArray[Any]
"""Of a memory, int8 [n, bytes]; or integers [n]."""
Place = tuple[int, int]
"""A set, and the first word in it."""


def number(data: bytes) -> int:
    """A little-endian word."""
    return int.from_bytes(data, "little")


class LinesBench:
    """Drives the accelerator just after the clock rises."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.ends: list[int] = []

    async def reset(self) -> None:
        """Clock and reset, and a flash awake."""
        dut = self.dut
        Clock(dut.clk, CLOCK_NS, "ns").start()
        for name in UNUSED:
            if hasattr(dut, name):
                getattr(dut, name).value = 0
        dut.rst.value = 1
        await ClockCycles(dut.clk, 3)
        dut.rst.value = 0
        await self.edge()
        if hasattr(dut, "flash_ready"):
            while not int(dut.flash_ready.value):
                assert not int(dut.flash_error.value), "the flash does not answer"
                await self.edge()
            await ClockCycles(dut.clk, WAKE_CYCLES)
            await self.edge()

    async def edge(self) -> None:
        """To just after the next rise of the clock."""
        await RisingEdge(self.dut.clk)
        await Timer(1, "ns")

    async def fill(self, memory: str, addresses: Words, words: Words) -> None:
        """Words [n, bytes] into the weight or program memory."""
        getattr(self.dut, f"{memory}_write").value = 1
        for at, word in zip(addresses.tolist(), words, strict=True):
            getattr(self.dut, f"{memory}_address").value = at
            getattr(self.dut, f"{memory}_data").value = number(word.tobytes())
            await self.edge()
        getattr(self.dut, f"{memory}_write").value = 0

    async def write(self, place: Place, words: Words) -> None:
        """Words [n, V] into a set, from an address on."""
        dut = self.dut
        dut.host_set.value, first = place
        dut.host_valid.value = dut.host_write.value = 1
        for at, word in enumerate(words, first):
            dut.host_address.value = at
            dut.host_data.value = number(word.tobytes())
            await self._accepted()
        dut.host_valid.value = 0

    async def read(self, place: Place, count: int) -> list[bytes]:
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
        if hasattr(dut, "flash_violated"):
            assert not int(dut.flash_violated.value), "the flash reports a violation, see the log"
        return int(dut.cycles.value)

    async def _watch(self) -> None:
        while True:
            await self.dut.layers_done.value_change
            if int(self.dut.layers_done.value):
                self.ends.append(int(self.dut.cycles.value))

    async def layer_by_layer(self, layers: list[list[int]]) -> Words:
        """Words of every layer's tensor: the layers until then, set, first word, words."""
        found = []
        for index, (done, set_, first, count) in enumerate(layers):
            await self.go("resume" if index else "start", done)
            found += await self.read((set_, first), count)
        return np.frombuffer(b"".join(found), np.int8)


@cocotb.test()
async def run_job(dut: Any) -> None:
    """Every input of the job."""
    folder = Path(os.environ["QCOMPILE_JOB"])
    job = np.load(folder / "job.npz")
    bench = LinesBench(dut)
    await bench.reset()
    if "program" in job:
        program = job["program"]
        await bench.fill("program", np.arange(len(program)), program[:, np.newaxis])
        await bench.fill("weight", job["weights_at"], job["weights"])
    if "load_address" in job:
        dut.start_address.value = int(job["load_address"])
        await bench.go("start", ALL_LAYERS)
    dut.start_address.value = int(job["start_address"])
    inputs, outputs, layers = (job[name].tolist() for name in ("inputs", "outputs", "layers"))
    results: dict[str, list[Any]] = {name: [] for name in ("cycles", "ends", "outputs", "layers")}

    async def load(words: Words) -> None:
        begin = 0
        for set_, first, count in inputs:
            await bench.write((set_, first), words[begin : begin + count])
            begin += count

    for words in job["words"]:
        await load(words)
        results["cycles"].append(await bench.go("start", ALL_LAYERS))
        results["ends"].append(bench.ends)
        read = [word for set_, first, n in outputs for word in await bench.read((set_, first), n)]
        results["outputs"].append(np.frombuffer(b"".join(read), np.int8))
        if layers:
            await load(words)
            results["layers"].append(await bench.layer_by_layer(layers))
    arrays: dict[str, Any] = {name: np.array(part) for name, part in results.items()}
    np.savez(folder / "result.npz", **arrays)
