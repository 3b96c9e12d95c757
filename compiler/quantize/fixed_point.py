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

Array = npt.NDArray[Any]

WORD_LENGTH = 8
STD_RULE = {True: 40.0, False: 70.0}
"""Largest sigma * 2**FL of a signed and an unsigned format, by F8Net's rule."""


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


def format_by_std(sigma: float, *, signed: bool) -> Format:
    """F8Net's rule for normal values: FL = floor(log2(40 / sigma)), unsigned 70 / sigma.

    For an unsigned format sigma is that of the values before the ReLU.
    """
    longest = most_fraction(signed)
    fraction = math.floor(math.log2(STD_RULE[signed] / sigma)) if sigma > 0 else longest
    return Format(signed=signed, fraction=min(max(fraction, 0), longest))


def format_by_search(values: Array, *, signed: bool) -> Format:
    """The format with the least squared error of `values`; of equals the longest fraction."""
    fractions = range(most_fraction(signed), -1, -1)
    formats = [Format(signed=signed, fraction=fraction) for fraction in fractions]
    exact = np.asarray(values, np.float64)
    errors = [float(np.mean((one.fix(exact) - exact) ** 2)) for one in formats]
    return formats[int(np.argmin(errors))]


def pact_factor(alpha: float, chosen: Format) -> float:
    """eta = 2**FL * alpha / largest code, with which PACT's clip at alpha is eta * fix(x / eta)."""
    return alpha / (chosen.step * chosen.largest)
