"""Logarithmic activations: the grid search against its definition, codes against logarithms."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from qcompile.compiler.log_format import LogFormat
from qcompile.compiler.quantize.log_quant import CRITERIA, STEPS, find_format, near_formats

DEMO = np.array([-0.5, 1.2, 2.3, -3.1, 0.1, 0.4, 2.7, -0.3, 14.1])
"""numerics.md 4.4 gives results alone: these inputs reach them. The last one's bin, 61, fixes fsr
and step: of all with fsr + 1.5 * step <= 61 it is 13 and 32 that give the last level most."""

Floats = npt.NDArray[np.float64]


def test_corrected_demo_of_log_quant() -> None:
    found = find_format(DEMO, 4, "entropy")
    assert (found.fsr, found.step) == (13, 32)
    expected = [0, 1.756, 1.756, 0, 0, 0, 1.756, 0, 28.1]
    np.testing.assert_allclose(found.rounded(DEMO), expected, rtol=3e-4)
    np.testing.assert_array_equal(found.codes(DEMO), [0, 1, 1, 0, 0, 0, 1, 0, 3])


def scores(x: Floats, levels: int) -> dict[tuple[int, int], tuple[float, float]]:
    """Squared error of bins' means (plus a constant) and entropy of every (step, fsr)."""
    bins: dict[int, list[float]] = {}
    for value in x[x > 0]:
        bins.setdefault(math.floor(16 * math.log2(value)), []).append(value)
    found = {}
    for step in STEPS:
        for fsr in range(min(bins) - levels * step - 1, max(bins) + step + 2):
            members = [[0, 0.0] for _ in range(levels)]
            for place, held in bins.items():
                level = min(levels - 1, max(0, (place - fsr + step // 2) // step + 1))
                members[level][0] += len(held)
                members[level][1] += sum(held)
            values = [2 ** ((fsr + i * step) / 16) for i in range(levels - 1)]
            pairs = list(zip(values, members[1:], strict=True))
            total = len(x[x > 0])
            error = sum(v * v * n - 2 * v * s for v, (n, s) in pairs)
            entropy = -sum(v * n / total * math.log(n / total) for v, (n, _) in pairs if n)
            found[step, fsr] = (error, entropy)
    return found


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_search_finds_the_best_of_all_formats(levels: int) -> None:
    dice = np.random.default_rng(levels)
    x = dice.normal(size=40) * 2.0 ** dice.integers(-3, 3)
    every = scores(x, levels)
    errors = {key: error for key, (error, _) in every.items()}
    entropies = {key: entropy for key, (_, entropy) in every.items()}
    least, most = find_format(x, levels, "mse"), find_format(x, levels, "entropy")
    assert errors[least.step, least.fsr] == pytest.approx(min(errors.values()))
    assert entropies[most.step, most.fsr] == pytest.approx(max(entropies.values()))


def test_codes_are_rounded_logarithms() -> None:
    """numerics.md 4.2: k = min(L - 2, round((16 log2 x - fsr) / step)), code k + 1, 0 below."""
    dice = np.random.default_rng(4)
    x = np.exp2(dice.uniform(-9, 5, 4000)).astype(np.float32)
    for one in (LogFormat(fsr=-53, step=6, levels=16), LogFormat(fsr=-100, step=16, levels=8)):
        exact = (16 * np.log2(x.astype(np.float64)) - one.fsr) / one.step
        apart = np.abs(exact - np.floor(exact) - 0.5) > 1e-5  # float32 thresholds decide these
        expected = np.clip(np.floor(exact + 0.5), -1, one.levels - 2) + 1
        np.testing.assert_array_equal(one.codes(x)[apart], expected[apart])
        assert set(one.codes(x)) == set(range(one.levels))
        np.testing.assert_array_equal(one.codes(one.values), range(one.levels))
        np.testing.assert_array_equal(one.codes(one.thresholds), range(1, one.levels))
        below = np.nextafter(one.thresholds, np.float32(0))
        np.testing.assert_array_equal(one.codes(below), range(one.levels - 1))
        np.testing.assert_array_equal(one.codes(np.array([0.0, -1.0, -np.inf])), 0)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_degenerate_values_have_a_format(criterion: str) -> None:
    """A8, A10, A11, A13: no positive values, one, narrow ones, and ones beyond the histogram."""
    assert criterion in ("mse", "entropy")
    for x in ([0.0, -3.0], [0.25], [7.0, 7.0, 7.0], [1e-30, 1e-20], [1e-30, 1.0], [1e30]):
        found = find_format(np.array(x), 4, "mse" if criterion == "mse" else "entropy")
        assert found.step in STEPS
        assert np.isfinite(found.rounded(np.array(x))).all()
    assert find_format(np.array([0.25]), 4, "mse").rounded(np.array([0.25]))[0] == 0.25


def test_steps_can_be_kept_to_whole_octaves() -> None:
    x = np.abs(np.random.default_rng(2).normal(size=2000))
    found = find_format(x, 16, "mse", steps=(16,))
    assert found.step == 16
    assert len(set(np.round(found.values[1:] / found.values[1], 6) % 1)) == 1


def test_near_formats_hold_the_best_and_no_far_ones() -> None:
    x = np.maximum(np.random.default_rng(3).normal(size=4000), 0)
    near = near_formats(x, 16)
    errors = [float(np.sum((x - one.rounded(x)) ** 2)) for one in near]
    assert near[int(np.argmin(errors))] == find_format(x, 16, "mse")
    steps = {one.step for one in near}
    assert {4, 6, 8} <= steps
    assert not {2, 32} & steps
    assert {one.step for one in near_formats(x, 16, (16,))} == {16}
    assert near_formats(np.zeros(3), 16) == (find_format(np.zeros(3), 16),)


def noise_db(x: Floats, found: LogFormat) -> float:
    return float(10 * np.log10(np.sum(x**2) / np.sum((x - found.rounded(x)) ** 2)))


@pytest.mark.parametrize(("levels", "expected"), [(8, 17.9), (16, 22.4), (32, 26.1)])
def test_ratio_of_signal_to_noise_is_as_measured_elsewhere(levels: int, expected: float) -> None:
    """numerics.md 4.2, rectified gaussian, fsr and step by squared error."""
    x = np.maximum(np.random.default_rng(1).normal(size=100_000), 0)
    assert noise_db(x, find_format(x, levels, "mse")) == pytest.approx(expected, abs=0.15)
