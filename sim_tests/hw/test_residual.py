"""The residual reader: a word for each row, never early, its codes in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompile.hw.residual import ResidualReader
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim


@pytest.mark.parametrize("code_bits", [4, 8])
def test_residual_reader_holds_rows_back_until_their_word_is_here(
    code_bits: int, tmp_path: Path, seed: int
) -> None:
    cosim.run_bench(ResidualReader(code_bits), "residual_bench", tmp_path, seed=seed)
