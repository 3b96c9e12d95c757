"""Fixed-point formats as F8Net has them, of 8 bits unless said: how one is chosen; PACT's factor.

Source: Jin et al., F8Net (ICLR 2022), and its code. A format has a fractional length FL; a code q
stands for q / 2**FL. Signed codes are -127..127 with FL 0..7, unsigned ones 0..255 with FL 0..8.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler.quantize.ranges import PERCENTILE, Method

Array = npt.NDArray[Any]

WORD_LENGTH = 8
STD_RULE = {True: 40.0, False: 70.0}
"""Largest sigma * 2**FL of a signed and an unsigned format, by F8Net's rule."""

CLIPPING_FRACTIONS = 5
"""Fractional lengths that a search tries: each clips at half the value of the one before."""
MSE_VALUES = 1 << 16
"""Values that a threshold is chosen by: evenly spaced ones of a larger tensor."""
CLIPS, SMALLEST_CLIP = 80, 0.1
"""Thresholds that the search tries, from the largest magnitude down to a tenth of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A fixed-point format; `fraction` is its fractional length, `bits` its word length."""

    signed: bool
    fraction: int
    bits: int = WORD_LENGTH

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= self.bits - self.signed:
            raise ValueError(
                f"the fractional length must be 0 to {self.bits - self.signed}, not {self.fraction}"
            )

    @property
    def step(self) -> float:
        """What a code of 1 stands for: 2**-FL."""
        return 2.0**-self.fraction

    @property
    def limits(self) -> tuple[int, int]:
        """Lowest and highest code; a signed one is symmetric."""
        return (-self.largest if self.signed else 0), self.largest

    @property
    def largest(self) -> int:
        """The highest code: 127 or 255 of 8 bits."""
        return int(2 ** (self.bits - self.signed) - 1)

    def codes(self, values: Array) -> Array:
        """int64 codes of real values: nearest, ties to even, clipped."""
        scaled = np.rint(np.asarray(values, np.float64) / self.step)
        return np.asarray(np.clip(scaled, *self.limits), np.int64)

    def fix(self, values: Array) -> Array:
        """Real values rounded to those that the format has."""
        return np.asarray(self.codes(values) * self.step)

    def __str__(self) -> str:
        return f"{'s' if self.signed else 'u'}{self.bits}.{self.fraction}"


def most_fraction(signed: bool) -> int:
    """The longest fractional length: 7 signed, 8 unsigned."""
    return WORD_LENGTH - signed


def clamped(fraction: int, *, signed: bool) -> Format:
    """The format whose fractional length is nearest to the one wanted."""
    return Format(signed=signed, fraction=min(max(fraction, 0), most_fraction(signed)))


def fraction_by_std(sigma: float, *, signed: bool) -> int:
    """F8Net's rule for normal values: FL = floor(log2(40 / sigma)), unsigned 70 / sigma.

    For an unsigned format sigma is that of the values before the ReLU. Any length may come out.
    """
    if sigma <= 0:
        return most_fraction(signed)
    return math.floor(math.log2(STD_RULE[signed] / sigma))


def fraction_by_search(values: Array, *, signed: bool) -> int:
    """The fractional length, of any size, with the least squared error of `values`.

    Below the longest one that clips nothing errors only grow, so those above it are tried.
    """
    exact = np.asarray(values, np.float64)
    ends = np.abs(exact) if signed else exact
    largest = float(ends.max(initial=0.0))
    if largest <= 0:
        return most_fraction(signed)
    codes = Format(signed=signed, fraction=0)
    whole = math.floor(math.log2(codes.largest / largest))
    tried = range(whole, whole + CLIPPING_FRACTIONS)
    errors = [
        float(np.mean((np.ldexp(codes.fix(np.ldexp(exact, one)), -one) - exact) ** 2))
        for one in tried
    ]
    return tried[int(np.argmin(errors))]


def pact_factor(alpha: float, chosen: Format) -> float:
    """eta = 2**FL * alpha / largest code, with which PACT's clip at alpha is eta * fix(x / eta)."""
    return alpha / (chosen.step * chosen.largest)


def clip_threshold(values: Array, method: Method, *, signed: bool) -> float:
    """alpha of PACT's clip: the largest magnitude, that of 99.99 % of the values, or the one with
    the least squared error of PACT's 8-bit codes (multiples of alpha / largest code). 1 for zeros.
    """
    flat = np.abs(values.reshape(-1).astype(np.float64))
    whole = float(flat.max(initial=0.0))
    if method == "percentile":
        whole = float(np.percentile(flat, PERCENTILE))
    if whole == 0:
        return 1.0
    if method != "mse":
        return whole
    sample = flat[:: -(-flat.size // MSE_VALUES)]
    codes = Format(signed=signed, fraction=0)
    tried = whole * np.linspace(1, SMALLEST_CLIP, CLIPS)
    errors = []
    for alpha in tried:
        eta = pact_factor(float(alpha), codes)
        errors.append(np.mean((eta * codes.fix(sample / eta) - sample) ** 2))
    return float(tried[int(np.argmin(errors))])
