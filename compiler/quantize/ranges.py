"""What the codes of an activation stand for: ranges of real values, scale and zero point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qcompile.compiler.quantize.encoding import HIGHEST, LOWEST, Parameters

Array = npt.NDArray[Any]
Method = Literal["minmax", "percentile", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "mse")

PERCENTILE = 99.99
"""Share of values, in percent, that method percentile keeps on either side."""
SHRINKS = 40
"""Ranges that method mse tries: whole, and down to a fifth in equal steps."""
MSE_VALUES = 1 << 16
"""Values that method mse looks at: evenly spaced ones of a larger tensor."""


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
    """The range of finite values, extended to hold 0; values of 0 alone get [0, 1]."""
    low, high = float(min(values.min(), 0)), float(max(values.max(), 0))
    if method == "percentile":
        low = float(min(np.percentile(values, 100 - PERCENTILE), 0))
        high = float(max(np.percentile(values, PERCENTILE), 0))
    if low == high:
        return Range(low=0.0, high=1.0)
    whole = Range(low=low, high=high)
    return _least_error(values, whole) if method == "mse" else whole


def _least_error(values: Array, whole: Range) -> Range:
    """The shrunk range whose codes have the smallest mean squared error."""
    flat = values.reshape(-1)
    sample = flat[:: -(-flat.size // MSE_VALUES)]
    factors = np.linspace(1, 0.2, SHRINKS)
    tried = [Range(low=whole.low * factor, high=whole.high * factor) for factor in factors]
    errors = [np.mean((parameters_of(one).rounded(sample) - sample) ** 2) for one in tried]
    return tried[int(np.argmin(errors))]


def parameters_of(wanted: Range) -> Parameters:
    """Scale, and the zero point that makes 0 exact."""
    step = np.float32(max(wanted.scale, float(np.finfo(np.float32).tiny)))
    return Parameters(scale=step, zero_point=zero_point_of(wanted, step))


def zero_point_of(wanted: Range, scale: np.float32) -> int:
    """The code of 0 with which the lowest code is nearest to the range's end."""
    return int(np.clip(round(LOWEST - wanted.low / float(scale)), LOWEST, HIGHEST))
