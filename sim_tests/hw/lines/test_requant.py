"""The requantization unit with multipliers against golden: edges, near ties, wide sums, netlist."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.golden.numerics import round_to_significand
from qcompile.hw.lines.requant import LARGEST_SHIFT, RequantDsp
from qcompile.hw.program import FRACTION_BITS
from qcompile.hw.requantizer import RequantConfig
from sim_tests.hw import xc7
from sim_tests.hw.requant_values import (
    LAYERS,
    Columns,
    assert_codes,
    by_float32,
    by_golden,
    simulate,
    vectors,
    wide_sums,
)

pytestmark = pytest.mark.cosim

VALUES = 340_000
"""Of each layer's constants; two million in all."""
SHIFTS = range(LARGEST_SHIFT + 1)
NEAR = (0, 1, 63, 64, 65, 127, 128, 129)
EXTREMES = [
    *(sign * (2**bit + n) for bit in (23, 24, 25, 30) for sign in (-1, 1) for n in (-1, 0, 1)),
    *(2**31 - 1 - less for less in NEAR),
    *(-(2**31) + more for more in NEAR),
]
"""Sums around which the first rounding starts, changes its step, or overflows 31 bits."""


def extremes() -> Columns:
    """Those sums under every shift and the extreme mantissas."""
    constants = [(m, n) for m in (0, 2**23, 2**23 + 1, 2**24 - 1) for n in SHIFTS]
    mantissa, shift = np.tile(constants, (len(EXTREMES), 1)).T
    return np.repeat(np.array(EXTREMES), len(constants)), mantissa, shift


def values(config: RequantConfig, rng: np.random.Generator, count: int) -> Columns:
    """All kinds together, `count` of them random."""
    live = range(16, LARGEST_SHIFT + 1)
    parts = (
        extremes(),
        wide_sums(rng, count // 3, live),
        vectors(config, rng, live, count // 3),
        vectors(config, rng, SHIFTS, count // 3),
    )
    total, mantissa, shift = np.concatenate(parts, axis=1)
    return total, mantissa, shift


@pytest.mark.parametrize("layer", LAYERS)
def test_codes_are_those_of_golden_and_of_float32(
    layer: tuple[int, int, int, bool], tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    unit = RequantDsp(24)
    columns = values(unit.config, rng, VALUES)
    got = simulate(unit, columns, layer, tmp_path, rng, seed)
    assert got.size >= VALUES
    assert_codes(got, by_golden(*columns, layer), columns)
    assert_codes(got, by_float32(*columns, layer), columns)


@pytest.mark.parametrize("acc_width", [20, 28, 32])
def test_codes_are_those_of_golden_in_other_sizes(
    acc_width: int, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    unit = RequantDsp(acc_width)
    columns = values(unit.config, rng, 60_000)
    layer = LAYERS[acc_width // 4 % len(LAYERS)]
    got = simulate(unit, columns, layer, tmp_path, rng, seed)
    assert_codes(got, by_golden(*columns, layer), columns)


@pytest.mark.parametrize("acc_width", [24, 32])
def test_sums_with_a_fraction_are_not_rounded_first(
    acc_width: int, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    unit = RequantDsp(acc_width)
    columns = values(unit.config, rng, 60_000)
    layer = (-7, -128, 127, True)
    got = simulate(unit, columns, layer, tmp_path, rng, seed, fraction=FRACTION_BITS)
    expected = by_golden(*columns, layer, fraction=FRACTION_BITS)
    assert_codes(got, expected, columns)
    assert np.any(expected != by_golden(*columns, layer)), "nothing would be rounded"


def test_wide_sums_reach_every_case_of_the_first_rounding(rng: np.random.Generator) -> None:
    total, _, shift = wide_sums(rng, 20_000, range(16, LARGEST_SHIFT + 1))
    magnitude = np.abs(total)
    bits = np.floor(np.log2(magnitude)).astype(np.int64) + 1
    rounded = np.abs(round_to_significand(total))
    for length in range(25, 32):
        of_length = bits == length
        half = of_length & (magnitude % (1 << (length - 24)) == 1 << (length - 25))
        assert np.sum(half & (rounded > magnitude)) > 20, length
        assert np.sum(half & (rounded < magnitude)) > 20, length
    assert shift.max() <= LARGEST_SHIFT


def test_netlist_has_two_multipliers_and_gives_the_same_codes(
    tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    unit = RequantDsp(24)
    netlist = xc7.synthesize(unit)
    print("RequantDsp(24):", netlist)
    assert netlist.multipliers == 2
    assert netlist.block_rams == 0
    assert netlist.luts <= 400
    assert netlist.flip_flops <= 360
    assert netlist.depth <= 6
    columns = values(unit.config, rng, 6_000)
    got = simulate(unit, columns, LAYERS[4], tmp_path, rng, seed, netlist=netlist)
    assert_codes(got, by_golden(*columns, LAYERS[4]), columns)
