"""Log-domain codes and sums against real arithmetic, float64 and brute force."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from qcompile.compiler.golden.log_domain import (
    CONSTANT_BITS,
    class_constant,
    class_sums,
    encode,
    exact_ceil,
    fraction_bits,
    joined,
    residue_classes,
    search_constants,
    thresholds,
)
from qcompile.compiler.log_format import LogFormat

GRIDS = [
    LogFormat(fsr=-40, step=16, levels=8),
    LogFormat(fsr=-91, step=16, levels=16),
    LogFormat(fsr=13, step=32, levels=4),
    LogFormat(fsr=-57, step=8, levels=16),
    LogFormat(fsr=-57, step=8, levels=32),
    LogFormat(fsr=-20, step=4, levels=32),
    LogFormat(fsr=5, step=6, levels=8),
    LogFormat(fsr=5, step=10, levels=16),
]
NAMES = [f"{grid.fsr}-{grid.step}-{grid.levels}" for grid in GRIDS]


def real_power(exponent: Fraction) -> Decimal:
    """2**exponent to 60 digits."""
    with localcontext(prec=60):
        return Decimal(2) ** (Decimal(exponent.numerator) / Decimal(exponent.denominator))


@pytest.mark.parametrize("grid", GRIDS, ids=NAMES)
def test_joined_sums_are_the_real_dot_product(grid: LogFormat, rng: np.random.Generator) -> None:
    weights = rng.integers(-127, 128, (50, 200))
    codes = rng.integers(0, grid.levels, (50, 200))
    bias = rng.integers(-(2**20), 2**20, 50)
    exponents = (np.arange(grid.levels - 1) * grid.step) / 16
    values = np.append(0.0, np.exp2(exponents))[codes]
    real = (weights * values).sum(axis=1) + bias
    unit = 2.0 ** -fraction_bits(grid.step)
    found = joined(class_sums(weights, codes, grid.step), bias, grid.step) * unit
    # Only C_f is rounded: half a unit in 2**12 of each product.
    rounding = 2.0**-13 if fraction_bits(grid.step) else 0.0
    allowed = (np.abs(weights) * values).sum(axis=1) * rounding + 1e-6
    assert np.all(np.abs(found - real) <= allowed)


@pytest.mark.parametrize(
    ("step", "count"), [(16, 1), (32, 1), (8, 2), (4, 4), (2, 8), (6, 8), (10, 8), (14, 8), (24, 2)]
)
def test_step_has_as_many_classes_as_residues(step: int, count: int) -> None:
    assert len(residue_classes(step)) == count
    assert {(k * step) % 16 for k in range(31)} == set(residue_classes(step))


def test_class_constants_are_the_powers_rounded_to_twelve_bits() -> None:
    for residue in range(16):
        real = real_power(Fraction(residue, 16)) * 2**CONSTANT_BITS
        assert class_constant(residue) == int(real.to_integral_value())
    assert class_constant(8) == 46341


def test_ceilings_are_exact_for_rational_and_irrational_numbers(rng: np.random.Generator) -> None:
    for exponent in rng.integers(-700, 700, 200).tolist():
        factor = Fraction(int(rng.integers(1, 1 << 24)), int(rng.integers(1, 1 << 24)))
        with localcontext(prec=200):
            real = Decimal(factor.numerator) / factor.denominator
            real *= Decimal(2) ** (Decimal(exponent) / 16)
            assert exact_ceil(factor, exponent) == math.ceil(real)
    # Whole numbers are their own ceilings; the next rational above is not.
    assert exact_ceil(Fraction(3, 4), 80) == 24
    assert exact_ceil(Fraction(3, 4) + Fraction(1, 10**30), 80) == 25
    assert exact_ceil(Fraction(1, 10**30), 0) == 1


@pytest.mark.parametrize("grid", GRIDS, ids=NAMES)
def test_format_begins_each_code_at_the_first_float_that_reaches_the_threshold(
    grid: LogFormat,
) -> None:
    for code, found in enumerate(grid.thresholds, start=1):
        real = real_power(Fraction(2 * grid.fsr + (2 * code - 3) * grid.step, 32))
        below = np.nextafter(found, np.float32(0))
        assert Decimal(float(below)) < real <= Decimal(float(found))


@pytest.mark.parametrize("inputs", GRIDS[:5], ids=NAMES[:5])
@pytest.mark.parametrize("outputs", GRIDS[:5], ids=NAMES[:5])
def test_thresholds_split_whole_numbers_as_the_real_ones_do(
    inputs: LogFormat, outputs: LogFormat, rng: np.random.Generator
) -> None:
    for scale in (2.0**-7, *rng.uniform(1e-4, 1e-1, 4).astype(np.float32).tolist()):
        for code, found in enumerate(thresholds(inputs, outputs, scale), start=1):
            exponent = Fraction(2 * outputs.fsr + (2 * code - 3) * outputs.step, 32)
            unit = (
                Decimal(scale)
                * real_power(Fraction(inputs.fsr, 16))
                / 2 ** fraction_bits(inputs.step)
            )
            with localcontext(prec=50):
                assert (found - 1) * unit < real_power(exponent) <= found * unit


def test_code_counts_the_thresholds_reached_and_rectifies() -> None:
    reached = thresholds(GRIDS[0], GRIDS[1], 0.004)
    edges = [value + d for value in reached for d in (-1, 0, 1)] + [-(2**40), -1, 0, 2**40]
    counted = [sum(value <= total for value in reached) for total in edges]
    assert encode(np.array(edges), reached).tolist() == counted
    assert counted[-4:] == [0, 0, 0, 15]


@pytest.mark.parametrize("step", [4, 8, 16, 32])
def test_last_thresholds_shifted_are_all_the_others(step: int, rng: np.random.Generator) -> None:
    outputs = LogFormat(fsr=-30, step=step, levels=16)
    for scale in rng.uniform(1e-4, 1e-1, 50).astype(np.float32).tolist():
        reached = thresholds(GRIDS[3], outputs, scale)
        kept = search_constants(reached, step)
        for below, value in enumerate(reversed(reached)):
            nearer = below % len(kept)
            octaves = (below - nearer) * step // 16
            assert value == -(-kept[nearer] >> octaves)
