"""The multiply self-test in the real Verilog: right pairs pass, and every fault is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.lines.selftest import INPUT, OUTPUT, SelfTest, self_test
from qcompile.hw.lines.config import LinesConfig
from sim_tests.compiler.lines_walker import memory_words
from sim_tests.cosim.faulty_pairs import KINDS, faulty_verilog
from sim_tests.cosim.lines_runs import unpacked
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim

CONFIG = LinesConfig(
    lines=2, columns=4, lanes=2, acc_width=20, bank_words=512, weight_rows=64, adder=False
)
PAIRS = CONFIG.pairs // CONFIG.lines


def run(test: SelfTest, faults: list[tuple[int, int, int]], folder: Path, seed: int) -> np.ndarray:
    """The output's codes [faults, channels, height, width]."""
    compiled = test.compiled
    target, source = compiled.places[OUTPUT], compiled.places[INPUT]
    weights = compiled.program.weights
    np.savez(
        folder / "job.npz",
        program=np.array(compiled.program.words, np.uint64),
        weights=weights,
        weights_at=np.array([CONFIG.weight_address(i) for i in range(len(weights))]),
        input=memory_words(test.codes[0], CONFIG.columns).astype(np.int8),
        input_place=np.array([source.bank, source.offset]),
        output_place=np.array([target.bank, target.offset, target.words]),
        faults=np.array(faults),
    )
    text = cosim.with_random_memories(faulty_verilog(CONFIG, 64))
    cosim.run_module(
        cosim.build(text, "dut"),
        "sim_tests.cosim.selftest_bench",
        folder,
        seed=seed,
        environment={"QCOMPILE_JOB": str(folder)},
    )
    found = np.load(folder / "result.npz")["words"]
    return np.stack([unpacked(words, target.shape, CONFIG.columns) for words in found])


def test_every_fault_is_found_where_it_is(
    tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    """All kinds of faults in a pair of each line, and some in every pair."""
    test = self_test(CONFIG)
    sites = [line * PAIRS + int(rng.integers(PAIRS)) for line in range(CONFIG.lines)]
    broken = [(site, kind, 1) for site in sites for kind in range(len(KINDS))]
    for site in range(CONFIG.pairs):
        broken += [(site, int(kind), 1) for kind in rng.choice(len(KINDS), 4, replace=False)]
    right, *found = run(test, [(0, 0, 0), *broken], tmp_path, seed)
    expected = test.expected[0]
    np.testing.assert_array_equal(right, expected)
    unfound = []
    for (site, kind, _), codes in zip(broken, found, strict=True):
        wrong = test.units[:, codes != expected]
        line, pair = divmod(site, PAIRS)
        rows = {2 * (pair // CONFIG.columns), 2 * (pair // CONFIG.columns) + 1}
        assert set(wrong[0].tolist()) <= {line}, (site, KINDS[kind])
        assert set(wrong[1].tolist()) <= rows, (site, KINDS[kind])
        assert set(wrong[2].tolist()) <= {pair % CONFIG.columns}, (site, KINDS[kind])
        if not wrong.size:
            unfound.append((site, KINDS[kind]))
    assert not unfound
