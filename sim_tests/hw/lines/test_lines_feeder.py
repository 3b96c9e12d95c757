"""The feeder of the array of lines against loop nests walked in Python, cycle by cycle."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.feeder import LinesFeeder
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim


@pytest.mark.parametrize("lines", [1, 2, 3, 8])
def test_reads_loads_and_products_come_as_the_loop_nest_says(
    lines: int, tmp_path: Path, seed: int
) -> None:
    feeder = LinesFeeder(LinesConfig(lines=lines))
    environment = {"QCOMPILE_LINES": str(lines)}
    cosim.run_bench(feeder, "lines.feeder_bench", tmp_path, seed=seed, environment=environment)
