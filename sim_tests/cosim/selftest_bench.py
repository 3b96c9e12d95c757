"""The cocotb side of `test_selftest`: the self-test's program with one fault after the other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cocotb
import numpy as np

from qcompile.compiler.lines.core_bench import LinesBench


@cocotb.test()
async def run_faults(dut: Any) -> None:
    """`result.npz` gets the output's words for each of the job's faults [site, kind, broken]."""
    folder = Path(os.environ["QCOMPILE_JOB"])
    job = np.load(folder / "job.npz")
    bench = LinesBench(dut)
    for name in ("site", "kind", "broken"):
        getattr(dut, name).value = 0
    await bench.reset()
    program = job["program"]
    await bench.fill("program", np.arange(len(program)), program[:, np.newaxis])
    await bench.fill("weight", job["weights_at"], job["weights"])
    await bench.write(tuple(job["input_place"].tolist()), job["input"])
    set_, address, count = job["output_place"].tolist()
    found = []
    for site, kind, broken in job["faults"].tolist():
        dut.site.value, dut.kind.value, dut.broken.value = site, kind, broken
        await bench.go("start", 0xFFFF)
        words = await bench.read((set_, address), count)
        found.append(np.frombuffer(b"".join(words), np.int8))
    np.savez(folder / "result.npz", words=np.array(found))
