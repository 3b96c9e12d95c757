# amaranth: UnusedElaboratable=no
"""The program memory: words in order, one a cycle, from any address on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qcompile.hw.lines.program_memory import ProgramMemory
from sim_tests.hw import cosim
from sim_tests.hw.lines.program_memory_bench import DEPTH, FILLED, contents


@pytest.mark.cosim
def test_words_come_in_order_with_and_without_pauses(tmp_path: Path, seed: int) -> None:
    memory = ProgramMemory(DEPTH, init=contents(str(seed))[:FILLED])
    cosim.run_bench(memory, "lines.program_memory_bench", tmp_path, seed=seed)


@pytest.mark.parametrize(
    ("depth", "words", "message"),
    [
        (1, 1, "depth must be 2 or more, not 1"),
        (16, 17, "the program memory has 16 words, not 17"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(depth: int, words: int, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        ProgramMemory(depth, init=[0] * words)
