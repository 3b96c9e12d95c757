"""Fixed-point formats: F8Net's thresholds by quadrature and by its own procedure, PACT's factor."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from qcompile.compiler.quantize.fixed_point import (
    STD_RULE,
    Format,
    clamped,
    fraction_by_search,
    fraction_by_std,
    pact_factor,
)

FloatArray = npt.NDArray[np.float64]
NODES = 50_001
"""Points of the quadrature: a code's step has about 150 at the thresholds."""


def normal_error(spread: float, *, signed: bool) -> float:
    """E[(fix(u) - u)^2] / spread^2 for a normal u of deviation `spread`, rectified if unsigned.

    `u` counts steps of the format: what fix does to x at FL it does to u = x * 2**FL at FL 0.
    """
    z = np.linspace(-9.0 if signed else 0.0, 9.0, NODES)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    u = z * spread
    error = (Format(signed=signed, fraction=0).codes(u) - u) ** 2
    return float(np.sum(error * density) * (z[1] - z[0])) / spread**2


def exact_threshold(*, signed: bool) -> float:
    """The deviation in steps from which a format of one bit less fraction has the smaller error."""
    low, high = (30.0, 60.0) if signed else (50.0, 100.0)
    for _ in range(40):
        middle = (low + high) / 2
        better = normal_error(middle, signed=signed) > normal_error(middle / 2, signed=signed)
        low, high = (low, middle) if better else (middle, high)
    return low


@pytest.mark.parametrize(("signed", "threshold"), [(True, 39.22), (False, 72.12)])
def test_threshold_of_sigma_by_quadrature(signed: bool, threshold: float) -> None:
    assert exact_threshold(signed=signed) == pytest.approx(threshold, abs=0.005)


@pytest.mark.parametrize(
    ("signed", "spread", "error"), [(True, 32.4, 0.0094), (False, 60.7, 0.0035)]
)
def test_best_sigma_of_a_format_by_quadrature(signed: bool, spread: float, error: float) -> None:
    tried = np.arange(0.8 * spread, 1.2 * spread, 0.1)
    errors = [normal_error(one, signed=signed) for one in tried]
    assert tried[int(np.argmin(errors))] == pytest.approx(spread, rel=0.005)
    # Of rectified values the error is relative to the deviation of the normal ones.
    assert math.sqrt(min(errors)) == pytest.approx(error, abs=0.00006)


def first_crossing(dice: np.random.Generator, fraction: int, *, signed: bool) -> float:
    """sigma * 2**FL at the first sigma of a rising series whose samples a shorter FL suits better.

    F8Net's figure was made so, with 10,000 samples a sigma. Noise makes it come early, the earlier
    the finer the series is: here it has 200 sigmas a decade.
    """
    formats = [Format(signed=signed, fraction=one) for one in (fraction, fraction - 1)]
    for spread in np.geomspace(33, 104, 100) if signed else np.geomspace(60, 190, 100):
        values = dice.normal(0, spread / 2**fraction, 10_000)
        values = values if signed else np.maximum(values, 0)
        errors = [np.sum((one.fix(values) - values) ** 2) for one in formats]
        if errors[1] < errors[0]:
            return float(spread)
    raise AssertionError("no sigma of the series asks for a shorter fraction")


@pytest.mark.parametrize(("signed", "paper"), [(True, 38.05), (False, 69.02)])
def test_first_crossing_of_samples_is_near_the_figure_of_the_paper(
    rng: np.random.Generator, signed: bool, paper: float
) -> None:
    found = [first_crossing(rng, fraction, signed=signed) for fraction in (2, 3, 4, 5) * 4]
    assert np.mean(found) == pytest.approx(paper, rel=0.025)
    assert np.mean(found) < exact_threshold(signed=signed)


@pytest.mark.parametrize(("signed", "share"), [(True, 0.96), (False, 0.95)])
def test_rule_of_the_deviation_mostly_finds_the_best_format(signed: bool, share: float) -> None:
    threshold, rule = exact_threshold(signed=signed), STD_RULE[signed]
    # sigmas uniform between two thresholds: they differ between threshold and rule alone
    assert 1 - abs(rule - threshold) / min(rule, threshold) >= share


@pytest.mark.parametrize(
    ("signed", "sigma", "fraction"),
    [
        *[(True, 40.0, 0), (True, 20.0, 1), (True, 20.1, 0), (True, 0.3, 7), (True, 900.0, 0)],
        *[(False, 70.0, 0), (False, 35.0, 1), (False, 35.1, 0), (False, 0.2, 8), (False, 0.0, 8)],
    ],
)
def test_format_by_std_is_the_rule(signed: bool, sigma: float, fraction: int) -> None:
    chosen = clamped(fraction_by_std(sigma, signed=signed), signed=signed)
    assert chosen == Format(signed=signed, fraction=fraction)


@pytest.mark.parametrize("signed", [True, False])
def test_fraction_by_search_has_the_least_error(rng: np.random.Generator, signed: bool) -> None:
    for spread in (0.01, 0.4, 5.0, 70.0):
        values = np.append(rng.normal(0, spread, 2000), 30 * spread)
        found = fraction_by_search(values, signed=signed)
        errors = {
            fraction: np.sum((np.clip(np.rint(values * 2.0**fraction), -127 * signed,
                                      127 if signed else 255) / 2.0**fraction - values) ** 2)
            for fraction in range(-6, 17)
        }  # fmt: skip
        assert found == min(errors, key=lambda fraction: errors[fraction])
    assert fraction_by_search(np.zeros(3), signed=signed) == 7 + (not signed)


def test_codes_round_ties_to_even_and_stay_symmetric() -> None:
    values = np.array([-200.0, -63.75, -0.25, 0.25, 0.75, 63.5, 64.0])
    assert Format(signed=True, fraction=1).codes(values).tolist() == [-127, -127, 0, 0, 2, 127, 127]
    assert Format(signed=False, fraction=1).codes(values).tolist() == [0, 0, 0, 0, 2, 127, 128]
    assert str(Format(signed=False, fraction=8)) == "u8.8"


def test_product_of_two_numbers_in_q12() -> None:
    q12 = Format(signed=True, fraction=12, bits=16)
    codes = q12.codes(np.array([2.918, 3.1415926]))
    assert codes.tolist() == [11952, 12868]
    product = int(codes[0]) * int(codes[1]) / 2**24
    assert f"{product:.9f}" == "9.167095184"
    assert product == pytest.approx(2.918 * 3.1415926, abs=(2.918 + 3.15) * 2**-13)


def test_format_with_too_long_a_fraction_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^the fractional length must be 0 to 7, not 8$"):
        Format(signed=True, fraction=8)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("alpha", [8.0, 2.7182818])
def test_clip_of_pact_is_fix_with_its_factor(
    rng: np.random.Generator, signed: bool, alpha: float
) -> None:
    x = rng.normal(0, alpha, 1000)
    largest = 127 if signed else 255
    codes = np.rint(largest / alpha * np.clip(x, -alpha if signed else 0, alpha))
    pact = alpha / largest * codes
    for fraction in range(8):
        chosen = Format(signed=signed, fraction=fraction)
        eta = pact_factor(alpha, chosen)
        np.testing.assert_allclose(eta * chosen.fix(x / eta), pact, rtol=1e-12)
