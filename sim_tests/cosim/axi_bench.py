"""The cocotb side of `test_axi_runs`: a script of steps through the AXI link alone.

Steps, `script.json` and `results.json` are those of `accelerator_bench`; tensors go through the
streams and, every other one, through the window.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import Timer
from cocotbext.axi import AxiStreamFrame

from qcompile.runtime.protocol import Control, Register, State, Status
from sim_tests.hw.axi_bus import CLOCK_NS, AxiBench
from sim_tests.hw.clocked import dice

LIMIT_CYCLES = 400_000
"""A run that takes longer hangs."""
POLL_CYCLES = 50
LIMIT_MS = 100
"""Of simulated time, for the whole script."""


class Script(AxiBench):
    """The steps; each is a method, its arguments are the step's."""

    transfers = 0

    async def program(self, address: int) -> None:
        """Choose the program: its byte address in the flash."""
        await self.write(Register.PROGRAM_ADDRESS, address)

    async def store(self, address: int, words: list[int]) -> None:
        """Words into memory."""
        self.transfers += 1
        if self.transfers % 2:
            await self.write(Register.MEMORY_ADDRESS, address)
            await self.write(Register.MEMORY_DATA, *words)
            return
        await self.write(Register.IN_ADDRESS, address)
        await self.source.send(AxiStreamFrame(struct.pack(f"<{len(words)}I", *words)))
        while await self.read(Register.IN_ADDRESS) != address + len(words):
            pass

    async def load(self, address: int, count: int) -> list[int]:
        """Words from memory."""
        self.transfers += 1
        if self.transfers % 2:
            await self.write(Register.MEMORY_ADDRESS, address)
            return await self.read_all(Register.MEMORY_DATA, count)
        await self.write(Register.OUT_ADDRESS, address)
        await self.write(Register.OUT_COUNT, count)
        packet = await self.sink.recv()
        return list(struct.unpack(f"<{count}I", bytes(packet.tdata)))

    async def go(self, name: str, stop_after: int = 0xFFFF, cycles: int = 0) -> dict[str, Any]:
        """`start`, `resume` or `abort`, then wait until nothing runs, or for some cycles."""
        await self.write(Register.STOP_AFTER, stop_after)
        await self.write(Register.CONTROL, Control[name.upper()])
        if cycles:
            await Timer(cycles * CLOCK_NS, "ns")
        else:
            for _ in range(0, LIMIT_CYCLES, POLL_CYCLES):
                if await self.read(Register.STATUS) & 0xFF != State.RUNNING:
                    break
                await Timer(POLL_CYCLES * CLOCK_NS, "ns")
        assert not self.dut.violated.value, "the flash reports a violation"
        status, cycles = [await self.read(Register.STATUS + each) for each in (0, 4)]
        names = ("state", "error", "layers_done")
        values = struct.unpack("<BBH", status.to_bytes(4, "little"))
        return {**dict(zip(names, values, strict=True)), "cycles": cycles, "layer_ends": []}

    async def refused(self, offset: int, value: int | None = None) -> bool:
        """Whether a write (without a value: a read) leaves BUSY in RESULT."""
        if value is None:
            assert await self.read(offset) == 0
        else:
            await self.write(offset, value)
        result = await self.read(Register.RESULT)
        await self.write(Register.RESULT, 0)
        assert result in (Status.OK, Status.BUSY)
        return result == Status.BUSY


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def do_script(dut: Any) -> None:
    """Every step in order."""
    folder = Path(os.environ["QCOMPILE_SCRIPT"])
    bench = Script(dut)
    await bench.start_flash()
    bench.stall(dice("script"), 0.2)
    results = []
    for method, *arguments in json.loads((folder / "script.json").read_text()):
        results.append(await getattr(bench, method)(*arguments))
    (folder / "results.json").write_text(json.dumps(results))
