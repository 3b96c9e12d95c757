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

from qcompile.compiler.lines.core_bench import LinesBench


@cocotb.test()
async def run_subjects(dut: Any) -> None:
    """All of them."""
    folder = Path(os.environ["QCOMPILE_JOB"])
    job = np.load(folder / "job.npz")
    bench = LinesBench(dut)
    await bench.reset()
    results: dict[str, Any] = {}
    first = 0
    for subject in range(int(job["subjects"])):
        key = f"s{subject}"
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
            results[f"{key}_cycles"] = await bench.go("start", 0xFFFF)
            results[f"{key}_ends"] = np.array(bench.ends)
        for number_, (done, set_, address, count) in enumerate(layered.tolist()):
            if not int(job["whole"]):
                await bench.go("resume" if number_ else "start", done)
            words = await bench.read((set_, address), count)
            results[f"{key}_layer{number_}"] = np.frombuffer(b"".join(words), np.int8)
    np.savez(folder / "result.npz", **results)
