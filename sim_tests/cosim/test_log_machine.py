"""A logarithmic network on an array of shifts in Verilator: every layer equal to golden."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim_tests.bench import measure
from sim_tests.compiler.log_networks import log_network

pytestmark = pytest.mark.cosim


def test_verilog_of_shifts_equals_golden_in_every_layer(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = log_network(tmp_path, rng)
    row = measure(path, "hx8k", tmp_path, 3)
    assert row.problem == ""
    assert row.passed
    assert row.wrong == 0
    assert row.layers == 6 and row.elements > 0
    assert row.predicted == row.first
