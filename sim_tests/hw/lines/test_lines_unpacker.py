"""The unpacker of 64-bit programs against packets taken apart in Python."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompile.hw.lines.unpacker import LinesUnpacker
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim


def test_payloads_reach_their_targets(tmp_path: Path, seed: int) -> None:
    cosim.run_bench(LinesUnpacker(), "lines.unpacker_bench", tmp_path, seed=seed)
