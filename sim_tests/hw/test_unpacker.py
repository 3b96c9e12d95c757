"""The unpacker against lists of packets: routing, order, tables, errors, stalls on every side."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompile.hw.unpacker import Unpacker
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim


@pytest.mark.parametrize("codebook", [False, True])
def test_unpacker_routes_packets_and_stops_at_errors(
    tmp_path: Path, seed: int, codebook: bool
) -> None:
    cosim.run_bench(Unpacker(codebook=codebook), "unpacker_bench", tmp_path, seed=seed)
