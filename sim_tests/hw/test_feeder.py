"""The feeder against loop nests walked in Python: addresses, padding, rows, tags, pauses."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompile.hw.feeder import Feeder
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim


def test_feeder_reads_what_the_loop_nest_says_and_never_pauses_within_a_pass(
    tmp_path: Path, seed: int
) -> None:
    cosim.run_bench(Feeder(), "feeder_bench", tmp_path, seed=seed)
