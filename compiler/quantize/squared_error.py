"""The int8 codebook with the least squared error: optimal, not an iteration's local optimum.

Clusters of real numbers are intervals, so the best values are a shortest path over the 255 integers
that a value may be: an edge from one value to the next costs the errors of the numbers in between.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
LIMIT = 127
"""Codebooks are of -127..127, as weights are."""


def best_codebook(values: Array, levels: int, importance: Array | None = None) -> Array:
    """At most `levels` ascending int8, 0 one of them, with the least sum of weighted squares.

    `values` are weights over their scale, of any shape; `importance` weighs each one's square.
    """
    first, between = _costs(values, importance)
    last, mirrored = _costs(-np.asarray(values), importance)
    below, above = _paths(first, between, levels), _paths(last, mirrored, levels)
    totals = [below[k][0][LIMIT] + above[levels - 1 - k][0][LIMIT] for k in range(levels)]
    low = int(np.argmin(totals))
    left, right = _trace(below, low), _trace(above, levels - 1 - low)
    centres = {0, *(place - LIMIT for place in left), *(LIMIT - place for place in right)}
    return np.array(sorted(centres), np.int8)


Paths = list[tuple[Array, Array]]
"""For k values below a place's own: each place's least cost of the numbers below it, and the place
before it. Infinite where there are not so many integers."""


def _costs(values: Array, importance: Array | None) -> tuple[Array, Array]:
    """Errors of the numbers below each integer -LIMIT..LIMIT, and between each two: [i, j], i < j.

    Numbers between two integers count from the nearer one.
    """
    flat = np.asarray(values, np.float64).reshape(-1)
    given = np.float64(1) if importance is None else importance
    weights = np.broadcast_to(given, np.shape(values)).reshape(-1)
    order = np.argsort(flat, kind="stable")
    flat, weights = flat[order], weights[order]
    moments = [np.append(0.0, np.cumsum(weights * flat**power)) for power in range(3)]

    def errors(centre: Array, low: Array, high: Array) -> Array:
        """Of the sorted numbers low..high - 1, seen from a centre."""
        zeroth, first, second = (one[high] - one[low] for one in moments)
        return np.asarray(second - 2 * centre * first + centre**2 * zeroth)

    centres = np.arange(-LIMIT, LIMIT + 1)
    starts = np.searchsorted(flat, centres)
    low, high = np.triu_indices(len(centres), 1)
    middles = np.searchsorted(flat, (centres[low] + centres[high]) / 2)
    between = np.full((len(centres), len(centres)), np.inf)
    between[low, high] = errors(centres[low], starts[low], middles)
    between[low, high] += errors(centres[high], middles, starts[high])
    return errors(centres, np.zeros_like(starts), starts), between


def _paths(first: Array, between: Array, levels: int) -> Paths:
    best = first
    result = [(best, np.zeros(len(best), int))]
    for _ in range(1, levels):
        ways = best[:, None] + between
        result.append((np.min(ways, axis=0), np.argmin(ways, axis=0)))
        best = result[-1][0]
    return result


def _trace(paths: Paths, count: int) -> list[int]:
    """Places of the `count` values below 0, from 0 downwards."""
    place, found = LIMIT, []
    for k in range(count, 0, -1):
        place = int(paths[k][1][place])
        found.append(place)
    return found
