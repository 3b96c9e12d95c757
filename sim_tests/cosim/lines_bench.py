"""The cocotb side of `lines_runs`: subjects through an array of lines, one after the other.

`job.npz` in the folder that QCOMPILE_JOB names holds each subject's program, weights, inputs and
what to read after how many layers; `result.npz` gets the words that were read and the cycles.
Where the job says so, the host reads and writes other words all the time that a subject runs.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random
from typing import Any

import cocotb
import numpy as np

from qcompile.compiler.lines.core_bench import LinesBench


class BusyHost:
    """Random accesses while the array runs, to words that no tensor has; reads are compared.

    Parameters
    ----------
    bench : LinesBench
    free : list of (set, first word, words)
    rng : Random
    """

    def __init__(self, bench: LinesBench, free: list[list[int]], rng: Random) -> None:
        self.bench = bench
        self.free = free
        self.rng = rng
        self.known: dict[tuple[int, int], bytes] = {}
        self.reads = self.writes = 0
        self._busy = False

    async def go(self, name: str, stop_after: int) -> int:
        """`LinesBench.go` beside the accesses, the last of which ends a little later."""
        self._busy = True
        accesses = cocotb.start_soon(self._accesses())
        cycles = await self.bench.go(name, stop_after)
        self._busy = False
        await accesses
        return cycles

    async def _accesses(self) -> None:
        rng, size = self.rng, len(self.bench.dut.host_data) // 8
        while self._busy:
            set_, first, count = rng.choice(self.free)
            place = (set_, rng.randrange(first, first + count))
            if place in self.known and rng.random() < 0.5:
                assert await self.bench.read(place, 1) == [self.known[place]], f"word {place}"
                self.reads += 1
            else:
                self.known[place] = rng.randbytes(size)
                await self.bench.write(place, np.frombuffer(self.known[place], np.int8)[np.newaxis])
                self.writes += 1
            for _ in range(rng.choice((0, 0, 1, 5))):
                await self.bench.edge()


@cocotb.test()
async def run_subjects(dut: Any) -> None:
    """All of them."""
    folder = Path(os.environ["QCOMPILE_JOB"])
    job = np.load(folder / "job.npz")
    bench = LinesBench(dut)
    await bench.reset()
    results: dict[str, Any] = {}
    first = 0
    rng = Random(int(job["seed"]))
    for subject in range(int(job["subjects"])):
        key = f"s{subject}"
        host = BusyHost(bench, job[f"{key}_free"].tolist(), rng)
        go = host.go if int(job["busy_host"]) else bench.go
        program = job[f"{key}_program"]
        if int(job["in_flash"]):
            dut.start_address.value = first
            first += len(program)
        else:
            await bench.fill("program", np.arange(len(program)), program[:, np.newaxis])
            await bench.fill("weight", job[f"{key}_weights_at"], job[f"{key}_weights"])
        layered = job[f"{key}_layers"]
        for index in range(int(job[f"{key}_inputs"])):
            place = tuple(job[f"{key}_place{index}"].tolist())
            await bench.write(place, job[f"{key}_words{index}"])
        if int(job["whole"]):
            results[f"{key}_cycles"] = await go("start", 0xFFFF)
            results[f"{key}_ends"] = np.array(bench.ends)
        for number_, (done, set_, address, count) in enumerate(layered.tolist()):
            if not int(job["whole"]):
                await go("resume" if number_ else "start", done)
            words = await bench.read((set_, address), count)
            results[f"{key}_layer{number_}"] = np.frombuffer(b"".join(words), np.int8)
        results[f"{key}_accesses"] = np.array([host.reads, host.writes])
    np.savez(folder / "result.npz", **results)
