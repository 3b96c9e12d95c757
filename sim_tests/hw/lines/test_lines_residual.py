"""Residual words of the array of lines, against rows walked in Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.residual import LinesResidual
from sim_tests.hw import cosim, xc7

pytestmark = pytest.mark.cosim


@pytest.mark.parametrize(
    ("config", "latency"),
    [
        (LinesConfig(lines=8, columns=16), 2),
        (LinesConfig(lines=3, columns=4), 1),
        (LinesConfig(lines=1, columns=4), 3),
    ],
    ids=["8 lines", "3 lines", "1 line"],
)
def test_rows_are_fetched_ahead(
    config: LinesConfig, latency: int, tmp_path: Path, seed: int
) -> None:
    unit = LinesResidual(config, read_latency=latency)
    sizes = {"LINES": config.lines, "BITS": config.word_bits, "LATENCY": latency}
    environment = {f"QCOMPILE_{name}": str(value) for name, value in sizes.items()}
    cosim.run_bench(unit, "lines.residual_bench", tmp_path, seed=seed, environment=environment)


def test_netlist_keeps_words_in_distributed_memory() -> None:
    netlist = xc7.synthesize(LinesResidual(LinesConfig(), read_latency=2))
    print("LinesResidual:", netlist)
    assert netlist.block_rams == netlist.multipliers == 0
    assert netlist.luts <= 1100
    assert netlist.depth <= 6
