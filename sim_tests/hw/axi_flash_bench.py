"""The cocotb side of `test_axi`: the host reads the flash through registers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import Timer

from qcompile.runtime.layouts import IMAGE_OFFSET
from qcompile.runtime.protocol import Control, Register, State, Status
from sim_tests.hw.axi_bus import AxiBench
from sim_tests.hw.clocked import dice

STALLS = (0.0, 0.3, 0.8)
LIMIT_MS = 5
"""Of simulated time; what takes longer hangs."""


@cocotb.test(timeout_time=LIMIT_MS, timeout_unit="ms")
async def flash_bytes_are_read(dut: Any) -> None:
    contents = Path(os.environ["QCOMPILE_FLASH"]).read_bytes()
    bench, rng = AxiBench(dut), dice("flash")
    waking = cocotb.start_soon(bench.start_flash())
    await Timer(1, "us")
    await bench.write(Register.CONTROL, Control.READ_FLASH)
    assert await bench.read(Register.RESULT) == Status.BUSY, "the flash is not awake"
    await bench.write(Register.RESULT, 0)
    await waking
    for number in range(3):
        begin_at = rng.randrange(len(contents) - 64)
        await bench.write(Register.PROGRAM_ADDRESS, IMAGE_OFFSET + begin_at)
        await bench.write(Register.CONTROL, Control.READ_FLASH)
        bench.stall(rng, STALLS[number])
        found = b""
        while len(found) < 64:
            value = await bench.read(Register.FLASH_DATA)
            if value >> 16:
                assert value >> 16 == 1
                found += (value & 0xFFFF).to_bytes(2, "little")
        assert found == contents[begin_at : begin_at + 64]
        for command in (Control.START, Control.READ_FLASH):
            await bench.write(Register.CONTROL, command)
            assert await bench.read(Register.RESULT) == Status.BUSY
            await bench.write(Register.RESULT, 0)
        await bench.write(Register.PROGRAM_ADDRESS, 0)
        assert await bench.read(Register.RESULT) == Status.BUSY
        await bench.write(Register.RESULT, 0)
        await bench.write(Register.CONTROL, (Control.END_FLASH, Control.ABORT)[number % 2])
        assert await bench.read(Register.STATUS) == State.IDLE
        assert await bench.read(Register.RESULT) == Status.OK
    assert not int(dut.violated.value)
