"""Constants of the array of lines: the oldest group's, a column a lane and step."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.constants import LinesConstants
from qcompile.hw.lines.lanes import LineLanes
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim


@pytest.mark.parametrize(("columns", "lanes"), [(16, 4), (8, 1), (4, 4)])
def test_every_lane_has_its_columns_constants(
    columns: int, lanes: int, tmp_path: Path, seed: int
) -> None:
    unit = LinesConstants(LinesConfig(columns=columns, lanes=lanes))
    sizes = {"COLUMNS": columns, "LANES": lanes, "DELAY": LineLanes.MANTISSA_DELAY}
    environment = {f"QCOMPILE_{name}": str(value) for name, value in sizes.items()}
    cosim.run_bench(unit, "lines.constants_bench", tmp_path, seed=seed, environment=environment)
