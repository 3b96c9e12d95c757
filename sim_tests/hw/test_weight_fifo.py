"""The weight FIFO against a queue: full, around the end, replayed, released while it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompile.hw.weight_fifo import WeightFifo
from sim_tests.hw import cosim
from sim_tests.hw.weight_fifo_bench import DEPTH

pytestmark = pytest.mark.cosim


def test_weight_fifo_keeps_order_with_pauses_of_neither_either_and_both_sides(
    tmp_path: Path, seed: int
) -> None:
    cosim.run_bench(WeightFifo(DEPTH), "weight_fifo_bench", tmp_path, seed=seed)
