"""The sequencer of the array of lines: descriptors, pauses, resets."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompile.hw.lines.sequencer import LinesSequencer
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim


def test_layers_run_in_order_and_stop_when_told(tmp_path: Path, seed: int) -> None:
    cosim.run_bench(LinesSequencer(), "lines.sequencer_bench", tmp_path, seed=seed)
