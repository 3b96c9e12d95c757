"""The cocotb side of `cosim.run_vectors`: a clock until the harness has read every line."""

from __future__ import annotations

from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import RisingEdge


@cocotb.test()
async def every_line_is_applied(dut: Any) -> None:
    """The harness reads inputs and writes outputs by itself."""
    Clock(dut.clk, 10, "ns").start()
    await RisingEdge(dut.done)
