"""The prefetch store against a list of words: stores and recalls beside each other, any pauses."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompile.hw.prefetch import Prefetch
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim


def test_recalled_words_are_those_that_were_stored(tmp_path: Path, seed: int) -> None:
    cosim.run_bench(Prefetch(), "prefetch_bench", tmp_path, seed=seed)
