"""The sequencer against descriptors: registers, steps, order, pauses, cycles."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompile.hw.sequencer import Sequencer
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim


@pytest.mark.parametrize("codebook", [False, True])
def test_sequencer_runs_descriptors_in_order(tmp_path: Path, seed: int, codebook: bool) -> None:
    cosim.run_bench(Sequencer(codebook=codebook), "sequencer_bench", tmp_path, seed=seed)
