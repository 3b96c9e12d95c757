"""The cocotb side of `SimulatedRegisters`: accesses that come through a socket, on the AXI bus.

An access is `<BHI`: kind, offset, how many; then for writes so many 32-bit values. Reads are
answered by their values. Kind "P" lets so many nanoseconds pass, kind "E" ends the simulation.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge, Timer, with_timeout
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp

from sim_tests.hw.axi_bus import AWAKE_US, CLOCK_NS

ACCESS = "<BHI"
ACCESS_US = 100
"""An access that takes longer hangs."""


async def serve(master: Any, connection: socket.socket) -> None:
    """Every access, until the end."""
    file = connection.makefile("rwb")
    while True:
        kind, offset, count = struct.unpack(ACCESS, file.read(struct.calcsize(ACCESS)))
        if kind == ord("R"):
            tasks = [cocotb.start_soon(master.read(offset, 4)) for _ in range(count)]
            answers = [await with_timeout(task, ACCESS_US, "us") for task in tasks]
            file.write(b"".join(answer.data for answer in answers))
        elif kind == ord("W"):
            values = file.read(4 * count)
            tasks = [
                cocotb.start_soon(master.write(offset, values[begin : begin + 4]))
                for begin in range(0, 4 * count, 4)
            ]
            answers = [await with_timeout(task, ACCESS_US, "us") for task in tasks]
            file.write(b"W")
        elif kind == ord("P"):
            answers = []
            await Timer(count, "ns")
            file.write(b"P")
        else:
            return
        assert all(answer.resp == AxiResp.OKAY for answer in answers), f"SLVERR at {offset:#x}"
        file.flush()


@cocotb.test()
async def simulate(dut: Any) -> None:
    """A board from its power-up on."""
    logging.getLogger("cocotb").setLevel(logging.WARNING)  # lines for each access otherwise
    master: Any = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "axi"), dut.clk, dut.rst)
    for name in ("words_i_tvalid", "words_o_tready"):
        getattr(dut, name).value = 0
    Clock(dut.clk, CLOCK_NS, "ns").start()
    dut.rst.value = 1
    await RisingEdge(dut.clk)
    await Timer(CLOCK_NS // 4, "ns")
    Clock(dut.settle, CLOCK_NS, "ns").start()
    await RisingEdge(dut.clk)
    dut.rst.value = 0
    await Timer(AWAKE_US, "us")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["QCOMPILE_SOCKET"])
        await serve(master, connection)
    assert not dut.violated.value, "the flash reports a violation"
