"""The cocotb side of `queue_runs`: an array of lines behind AXI, whose inputs queue or not.

`job.npz` in the folder that QCOMPILE_JOB names holds every input's words and where they go, what to
read, and the two layer numbers; `result.npz` gets the outputs' words, each run's cycles, and the
time of each start and of the end, in cycles. Tensors go through the streams, a beat a cycle.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiStreamFrame

from qcompile.runtime.protocol import ALL_LAYERS, Control, Register, State
from sim_tests.hw.axi_bus import CLOCK_NS, AxiBench

LIMIT_MS = 100
"""Of simulated time."""
Region = tuple[int, int]
"""First word, as the host says it, and words."""


def now() -> int:
    """In cycles."""
    return round(get_sim_time("ns") / CLOCK_NS)


class Host(AxiBench):
    """A processor that starts runs, and a DMA engine at the streams."""

    async def load(self, regions: list[Region], words: Any) -> None:
        """Words [n, V] of all inputs, through the stream; ends when they are in memory."""
        begin = 0
        for address, count in regions:
            await self.write(Register.IN_ADDRESS, address)
            await self.source.send(AxiStreamFrame(words[begin : begin + count].tobytes()))
            begin += count
            while await self.read(Register.IN_ADDRESS) != address + count:
                pass

    async def fetch(self, regions: list[Region]) -> bytes:
        """Words of all outputs, through the stream."""
        data = b""
        for address, count in regions:
            await self.write(Register.OUT_ADDRESS, address)
            await self.write(Register.OUT_COUNT, count)
            data += bytes((await self.sink.recv()).tdata)
        return data

    async def status(self) -> tuple[State, int]:
        """State, and how many layers have ended."""
        value = await self.read(Register.STATUS)
        return State(value & 0xFF), value >> 16

    async def start(self, stop_after: int) -> int:
        """The time from which the array runs."""
        await self.write(Register.STOP_AFTER, stop_after)
        await self.write(Register.CONTROL, Control.START)
        return now()

    async def until(self, layers: int) -> None:
        """Until so many layers have ended, or the run has."""
        while True:
            state, done = await self.status()
            if done >= layers or state == State.DONE:
                return
            assert state in (State.RUNNING, State.PAUSED)

    async def fetch_before(self, outputs: list[Region]) -> bytes:
        """The last run's outputs, during the next run; then its pause is lifted."""
        data = await self.fetch(outputs)
        await self.write(Register.STOP_AFTER, ALL_LAYERS)
        if (await self.status())[0] == State.PAUSED:
            await self.write(Register.CONTROL, Control.RESUME)
        return data

    async def load_behind(self, layers: int, inputs: list[Region], words: Any) -> None:
        """The next run's inputs, when this one needs its own no more."""
        await self.until(layers)
        await self.load(inputs, words)


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def run_all(dut: Any) -> None:
    """Every input."""
    folder = Path(os.environ["QCOMPILE_JOB"])
    job = np.load(folder / "job.npz")
    inputs, outputs = ([tuple(x) for x in job[name].tolist()] for name in ("inputs", "outputs"))
    free, before = int(job["inputs_free"]), int(job["outputs_from"])
    words, queued = job["words"], bool(job["queued"])
    host = Host(dut)
    await host.reset()
    await host.write(Register.PROGRAM_ADDRESS, 0)
    await host.load([tuple(x) for x in job["stored"].tolist()], job["stored_words"])
    times, cycles, found = [], [], []
    if queued:
        await host.load(inputs, words[0])
    for number in range(len(words)):
        if not queued:
            await host.load(inputs, words[number])
        times.append(await host.start(before if queued and number else ALL_LAYERS))
        tasks = []
        if queued and number + 1 < len(words):
            tasks.append(cocotb.start_soon(host.load_behind(free, inputs, words[number + 1])))
        if queued and number:
            found.append(await host.fetch_before(outputs))
        for task in tasks:
            await task
        await host.until(ALL_LAYERS)
        cycles.append(await host.read(Register.STATUS + 4))
        if not queued:
            found.append(await host.fetch(outputs))
    times.append(now())
    if queued:
        found.append(await host.fetch(outputs))
    assert await host.read(Register.RESULT) == 0
    outputs_ = np.frombuffer(b"".join(found), np.int8).reshape(len(words), -1)
    np.savez(
        folder / "result.npz", times=np.array(times), cycles=np.array(cycles), outputs=outputs_
    )
