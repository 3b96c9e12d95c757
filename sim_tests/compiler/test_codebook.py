"""Clusters by weighted entropy and least squared error, against exhaustive search."""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest

from qcompile.compiler.quantize import squared_error
from qcompile.compiler.quantize.weighted_entropy import cluster

DEMO = [0.5, -1.2, 2.3, -3.1, 0.1, -1.4, 2.7, -0.3, 4.1]
"""numerics.md 4.4 gives results alone. Its representatives and the port's wrong ones (2.55 is
(9.61 - 1.96) / 3) fix 1.4, 2.3, 2.7, 3.1 and 4.1; the other four are 1.4 at most."""

Floats = npt.NDArray[np.float64]


def signed_codes(weights: list[float], levels: int) -> list[int]:
    indices = cluster(np.array(weights), levels).indices(np.array(weights))
    return [
        int(math.copysign(index, weight)) for index, weight in zip(indices, weights, strict=True)
    ]


@pytest.mark.parametrize("small", [(0.5, 1.2, 0.1, 0.3), (1.4, 1.4, 1.4, 1.4), (0, 0, 0, 0)])
def test_corrected_demo_of_weighted_entropy(small: tuple[float, ...]) -> None:
    weights = list(DEMO)
    for place, value in zip((0, 1, 4, 7), small, strict=True):
        weights[place] = math.copysign(value, DEMO[place])
    found = cluster(np.array(weights), 5)
    np.testing.assert_allclose(found.representatives, [0, 2.71968, 4.1], atol=5e-6)
    np.testing.assert_allclose(found.boundaries, [0, 2.3, 4.1], rtol=1e-12)
    assert signed_codes(weights, 5) == [0, 0, 1, -1, 0, 0, 1, 0, 2]


def entropy_of(weights: Floats, cuts: tuple[int, ...], levels: int) -> float:
    """S of clusters that end in front of the cuts-th sorted importance, by its definition."""
    importance = np.sort(weights**2)
    total = 0.0
    for n, (low, high) in enumerate(itertools.pairwise((0, *cuts, len(importance)))):
        if n or levels % 2 == 0:
            share = (high - low) / len(importance)
            total -= importance[low:high].mean() * share * math.log(share / 2)
    return total


def test_boundary_search_finds_the_highest_entropy() -> None:
    dice = np.random.default_rng(5)
    for _ in range(60):
        levels = int(dice.integers(2, 8))
        half = (levels + 1) // 2
        weights = dice.normal(size=int(dice.integers(half, 13)))
        ways = itertools.combinations(range(1, len(weights)), half - 1)
        highest = max(entropy_of(weights, cuts, levels) for cuts in ways)
        assert cluster(weights, levels).entropy == pytest.approx(highest, rel=1e-9)


def test_representatives_are_the_root_mean_square_of_their_members() -> None:
    weights = np.random.default_rng(6).laplace(size=3000)
    found = cluster(weights, 16)
    indices = found.indices(weights)
    assert len(found.representatives) == 8
    for n, representative in enumerate(found.representatives):
        members = weights[indices == n]
        assert representative == pytest.approx(np.sqrt(np.mean(members**2)), rel=1e-9)
        assert np.abs(members).min() >= found.boundaries[n]


def test_fewer_weights_than_levels_make_fewer_clusters() -> None:
    """W5: three weights with six levels end in log(0) in the circulating port."""
    found = cluster(np.array([1.0, -2.0, 1.0]), 6)
    np.testing.assert_allclose(found.representatives, [1, 2])
    np.testing.assert_allclose(found.rounded(np.array([1.0, -2.0, 1.0])), [1, -2, 1])
    assert cluster(np.zeros(4), 5).rounded(np.zeros(4)).tolist() == [0, 0, 0, 0]


def test_equal_weights_are_never_parted() -> None:
    weights = np.repeat([0.5, 1.0, 2.0], [5, 50, 5])
    rounded = cluster(weights, 4).rounded(weights)
    assert all(len(set(rounded[weights == one])) == 1 for one in (0.5, 1.0, 2.0))


def squares(values: Floats, codebook: npt.ArrayLike, importance: Floats) -> float:
    distances = np.min((values[:, None] - np.asarray(codebook, float)) ** 2, axis=1)
    return float(np.sum(importance * distances))


def test_best_codebook_has_the_least_squared_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squared_error, "LIMIT", 6)
    others = [one for one in range(-6, 7) if one]
    dice = np.random.default_rng(8)
    for levels in (1, 2, 3, 4):
        for _ in range(10):
            values = dice.normal(scale=3, size=int(dice.integers(1, 20)))
            importance = dice.uniform(0, 2, values.shape)
            ways = itertools.combinations(others, levels - 1)
            least = min(squares(values, (0, *way), importance) for way in ways)
            found = squared_error.best_codebook(values[None], levels, importance)
            assert squares(values, found, importance) == pytest.approx(least, abs=1e-9)
            assert 0 in found
            assert len(found) <= levels
            evenly = squared_error.best_codebook(values.reshape(1, -1, 1), levels)
            np.testing.assert_array_equal(
                evenly, squared_error.best_codebook(values, levels, np.ones(values.shape))
            )


def test_best_codebook_of_every_size_holds_zero_and_gets_better() -> None:
    values = np.clip(np.random.default_rng(9).laplace(size=5000) * 20, -127, 127)
    errors = []
    for levels in range(1, 33):
        found = squared_error.best_codebook(values, levels)
        assert found.dtype == np.int8
        assert 0 in found
        assert len(found) == levels
        errors.append(squares(values, found, np.ones(values.shape)))
    assert errors == sorted(errors, reverse=True)
