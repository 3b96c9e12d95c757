"""The cocotb side of `verilator_engine`: runs inside the simulator, over the job in a folder.

`job.npz` holds what to do, `result.npz` what came out; environment variable QCOMPILE_JOB names the
folder. One input after the other: its words into memory, a run, its output words and cycles out.
With layers, a second run pauses after each and reads its tensor, which leaves the first run's
cycles as they are without pauses.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, Timer

from qcompile.runtime.protocol import ALL_LAYERS, State

CLOCK_NS = 40
SETTLED_CYCLES = 200
"""After `flash_ready`: the reader's own pause ends, so that cycles count with the flash awake."""
LIMIT_SECONDS = 20
"""Simulated time after which a job counts as hung: half a billion cycles."""
Words = npt.NDArray[np.uint32]
Region = tuple[int, int]
"""First address and number of words."""


class Bench:
    """Drives `core_bench.v` just after the clock rises."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self._ends: list[int] = []

    async def reset(self) -> None:
        """Clocks, reset, and the wait until the flash is awake."""
        Clock(self.dut.clk, CLOCK_NS, "ns").start()
        self.dut.rst.value = 1
        for name in ("host_valid", "start", "resume", "abort"):
            getattr(self.dut, name).value = 0
        await RisingEdge(self.dut.clk)
        await Timer(CLOCK_NS // 4, "ns")
        Clock(self.dut.settle, CLOCK_NS, "ns").start()
        await RisingEdge(self.dut.clk)
        self.dut.rst.value = 0
        while not self.dut.flash_ready.value:
            assert not self.dut.flash_error.value, "the flash does not answer"
            await RisingEdge(self.dut.clk)
        await Timer(SETTLED_CYCLES * CLOCK_NS, "ns")

    async def write(self, address: int, words: Words) -> None:
        """Words into memory, one a cycle while the core accepts them."""
        dut = self.dut
        dut.host_write.value = 1
        dut.host_valid.value = 1
        for offset, word in enumerate(words.tolist()):
            dut.host_address.value = address + offset
            dut.host_write_data.value = word
            await self._accepted()
        dut.host_valid.value = 0

    async def read(self, address: int, count: int) -> Words:
        """Words from memory; each arrives some cycles after its request."""
        dut = self.dut
        words: list[int] = []
        dut.host_write.value = 0
        for offset in range(count):
            dut.host_address.value = address + offset
            dut.host_valid.value = 1
            await self._accepted()
            dut.host_valid.value = 0
            while not dut.host_data_valid.value:
                await RisingEdge(dut.clk)
            words.append(int(dut.host_data.value))
        return np.array(words, dtype=np.uint32)

    async def _accepted(self) -> None:
        """To the cycle after the one in which host_ready met host_valid."""
        await Timer(1, "ns")
        while not self.dut.host_ready.value:
            await RisingEdge(self.dut.clk)
            await Timer(1, "ns")
        await RisingEdge(self.dut.clk)
        await Timer(1, "ns")

    async def pulse(self, name: str, stop_after: int) -> None:
        """One cycle of `start` or `resume`, then the wait until the core does not run."""
        self.dut.stop_after.value = stop_after
        self._ends = []
        watch = cocotb.start_soon(self._watch_layers())
        getattr(self.dut, name).value = 1
        await RisingEdge(self.dut.clk)
        await Timer(1, "ns")
        getattr(self.dut, name).value = 0
        for _ in range(4):
            await RisingEdge(self.dut.clk)
        while int(self.dut.state.value) == State.RUNNING:
            await self.dut.state.value_change
            await RisingEdge(self.dut.clk)
        watch.cancel()
        state = int(self.dut.state.value)
        assert state != State.ERROR, f"the core stops with error {int(self.dut.error.value)}"
        assert not self.dut.flash_violated.value, "the flash reports a violation"

    async def _watch_layers(self) -> None:
        while True:
            await self.dut.layers_done.value_change
            if int(self.dut.layers_done.value):
                self._ends.append(int(self.dut.cycles.value))

    def layer_cycles(self) -> list[int]:
        """Cycles of each layer of the last run: from one layer's end to the next one's."""
        return [end - begin for begin, end in zip([0, *self._ends], self._ends, strict=False)]

    async def outputs(self, regions: Sequence[Region]) -> Words:
        """All words of several regions."""
        return np.concatenate([await self.read(*region) for region in regions])


@cocotb.test(timeout_time=LIMIT_SECONDS, timeout_unit="sec")
async def run_job(dut: Any) -> None:
    """Every input of the job."""
    folder = Path(os.environ["QCOMPILE_JOB"])
    job = np.load(folder / "job.npz")
    places, outputs, layers = (
        [(int(address), int(words)) for address, words in job[name]]
        for name in ("inputs", "outputs", "layers")
    )
    bench = Bench(dut)
    dut.program_address.value = int(job["program_address"])
    await bench.reset()
    cycles, layer_cycles, results, tensors = [], [], [], []
    for words in job["words"]:
        await _load(bench, places, words)
        await bench.pulse("start", ALL_LAYERS)
        cycles.append(int(dut.cycles.value))
        layer_cycles.append(bench.layer_cycles())
        results.append(await bench.outputs(outputs))
        if layers:
            await _load(bench, places, words)
            tensors.append(await _layer_by_layer(bench, layers, job["done"].tolist()))
    np.savez(
        folder / "result.npz",
        cycles=np.array(cycles),
        layer_cycles=np.array(layer_cycles),
        outputs=np.array(results),
        layers=np.array(tensors),
    )


async def _load(bench: Bench, places: Sequence[Region], words: Words) -> None:
    begin = 0
    for address, count in places:
        await bench.write(address, words[begin : begin + count])
        begin += count


async def _layer_by_layer(bench: Bench, layers: Sequence[Region], ends: Sequence[int]) -> Words:
    """The words of every layer's tensor, read while the core pauses after `ends` layers."""
    words = []
    for index, (region, end) in enumerate(zip(layers, ends, strict=True)):
        await bench.pulse("resume" if index else "start", end)
        done = int(bench.dut.layers_done.value)
        assert done == end, f"{done} layers are done, not {end}"
        words.append(await bench.read(*region))
    return np.concatenate(words)
