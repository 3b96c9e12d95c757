"""Weight clustering by weighted entropy, and int8 codebooks of a layer's weights.

Park, Ahn, Yoo, "Weighted-Entropy-based Quantization for Deep Neural Networks" (CVPR 2017), as its
authors' caffe-WQ does it: importance w * w, clusters of magnitudes with the sign kept apart, and
boundaries that maximise S = -sum(I_n * P_n * log P_n). It was made for training with it; for
quantization without training `squared_error.best_codebook` is the comparison.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
TINY = 1e-300
"""A share of no weights, whose logarithm would be infinite."""
STARTS = 256
"""Boundaries that the search starts from the best of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clusters:
    """Clusters of magnitudes, ascending: cluster n holds |w| >= boundaries[n].

    Attributes
    ----------
    levels : int
        Asked for. Odd: cluster 0 is the value 0, without a sign.
    boundaries, representatives : float64 [clusters]
        (levels + 1) // 2 of them, or fewer where there are not so many magnitudes; the first
        boundary is 0. A representative is the root of its cluster's mean importance.
    entropy : float
        S of these clusters.
    """

    levels: int
    boundaries: Array
    representatives: Array
    entropy: float

    def indices(self, weights: Array) -> Array:
        """The cluster of each weight, 0 and up; the sign is the weight's own."""
        return np.searchsorted(self.boundaries, np.abs(weights), side="right") - 1

    def rounded(self, weights: Array) -> Array:
        """Each weight replaced by its cluster's representative, with its sign (0 counts as +)."""
        signs = np.where(np.asarray(weights) < 0, -1.0, 1.0)
        return np.asarray(signs * self.representatives[self.indices(weights)])


def cluster(weights: Array, levels: int) -> Clusters:
    """Clusters of `levels` values (2 or more), of which half are negative; weights in any shape."""
    if levels < 2:
        raise ValueError(f"levels must be 2 or more, not {levels}")
    search = _Search(np.asarray(weights, np.float64).reshape(-1) ** 2, levels)
    cuts, entropy = search.run()
    edges = np.array([0, *cuts])
    members = np.diff(search.counts[edges])
    sums = np.diff(search.sums[edges])
    representatives = np.sqrt(sums / np.maximum(members, 1))
    if search.zero:
        representatives[0] = 0
    boundaries = np.sqrt(np.append(0.0, search.distinct[cuts[:-1]]))
    return Clusters(
        levels=levels, boundaries=boundaries, representatives=representatives, entropy=entropy
    )


class _Search:
    """Boundaries between distinct importances, so that equal weights are never parted.

    A cut c says that the distinct importances below number c belong to the clusters before it.
    """

    def __init__(self, importance: Array, levels: int) -> None:
        self.distinct, members = np.unique(importance, return_counts=True)
        self.zero = levels % 2 == 1
        self.clusters = min((levels + 1) // 2, len(self.distinct))
        self.counts = np.append(0, np.cumsum(members))
        self.sums = np.append(0.0, np.cumsum(self.distinct * members))

    def term(self, n: int, low: Any, high: Any) -> Any:
        """What cluster n of the distinct importances low..high - 1 adds to S: one or many.

        P is halved since either sign has a half of the cluster; level 0 adds nothing to S.
        """
        if n == 0 and self.zero:
            return np.zeros(np.broadcast(low, high).shape)
        total = self.counts[-1]
        share = (self.counts[high] - self.counts[low]) / total
        return -(self.sums[high] - self.sums[low]) / total * np.log(np.maximum(share, TINY) / 2)

    def entropy(self, cuts: list[int]) -> float:
        """S of the clusters that end at `cuts`."""
        edges = [0, *cuts]
        return float(sum(self.term(n, edges[n], edges[n + 1]) for n in range(self.clusters)))

    def run(self) -> tuple[list[int], float]:
        """Sweeps over the boundaries until S stops growing; the best cuts that were seen."""
        cuts = self._first()
        best, highest = list(cuts), self.entropy(cuts)
        while True:
            for n in range(self.clusters - 1):
                self._move(cuts, n)
            found = self.entropy(cuts)
            if found <= highest:
                return best, highest
            best, highest = list(cuts), found

    def _first(self) -> list[int]:
        """The best cuts among evenly spaced ones: all of them, where there are not too many.

        Clusters of equal size, where caffe-WQ starts, may end in a maximum that is not the highest.
        """
        last = len(self.distinct)
        grid = np.unique(np.linspace(0, last, min(last, STARTS) + 1).astype(int))
        terms = [self.term(n, grid[:, None], grid[None, :]) for n in range(min(self.clusters, 2))]
        for term in terms:
            term[np.tril_indices(len(grid))] = -np.inf  # no empty cluster
        best = terms[0][0]
        came_from = []
        for _ in range(1, self.clusters):
            ways = best[:, None] + terms[1]
            came_from.append(np.argmax(ways, axis=0))
            best = np.max(ways, axis=0)
        cuts = [len(grid) - 1]
        for previous in reversed(came_from):
            cuts.insert(0, int(previous[cuts[0]]))
        return [int(grid[cut]) for cut in cuts]

    def _move(self, cuts: list[int], n: int) -> None:
        """Put the upper end of cluster n where its and the next one's terms are largest."""
        below = cuts[n - 1] if n else 0
        tried = np.arange(below + 1, cuts[n + 1])
        gains = self.term(n, below, tried) + self.term(n + 1, tried, cuts[n + 1])
        cuts[n] = int(tried[np.argmax(gains)])
