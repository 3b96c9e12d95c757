"""What the multiply self-test brings to every multiplier, for arrays of all kinds."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from qcompile.compiler import ir
from qcompile.compiler.lines.backend import compile_graph
from qcompile.compiler.lines.nests import pitch
from qcompile.compiler.lines.selftest import (
    CORNERS,
    INPUT,
    OUTPUT,
    SelfTest,
    program_words,
    self_test,
    set_words,
    weight_rows,
    with_self_test,
)
from qcompile.hw.lines.config import LinesConfig
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.compiler.lines_walker import Walker

CONFIGS = [
    LinesConfig(lines=lines, columns=columns, lanes=lanes, acc_width=20, bank_words=words)
    for lines, columns, lanes, words in [(1, 4, 1, 512), (3, 8, 4, 256), (7, 16, 2, 128)]
]
EIGHT = LinesConfig(lines=8, lanes=2, acc_width=20, bank_words=128)


def conv_of(test: SelfTest) -> ir.Conv:
    (conv,) = test.compiled.graph.ops
    assert isinstance(conv, ir.Conv)
    return conv


@pytest.mark.parametrize("config", [*CONFIGS, EIGHT], ids=lambda c: f"{c.lines} x {c.columns}")
def test_every_multiplier_meets_all_pairs_of_corners(config: LinesConfig) -> None:
    test = self_test(config)
    weight = conv_of(test).weight[:, :, 0, 0]
    met: dict[tuple[int, int, int], set[tuple[int, int]]] = {}
    codes, units = test.codes[0], test.units
    for channel, y, x in product(*map(range, units.shape[1:])):
        unit = tuple(units[:, channel, y, x].tolist())
        pairs = zip(weight[channel].tolist(), codes[:, y, x].tolist(), strict=True)
        met.setdefault(unit, set()).update(pairs)
    all_units = product(range(config.lines), range(config.rows), range(config.columns))
    assert met.keys() == set(all_units)
    wanted = set(product(CORNERS, CORNERS))
    assert all(wanted <= pairs and len(pairs) > 100 for pairs in met.values())


@pytest.mark.parametrize("config", [*CONFIGS, EIGHT], ids=lambda c: f"{c.lines} x {c.columns}")
def test_every_bit_of_every_product_changes_a_code(config: LinesConfig) -> None:
    """Whatever is added to a sum of the complements shows, up or down."""
    test = self_test(config)
    sums = test.expected[0, : config.columns].astype(int)
    inside = (sums > -128) & (sums < 127)
    for line, row in product(range(config.lines), range(config.rows)):
        here = (test.units[0, 0] == line) & (test.units[1, 0] == row)
        assert inside[:, here].sum() >= 7 * config.columns
    assert np.unique(sums[inside]).size > 20


def test_sums_go_to_both_ends_of_twenty_bits() -> None:
    test = self_test(EIGHT)
    weight = conv_of(test).weight[:, :, 0, 0].astype(int)
    sums = np.einsum("oc,cyx->oyx", weight, test.codes[0].astype(int))
    assert -(1 << 19) <= sums.min() < -500_000 and 500_000 < sums.max() < 1 << 19
    assert max(layer.acc_bound for layer in test.compiled.layers) < 1 << 19


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.lines} x {c.columns}")
def test_units_are_those_that_write_the_words(config: LinesConfig) -> None:
    """The walker puts each line's and row's number into its sums."""

    class Numbered(Walker):
        def _tile(self, weights: ir.Int8Array) -> np.ndarray:
            super()._tile(weights)
            lines, rows = np.arange(config.lines), np.arange(config.rows)
            numbers = lines[:, np.newaxis] * config.rows + rows
            return np.repeat(numbers[:, :, np.newaxis], config.columns, axis=2)

    test = self_test(config)
    (layer,), (plan,) = test.compiled.layers, test.compiled.plans
    numbers = Numbered(layer, plan, config).walk(test.codes[0])
    np.testing.assert_array_equal(test.units[0] * config.rows + test.units[1], numbers)


@pytest.mark.parametrize("config", [*CONFIGS, EIGHT], ids=lambda c: f"{c.lines} x {c.columns}")
def test_takes_what_sizing_counts(config: LinesConfig) -> None:
    small = replace(config, bank_words=-(-set_words(config) // config.banks))
    test = self_test(small)
    assert max(place.words for place in test.compiled.places.values()) == set_words(config)
    assert len(test.compiled.program.words) == program_words(config)
    assert -(-len(test.compiled.program.weights) // config.lines) == weight_rows(config)
    if config.columns >= 8:
        streaming = replace(small, streams=True, weight_rows=64)
        program, _ = with_self_test(self_test(streaming).compiled)
        assert len(program.words) == 2 * program_words(streaming) and not len(program.weights)


def test_stands_behind_the_model(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    y = g.conv(g.input(5, 6, 7), 21)
    config = LinesConfig(lines=3, columns=8, acc_width=20, weight_rows=400)
    compiled = compile_graph(g.graph(y), config)
    whole, test = with_self_test(compiled)
    model = compiled.program
    row = -(-len(model.weights) // config.lines)
    assert whole.words[: len(model.words)] == model.words
    assert whole.words[test.first_word :] == test.compiled.program.words
    np.testing.assert_array_equal(whole.weights[: len(model.weights)], model.weights)
    np.testing.assert_array_equal(
        whole.weights[row * config.lines :], self_test(config).compiled.program.weights
    )
    rows = -(-len(whole.weights) // config.lines)
    assert rows == row + weight_rows(config)
    assert len(test.compiled.program.words) == program_words(config)
    entry = test.manifest(64)
    assert entry["program"] == 64 + 8 * len(model.words)
    ((source,), (target,)) = entry["inputs"], entry["outputs"]
    place = test.compiled.places[OUTPUT]
    assert target["address"] == place.bank << 15 | place.offset
    assert (source["value"], source["shape"]) == (INPUT, [32, 3, 40])
    assert target["words"] == 2 * 3 * pitch(40) and target["pitch"] == 41
