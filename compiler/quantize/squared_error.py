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
    costs = _Costs(values, importance)
    below, above = costs.paths(levels), costs.mirrored().paths(levels)
    taken = [below[k][LIMIT][0] + above[levels - 1 - k][LIMIT][0] for k in range(levels)]
    low = int(np.argmin(taken))
    left = _trace(below, low)
    right = _trace(above, levels - 1 - low)
    centres = {0, *(place - LIMIT for place in left), *(LIMIT - place for place in right)}
    return np.array(sorted(centres), np.int8)


Paths = list[list[tuple[float, int]]]


def _trace(paths: Paths, count: int) -> list[int]:
    """Places of the `count` values below 0, from 0 downwards."""
    place, found = LIMIT, []
    for k in range(count, 0, -1):
        place = paths[k][place][1]
        found.append(place)
    return found


class _Costs:
    """Sums of numbers' weights, first and second moments, by which intervals are costed."""

    def __init__(self, values: Array, importance: Array | None = None) -> None:
        flat = np.asarray(values, np.float64).reshape(-1)
        weights = np.ones(flat.shape) if importance is None else np.asarray(importance)
        order = np.argsort(flat, kind="stable")
        self.values = flat[order]
        self.weights = np.broadcast_to(weights, np.shape(values)).reshape(-1)[order]
        moments = [self.weights * self.values**power for power in range(3)]
        self.moments = np.array([np.append(0.0, np.cumsum(one)) for one in moments])

    def mirrored(self) -> _Costs:
        """Those of the negated numbers."""
        return _Costs(-self.values, self.weights)

    def _sum(self, centre: Array, low: Array, high: Array) -> Array:
        """Squared distances from `centre` of the sorted numbers low..high - 1."""
        zeroth, first, second = self.moments[:, high] - self.moments[:, low]
        return np.asarray(second - 2 * centre * first + centre**2 * zeroth)

    def paths(self, levels: int) -> Paths:
        """For k < levels and each place: cost of the numbers below it, and the place before it.

        With k values below the place's own; infinite where there are not so many integers.
        """
        centres = np.arange(-LIMIT, LIMIT + 1)
        starts = np.searchsorted(self.values, centres)
        low, high = centres[:, None], centres[None, :]
        middles = np.searchsorted(self.values, (low + high) / 2)
        between = self._sum(low, starts[:, None], middles) + self._sum(high, middles, starts[None])
        between[np.tril_indices(len(centres))] = np.inf
        best = self._sum(centres, np.zeros_like(starts), starts)
        result = [[(float(cost), 0) for cost in best]]
        for _ in range(1, levels):
            ways = best[:, None] + between
            before, best = np.argmin(ways, axis=0), np.min(ways, axis=0)
            pairs = zip(best, before, strict=True)
            result.append([(float(cost), int(place)) for cost, place in pairs])
        return result
