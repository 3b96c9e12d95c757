"""The cocotb side of `test_accelerator*`: does a script of steps with the core in `core_bench.v`.

`script.json` in the folder that QCOMPILE_SCRIPT names is a list of steps; `results.json` has an
entry for each: None, or what the step gave.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, First, RisingEdge, Timer

from qcompile.compiler.core_bench import CLOCK_NS, Bench
from qcompile.runtime.protocol import State

LIMIT_CYCLES = 400_000
"""A run that takes longer hangs."""
CLEAR_CYCLES = 5


class ScriptBench(Bench):
    """The steps; each is a method, its arguments are the step's."""

    async def program(self, address: int) -> None:
        """Choose the program: its byte address in the flash."""
        self.dut.program_address.value = address

    async def store(self, address: int, words: list[int]) -> None:
        """Words into memory."""
        await self.write(address, np.array(words, np.uint32))

    async def load(self, address: int, count: int) -> list[int]:
        """Words from memory."""
        words: list[int] = (await self.read(address, count)).tolist()
        return words

    async def go(self, name: str, stop_after: int = 0xFFFF, cycles: int = 0) -> dict[str, Any]:
        """`start`, `resume` or `abort`, then wait until nothing runs, or for some cycles."""
        dut = self.dut
        dut.stop_after.value = stop_after
        self._ends = []
        watch = cocotb.start_soon(self._watch_layers())
        getattr(dut, name).value = 1
        await RisingEdge(dut.clk)
        await Timer(1, "ns")
        getattr(dut, name).value = 0
        await ClockCycles(dut.clk, cycles or CLEAR_CYCLES)
        if not cycles and int(dut.state.value) == State.RUNNING:
            await First(dut.state.value_change, Timer(LIMIT_CYCLES * CLOCK_NS, "ns"))
            await RisingEdge(dut.clk)
        watch.cancel()
        assert not dut.flash_violated.value, "the flash reports a violation"
        names = ("state", "error", "layers_done", "cycles")
        status = {name: int(getattr(dut, name).value) for name in names}
        return {**status, "layer_ends": self._ends}


@cocotb.test()
async def do_script(dut: Any) -> None:
    """Every step in order."""
    folder = Path(os.environ["QCOMPILE_SCRIPT"])
    bench = ScriptBench(dut)
    dut.program_address.value = 0
    await bench.reset()
    results = []
    for method, *arguments in json.loads((folder / "script.json").read_text()):
        results.append(await getattr(bench, method)(*arguments))
    (folder / "results.json").write_text(json.dumps(results))
