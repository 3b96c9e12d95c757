"""Log-domain activations: codes, class sums, thresholds; exact integer arithmetic throughout.

A code k of a grid (fsr, step, levels) is 0 for zero, and k > 0 stands for
2**((fsr + (k - 1) * step) / 16) (LogQuant of Park, Ahn and Yoo, CVPR 2017). With
(k - 1) * step = 16 * E + f sixteenths of an octave, a product with a weight w is w << E in the sum
of the residue class f, and the sums are joined by the constants C_f = 2**(f / 16) once an output.
What is left, 2**(fsr / 16), belongs to the scale. So a dot product needs no multiplication.

The way back has no logarithm either: an output's code is the number of thresholds that its sum has
reached. A threshold is the smallest whole number not below a real one, found with Python's
integers: (numerator / denominator) * 2**(n / 32) <= T is the same as
numerator**32 * 2**n <= (T * denominator)**32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import numpy as np
import numpy.typing as npt

from qcompile.compiler.ir import Int64Array

SIXTEENTHS = 16
"""Steps of an octave that fsr and step count."""
CONSTANT_BITS = 12
"""Fraction bits of the class constants."""
MAX_LEVELS = 32


@dataclass(frozen=True, kw_only=True)
class LogGrid:
    """The values of a log-domain tensor.

    Attributes
    ----------
    fsr : int
        Exponent of code 1, in sixteenths of an octave.
    step : int
        From a code to the next, in sixteenths of an octave: 1 to 32.
    levels : int
        Codes, zero included: 2 to 32.
    """

    fsr: int
    step: int
    levels: int

    def __post_init__(self) -> None:
        if not 1 <= self.step <= 2 * SIXTEENTHS:
            raise ValueError(f"step must be 1 to {2 * SIXTEENTHS}, not {self.step}")
        if not 2 <= self.levels <= MAX_LEVELS:
            raise ValueError(f"levels must be 2 to {MAX_LEVELS}, not {self.levels}")

    @property
    def classes(self) -> tuple[int, ...]:
        """Residues f that codes of any number of levels can have, ascending; 0 is the first."""
        return tuple(range(0, SIXTEENTHS, math.gcd(self.step, SIXTEENTHS)))

    @property
    def max_shift(self) -> int:
        """The largest E: bits that a product is longer than its weight."""
        return (self.levels - 2) * self.step // SIXTEENTHS

    @cached_property
    def real_values(self) -> npt.NDArray[np.float64]:
        """What the codes stand for: [levels], correctly rounded but for the exponential's error."""
        exponents = self.fsr + np.arange(self.levels - 1) * self.step
        return np.concatenate([[0.0], np.exp2(exponents / SIXTEENTHS)])

    def threshold_exponent(self, code: int) -> int:
        """n: the real threshold of a code is 2**(n / 32), half a step below the code's value."""
        return 2 * self.fsr + (2 * code - 3) * self.step


def class_constant(residue: int) -> int:
    """round(2**CONSTANT_BITS * 2**(residue / 16))."""
    # Never a tie: the value is whole for residue 0 and irrational otherwise.
    return exact_ceil(Fraction(2 << CONSTANT_BITS), 2 * residue) // 2


def exact_ceil(factor: Fraction, exponent: int) -> int:
    """The smallest whole number not below factor * 2**(exponent / 32); factor > 0."""
    whole, part = divmod(exponent, 32)
    factor *= Fraction(2) ** whole
    top, bottom = factor.numerator**32 << part, factor.denominator**32
    low, high = 0, 2 * (factor.numerator // factor.denominator + 1)
    # Now factor * 2**(part / 32) is above low and at most high, as 2**(31 / 32) < 2.
    while high - low > 1:
        middle = (low + high) // 2
        if middle**32 * bottom >= top:
            high = middle
        else:
            low = middle
    return high


def class_sums(weights: Int64Array, codes: Int64Array, grid: LogGrid) -> Int64Array:
    """Sums of w << E for each residue class: [len(classes), ...], summed over the last axis.

    weights and codes : integers that broadcast to each other
    """
    exponents = np.maximum(codes - 1, 0) * grid.step
    products = np.where(codes > 0, weights << exponents // SIXTEENTHS, 0)
    residues = exponents % SIXTEENTHS
    return np.stack(
        [np.where(residues == f, products, 0).sum(axis=-1, dtype=np.int64) for f in grid.classes]
    )


def joined(sums: Int64Array, grid: LogGrid) -> Int64Array:
    """One number of the class sums [len(classes), ...]: 2**CONSTANT_BITS finer, or the one sum."""
    constants = [class_constant(f) if len(grid.classes) > 1 else 1 for f in grid.classes]
    total: Int64Array = np.tensordot(np.array(constants, np.int64), sums, axes=1)
    return total


def unit_bits(grid: LogGrid) -> int:
    """Fraction bits of `joined`: it counts 2**(fsr / 16) * weight scale / 2**unit_bits."""
    return CONSTANT_BITS if len(grid.classes) > 1 else 0


def bias_code(bias: float, weight_scale: float, grid: LogGrid) -> int:
    """A real bias in units of `joined`, rounded to the nearest; a tie towards zero."""
    if bias == 0:
        return 0
    factor = 2 * abs(Fraction(bias)) * 2 ** unit_bits(grid) / Fraction(weight_scale)
    return int(math.copysign(1, bias)) * (exact_ceil(factor, -2 * grid.fsr) // 2)


def thresholds(inputs: LogGrid, outputs: LogGrid, weight_scale: float) -> tuple[int, ...]:
    """What joined sum and bias must reach for the output codes 1, 2, ..., levels - 1.

    weight_scale : of the channel's integer weights, > 0, taken exactly
    """
    factor = 2 ** unit_bits(inputs) / Fraction(weight_scale)
    exponents = (outputs.threshold_exponent(code) for code in range(1, outputs.levels))
    return tuple(exact_ceil(factor, exponent - 2 * inputs.fsr) for exponent in exponents)


def encode(total: Int64Array, reached: Sequence[int]) -> npt.NDArray[np.uint8]:
    """The number of thresholds (ascending, 1 or more each) that every total has reached.

    A total of 0 or less reaches none: the encoder is a rectifier too.
    """
    return np.searchsorted(np.array(reached, object), total, side="right").astype(np.uint8)


def float_thresholds(grid: LogGrid) -> npt.NDArray[np.float32]:
    """The smallest float32 not below the real threshold of each code from 1 on, ascending.

    Comparing a float32 with these is exact: the host's encoding of an input.
    """
    values = []
    for code in range(1, grid.levels):
        exponent = grid.threshold_exponent(code)
        # A whole number of 24 bits times a power of two; 2**24 itself is a float32 too.
        scale = 23 - exponent // 32
        values.append(math.ldexp(exact_ceil(Fraction(2) ** scale, exponent), -scale))
    return np.array(values, np.float32)


def encode_real(x: npt.NDArray[np.float32], grid: LogGrid) -> npt.NDArray[np.uint8]:
    """Codes of real numbers; 0 for those below the first threshold, negative ones included."""
    return np.searchsorted(float_thresholds(grid), x, side="right").astype(np.uint8)


def search_constants(reached: Sequence[int], step: int) -> tuple[int, ...]:
    """The thresholds from which shifts give all others: those of the last codes, last one first.

    As many as the step has residue classes. With z = factor * 2**(n / 32), ceil(z / 2**m) is
    ceil(ceil(z) / 2**m), so a threshold that lies m octaves below another is its ceiling shift.
    """
    classes = SIXTEENTHS // math.gcd(step, SIXTEENTHS)
    return tuple(reversed(reached))[:classes]
