"""AXI3 of a Zynq's processor before the registers, under cocotbext-axi's master."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompile.hw.axi.burst_bridge import BurstBridge
from sim_tests.hw import axi_board, cosim

AXI4_WIDTHS = (
    *(("[3:0] i_awlen", "[7:0] i_awlen"), ("[3:0] i_arlen", "[7:0] i_arlen")),
    *(("[1:0] i_awsize", "[2:0] i_awsize"), ("[1:0] i_arsize", "[2:0] i_arsize")),
)
"""Ports that the master has only as AXI4 has them; it uses none of the bits on top."""
pytestmark = pytest.mark.cosim


def test_bursts_become_single_accesses_with_their_ids(tmp_path: Path, seed: int) -> None:
    bridge = BurstBridge(id_bits=12, address_bits=32, lite_bits=12)
    text = cosim.to_verilog(bridge, name="burst_bridge")
    top = axi_board.wrapper(bridge, "burst_bridge")
    for narrow, wide in AXI4_WIDTHS:
        assert top.count(narrow) == 1
        top = top.replace(narrow, wide)
    simulation = cosim.build(text + top, axi_board.TOP)
    cosim.run_module(
        simulation,
        "sim_tests.hw.burst_bridge_bench",
        tmp_path,
        seed=seed,
        environment={"QCOMPILE_SEED": str(seed)},
    )
