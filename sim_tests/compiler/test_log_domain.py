"""Log-domain codes and sums against real arithmetic, float64 and brute force."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from qcompile.compiler.golden.log_domain import (
    CONSTANT_BITS,
    LogGrid,
    bias_code,
    class_constant,
    class_sums,
    encode,
    encode_real,
    exact_ceil,
    float_thresholds,
    joined,
    search_constants,
    thresholds,
    unit_bits,
)

GRIDS = [
    LogGrid(fsr=-40, step=16, levels=8),
    LogGrid(fsr=-91, step=16, levels=16),
    LogGrid(fsr=13, step=32, levels=4),
    LogGrid(fsr=-57, step=8, levels=16),
    LogGrid(fsr=-57, step=8, levels=32),
    LogGrid(fsr=-20, step=4, levels=32),
    LogGrid(fsr=5, step=3, levels=8),
    LogGrid(fsr=5, step=10, levels=16),
]
NAMES = [f"{grid.fsr}-{grid.step}-{grid.levels}" for grid in GRIDS]


def real_power(exponent: Fraction) -> Decimal:
    """2**exponent to 60 digits."""
    with localcontext(prec=60):
        return Decimal(2) ** (Decimal(exponent.numerator) / Decimal(exponent.denominator))


@pytest.mark.parametrize("grid", GRIDS, ids=NAMES)
def test_joined_sums_are_the_real_dot_product(grid: LogGrid, rng: np.random.Generator) -> None:
    weights = rng.integers(-127, 128, (50, 200))
    codes = rng.integers(0, grid.levels, (50, 200))
    found = joined(class_sums(weights, codes, grid), grid)
    real = (weights * grid.real_values[codes]).sum(axis=1)
    unit = 2 ** (grid.fsr / 16) / 2 ** unit_bits(grid)
    # Only C_f is rounded: half a unit in 2**12 of each product.
    allowed = (np.abs(weights) * grid.real_values[codes]).sum(axis=1) * 2.0**-13 + 1e-9
    exact = len(grid.classes) == 1
    np.testing.assert_allclose(found * unit, real, rtol=1e-12, atol=0 if exact else allowed.max())
    assert np.all(np.abs(found * unit - real) <= (1e-9 if exact else allowed))


@pytest.mark.parametrize(
    ("step", "count"), [(16, 1), (32, 1), (8, 2), (4, 4), (2, 8), (6, 8), (10, 8), (14, 8), (3, 16)]
)
def test_step_has_as_many_classes_as_residues(step: int, count: int) -> None:
    grid = LogGrid(fsr=0, step=step, levels=32)
    assert len(grid.classes) == count
    assert {(k * step) % 16 for k in range(31)} == set(grid.classes)


def test_class_constants_are_the_powers_rounded_to_twelve_bits() -> None:
    for residue in range(16):
        real = real_power(Fraction(residue, 16)) * 2**CONSTANT_BITS
        assert class_constant(residue) == int(real.to_integral_value())
    assert class_constant(8) == 5793


def test_ceilings_are_exact_for_rational_and_irrational_numbers(rng: np.random.Generator) -> None:
    for exponent in rng.integers(-700, 700, 200).tolist():
        factor = Fraction(int(rng.integers(1, 1 << 24)), int(rng.integers(1, 1 << 24)))
        with localcontext(prec=200):
            real = Decimal(factor.numerator) / factor.denominator
            real *= Decimal(2) ** (Decimal(exponent) / 32)
            assert exact_ceil(factor, exponent) == math.ceil(real)
    # Whole numbers are their own ceilings; the next rational above is not.
    assert exact_ceil(Fraction(3, 4), 160) == 24
    assert exact_ceil(Fraction(3, 4) + Fraction(1, 10**30), 160) == 25
    assert exact_ceil(Fraction(1, 10**30), 0) == 1


@pytest.mark.parametrize("grid", GRIDS, ids=NAMES)
def test_code_is_the_nearest_value_in_the_logarithmic_sense(grid: LogGrid) -> None:
    x = np.geomspace(2.0**-12, 2.0**14, 20_011).astype(np.float32)
    place = (16 * np.log2(x.astype(np.float64)) - grid.fsr) / grid.step
    clear = np.abs(place + 0.5 - np.rint(place + 0.5)) > 1e-6
    nearest = np.clip(np.floor(place + 0.5) + 1, 0, grid.levels - 1)
    assert clear.sum() > 20_000
    np.testing.assert_array_equal(encode_real(x, grid)[clear], nearest[clear])
    assert encode_real(np.array([0, -1, -1e30, 1e30], np.float32), grid).tolist() == [
        *(0, 0, 0),
        grid.levels - 1,
    ]
    # Every value is its own code.
    inside = grid.real_values.astype(np.float32)
    np.testing.assert_array_equal(encode_real(inside, grid), np.arange(grid.levels))


@pytest.mark.parametrize("grid", GRIDS, ids=NAMES)
def test_float_threshold_is_the_first_float_that_reaches_the_real_one(grid: LogGrid) -> None:
    for code, found in enumerate(float_thresholds(grid), start=1):
        real = real_power(Fraction(2 * grid.fsr + (2 * code - 3) * grid.step, 32))
        below = np.nextafter(found, np.float32(0))
        assert Decimal(float(below)) < real <= Decimal(float(found))


@pytest.mark.parametrize("inputs", GRIDS[:5], ids=NAMES[:5])
@pytest.mark.parametrize("outputs", GRIDS[:5], ids=NAMES[:5])
def test_thresholds_split_whole_numbers_as_the_real_ones_do(
    inputs: LogGrid, outputs: LogGrid, rng: np.random.Generator
) -> None:
    for scale in (2.0**-7, *rng.uniform(1e-4, 1e-1, 4).astype(np.float32).tolist()):
        for code, found in enumerate(thresholds(inputs, outputs, scale), start=1):
            exponent = Fraction(2 * outputs.fsr + (2 * code - 3) * outputs.step, 32)
            unit = Decimal(scale) * real_power(Fraction(inputs.fsr, 16)) / 2 ** unit_bits(inputs)
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
    outputs = LogGrid(fsr=-30, step=step, levels=16)
    for scale in rng.uniform(1e-4, 1e-1, 50).astype(np.float32).tolist():
        reached = thresholds(GRIDS[3], outputs, scale)
        kept = search_constants(reached, step)
        for below, value in enumerate(reversed(reached)):
            nearer = below % len(kept)
            octaves = (below - nearer) * step // 16
            assert value == -(-kept[nearer] >> octaves)


def test_bias_is_rounded_to_the_nearest_unit(rng: np.random.Generator) -> None:
    for grid in GRIDS:
        for bias in rng.normal(0, 3, 20).astype(np.float32).tolist():
            unit = 0.0123 * 2 ** (grid.fsr / 16) / 2 ** unit_bits(grid)
            assert abs(bias_code(bias, 0.0123, grid) - bias / unit) <= 0.5 + 1e-6
    assert bias_code(0.0, 0.5, GRIDS[0]) == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"step": 0}, r"^step must be 1 to 32, not 0$"),
        ({"step": 33}, r"^step must be 1 to 32, not 33$"),
        ({"levels": 1}, r"^levels must be 2 to 32, not 1$"),
        ({"levels": 33}, r"^levels must be 2 to 32, not 33$"),
    ],
)
def test_grid_outside_its_ranges_is_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogGrid(**{"fsr": 0, "step": 16, "levels": 8, **fields})
