"""Requantization units against float32 arithmetic as ONNX Runtime does it, and against golden."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.golden import numerics
from qcompile.hw.program import FRACTION_BITS
from qcompile.hw.requant import RequantExact, RequantShift
from qcompile.hw.requantizer import RequantConfig
from sim_tests.hw.requant_values import (
    LAYERS,
    assert_codes,
    by_float32,
    by_golden,
    near_halves,
    simulate,
    vectors,
)

pytestmark = pytest.mark.cosim


@pytest.mark.parametrize("layer", LAYERS)
def test_exact_unit_computes_what_float32_computes(
    layer: tuple[int, int, int, bool], tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    config = RequantConfig()
    columns = vectors(config, rng, range(config.max_shift - 31, config.max_shift + 1))
    got = simulate(RequantExact(config), columns, layer, tmp_path, rng, seed)
    assert_codes(got, by_golden(*columns, layer), columns)
    assert_codes(got, by_float32(*columns, layer), columns)


@pytest.mark.parametrize(
    "config",
    [
        RequantConfig(acc_width=20, max_shift=39, rows_per_stage=3),
        RequantConfig(acc_width=32, max_shift=31, rows_per_stage=6),
        RequantConfig(acc_width=28, max_shift=47, rows_per_stage=12),
    ],
    ids=str,
)
def test_exact_unit_is_exact_in_other_sizes(
    config: RequantConfig, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    columns = vectors(config, rng, range(config.max_shift - 31, config.max_shift + 1))
    if config.max_shift > 39:  # accumulators of more than 24 bits may not saturate there
        total, mantissa, shift = (column[np.abs(columns[0]) <= 2**24] for column in columns)
        columns = (total, mantissa, shift)
    layer = (5, -128, 127, True)
    got = simulate(RequantExact(config), columns, layer, tmp_path, rng, seed)
    assert_codes(got, by_golden(*columns, layer), columns)


@pytest.mark.parametrize("max_shift", [39, 55])
def test_exact_unit_multiplies_sums_with_a_fraction_as_they_are(
    max_shift: int, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    config = RequantConfig(acc_width=28, max_shift=max_shift)
    columns = vectors(config, rng, range(max_shift - 31, max_shift + 1))
    layer = (-7, -128, 127, False)
    unit = RequantExact(config)
    got = simulate(unit, columns, layer, tmp_path, rng, seed, fraction=FRACTION_BITS)
    assert_codes(got, by_golden(*columns, layer, fraction=FRACTION_BITS), columns)


def test_vectors_contain_products_that_become_halves_by_rounding(
    rng: np.random.Generator,
) -> None:
    magnitude, mantissa, shift = near_halves(rng, 10_000, range(24, 40))
    exact = magnitude * mantissa
    half = np.left_shift(1, shift - 1)
    rounded = numerics.round_to_significand(exact)
    becomes = (rounded & (2 * half - 1) == half) & (exact & (2 * half - 1) != half)
    below = becomes & (exact < rounded)
    above = becomes & (exact > rounded)
    assert min(below.sum(), above.sum()) > 500


@pytest.mark.parametrize("layer", LAYERS)
def test_shift_unit_rounds_half_to_even(
    layer: tuple[int, int, int, bool], tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    config = RequantConfig()
    total, mantissa, shift = vectors(config, rng, range(0, 32))
    ties = (2 * rng.integers(-200, 200, total.size) + 1) << np.maximum(shift - 1, 0)
    ties += rng.integers(-1, 2, total.size)
    use = (rng.integers(0, 2, total.size) == 1) & (np.abs(ties) < 2**31)
    columns = (np.where(use, ties, total), mantissa, shift)
    got = simulate(RequantShift(config), columns, layer, tmp_path, rng, seed)
    assert_codes(got, by_golden(*columns, layer, mode="shift"), columns)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("acc_width", 16, r"^acc_width must be one of \(20, 24, 28, 32\), not 16$"),
        ("max_shift", 40, r"^max_shift must be 31, 39, 47 or 55, not 40$"),
        ("rows_per_stage", 0, r"^rows_per_stage must be 1 to 12, not 0$"),
    ],
)
def test_configuration_refuses_what_cannot_be_built(field: str, value: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RequantConfig(**{field: value})
