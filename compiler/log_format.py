"""What the codes of logarithmic activations stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.hw.log.config import FORMS, FRACTION_OCTAVES

ARRAY_FORMS = FORMS
"""Levels and step of the codes that some array takes."""
OCTAVE = 16
"""fsr and step count sixteenths of an octave."""
MAX_LEVELS = 32
MAX_STEP = 2 * OCTAVE
LEAST_EXPONENT, MOST_EXPONENT = -126 * OCTAVE, 128 * OCTAVE
"""Of values and thresholds: float32 that are neither subnormal nor infinite."""
FEWER_OCTAVES = "quantize with fewer levels or a smaller step (--activations log:L, --log-step S)"
"""Advice where sums of codes are too large: both bring the last code nearer to the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFormat:
    """Codes 0..levels - 1: 0 is zero, code k is 2 ** ((fsr + (k - 1) * step) / 16).

    Attributes
    ----------
    fsr : int
        Sixteenths of an octave of code 1's value over 1.
    step : int
        Sixteenths of an octave from one value to the next: even, 2 to 32.
    levels : int
        Codes in all, 2 to 32.
    """

    fsr: int
    step: int
    levels: int

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= MAX_LEVELS:
            raise ValueError(f"levels must be 2 to {MAX_LEVELS}, not {self.levels}")
        if not 2 <= self.step <= MAX_STEP or self.step % 2:
            raise ValueError(f"step must be even and 2 to {MAX_STEP}, not {self.step}")
        top = self.fsr + (self.levels - 2) * self.step
        if self.fsr - self.step // 2 < LEAST_EXPONENT or top >= MOST_EXPONENT:
            raise ValueError(f"values of fsr {self.fsr} and step {self.step} are beyond float32")

    @property
    def values(self) -> npt.NDArray[np.float32]:
        """What each code stands for, float32 [levels]."""
        exponents = (self.fsr + np.arange(self.levels - 1) * self.step) / OCTAVE
        return np.append(0.0, np.exp2(exponents)).astype(np.float32)

    @property
    def classes(self) -> int:
        """Residues that exponents have modulo an octave, with enough levels."""
        return OCTAVE // math.gcd(self.step, OCTAVE)

    @property
    def octaves(self) -> int:
        """Whole octaves from code 1 to the last one."""
        return (self.levels - 2) * self.step // OCTAVE

    @property
    def keeps_fraction(self) -> bool:
        """Whether sums that end in linear codes keep a fraction, as on the array of shifts."""
        return self.classes > 1 and self.octaves <= FRACTION_OCTAVES

    @property
    def thresholds(self) -> npt.NDArray[np.float32]:
        """Code k begins at thresholds[k - 1], half a step below its value; float32 [levels - 1].

        They are the smallest float32 not below the real thresholds, so that comparing a float32
        with one is comparing it with the other.
        """
        steps = np.arange(self.levels - 1) * self.step
        real = np.exp2((self.fsr - self.step // 2 + steps) / OCTAVE)
        nearest = real.astype(np.float32)
        above = np.nextafter(nearest, np.float32(np.inf))
        return np.where(nearest < real, above, nearest)

    def codes(self, values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """The code of each float32 value: how many thresholds it reaches."""
        given = np.asarray(values, np.float32)
        return np.searchsorted(self.thresholds, given, side="right").astype(np.uint8)

    def rounded(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Each value replaced by what its code stands for."""
        return np.asarray(self.values[self.codes(values)])
