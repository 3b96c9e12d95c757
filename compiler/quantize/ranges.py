"""Ranges of real values that an activation's codes stand for, and how they are found.

minmax keeps every value, percentile all but 0.01 % on either side, mse cuts where the squared error
is least, kl where the histogram loses least information. output (`readers`) cuts where the layers
that read the tensor have the least error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from qcompile.compiler.quantize.encoding import HIGHEST, LOWEST, Parameters

Array = npt.NDArray[Any]
Method = Literal["minmax", "percentile", "mse", "kl", "output"]
METHODS: tuple[Method, ...] = get_args(Method)

PERCENTILE = 99.99
"""Share of values, in percent, that method percentile keeps on either side."""
SHRINKS = tuple(float(one) for one in np.geomspace(1, 0.1, 24))
"""Shares of the whole range that are tried, whole first."""
BINS = 1 << 14
"""Of the histogram that method mse looks at."""
ENTROPY_BINS = 2048
"""Of the histogram that method kl looks at, as TensorRT's has them."""
LEAST_KEPT = 0.99
"""Share of values other than 0 that method kl keeps."""
LEAST_SHARE = 1e-9
"""Of a histogram's bin where codes have none, so that the divergence is finite."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Real values that codes reach: low <= 0 <= high, low < high."""

    low: float
    high: float

    @property
    def scale(self) -> float:
        """A code's step, of which 255 span the range."""
        return (self.high - self.low) / (HIGHEST - LOWEST)


def find_range(values: Array, method: Method) -> Range:
    """The range of finite values, extended to hold 0; values of 0 alone get [0, 1].

    By their own values: method output, which looks at others, is minmax here.
    """
    low, high = float(min(values.min(), 0)), float(max(values.max(), 0))
    if method == "percentile":
        low = float(min(np.percentile(values, 100 - PERCENTILE), 0))
        high = float(max(np.percentile(values, PERCENTILE), 0))
    if low == high:
        return Range(low=0.0, high=1.0)
    whole = Range(low=low, high=high)
    if method == "kl":
        return _least_divergence(values, whole)
    return _least_squares(values, whole) if method == "mse" else whole


def least_error(whole: Range, error: Callable[[Range], float]) -> Range:
    """The part of a range with the least error: both ends first, then each on its own."""
    best = min((_part(whole, one, one) for one in SHRINKS), key=error)
    if whole.low < 0 < whole.high:
        best = min((Range(low=whole.low * one, high=best.high) for one in SHRINKS), key=error)
        best = min((Range(low=best.low, high=whole.high * one) for one in SHRINKS), key=error)
    return best


def _part(whole: Range, low: float, high: float) -> Range:
    return Range(low=whole.low * low, high=whole.high * high)


def _least_squares(values: Array, whole: Range) -> Range:
    """The part whose codes have the smallest squared error, over a histogram of all values."""
    counts, edges = np.histogram(values, BINS, (whole.low, whole.high))
    centres = ((edges[1:] + edges[:-1]) / 2)[counts > 0]
    weights = counts[counts > 0]

    def error(one: Range) -> float:
        return float(np.sum(weights * (parameters_of(one).rounded(centres) - centres) ** 2))

    return least_error(whole, error)


def _least_divergence(values: Array, whole: Range) -> Range:
    """The part that TensorRT's entropy calibration keeps.

    Source: S. Migacz, "8-bit Inference with TensorRT", GTC 2017, "Entropy calibration: pseudocode".
    Its codes are of magnitudes, 128 of them; where no value is negative there are 256. Values of 0,
    which are exact in any range, are left out, or those behind a Relu would outweigh the others.
    Cuts that lose more than 1 % of the others are not tried: one that keeps next to nothing, all of
    it in one bin, has no divergence at all.
    """
    magnitudes = np.abs(values[values != 0])
    codes = 256 if whole.low == 0 or whole.high == 0 else 128
    top = max(-whole.low, whole.high)
    counts, edges = np.histogram(magnitudes, ENTROPY_BINS, (0, top))
    least = int(np.searchsorted(np.cumsum(counts), LEAST_KEPT * counts.sum())) + 1
    tried = range(max(codes, least), ENTROPY_BINS + 1)
    kept = min(tried, key=lambda bins: _divergence(counts.astype(np.float64), bins, codes))
    limit = float(edges[kept])
    return Range(low=max(whole.low, -limit), high=min(whole.high, limit))


def _divergence(counts: Array, bins: int, codes: int) -> float:
    """Kullback-Leibler divergence of a histogram cut behind `bins` from the one of its codes."""
    kept = counts[:bins]
    clipped = kept.copy()
    clipped[-1] += counts[bins:].sum()
    starts = -(-np.arange(codes) * bins // codes)
    lengths = np.diff(np.append(starts, bins))
    filled = np.maximum(np.add.reduceat(kept > 0, starts), 1)
    coded = np.where(kept > 0, np.repeat(np.add.reduceat(kept, starts) / filled, lengths), 0)
    used = clipped > 0
    wanted = clipped[used] / clipped.sum()
    found = np.maximum(coded[used] / max(coded.sum(), 1), LEAST_SHARE)
    return float(np.sum(wanted * np.log(wanted / found)))


def parameters_of(wanted: Range) -> Parameters:
    """Scale, and the zero point that makes 0 exact."""
    step = np.float32(max(wanted.scale, float(np.finfo(np.float32).tiny)))
    return Parameters(scale=step, zero_point=zero_point_of(wanted, step))


def zero_point_of(wanted: Range, scale: np.float32) -> int:
    """The code of 0 with which the lowest code is nearest to the range's end."""
    return int(np.clip(round(LOWEST - wanted.low / float(scale)), LOWEST, HIGHEST))
