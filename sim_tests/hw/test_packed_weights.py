"""Packed and plain weights through FIFO and codebooks, against codes picked one by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim_tests.hw import cosim
from sim_tests.hw.packed_weights import PackedWeights
from sim_tests.hw.packed_weights_bench import DEPTH

pytestmark = pytest.mark.cosim


def test_every_layer_gets_its_codes_at_random_times(tmp_path: Path, seed: int) -> None:
    cosim.run_bench(PackedWeights(DEPTH), "packed_weights_bench", tmp_path, seed=seed)
