"""Layers on log-domain activations: class sums and thresholds, exact integers throughout.

A code k > 0 of a `LogFormat` stands for 2**((fsr + (k - 1) * step) / 16), code 0 for zero. With
(k - 1) * step = 16 * E + f sixteenths of an octave, a product with a weight w is w << E in the sum
of the residue class f, and the sums are joined by the constants C_f = 2**(f / 16) once an output.
What is left, 2**(fsr / 16), belongs to the scale. So a dot product needs no multiplication.

The way back has no logarithm either: an output's code is the number of thresholds that its sum has
reached. A threshold is the smallest whole number not below a real one, found with Python's
integers: (numerator / denominator) * 2**(n / 16) <= T is the same as
numerator**16 * 2**n <= (T * denominator)**16.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from qcompile.compiler.ir import Int64Array
from qcompile.compiler.log_format import OCTAVE, LogFormat

CONSTANT_BITS = 15
"""Fraction bits of the class constants: 46341 is within 1e-6 of its root, as 18 bits would be."""


def residue_classes(step: int) -> tuple[int, ...]:
    """Residues f that a step's exponents have, with enough levels; ascending, from 0 on."""
    return tuple(range(0, OCTAVE, math.gcd(step, OCTAVE)))


def fraction_bits(step: int) -> int:
    """Fraction bits of `joined`: none where it is the only class's sum."""
    return CONSTANT_BITS if len(residue_classes(step)) > 1 else 0


def class_constant(residue: int) -> int:
    """round(2**CONSTANT_BITS * 2**(residue / 16))."""
    # Never a tie: the value is whole for residue 0 and irrational otherwise.
    return exact_ceil(Fraction(2 << CONSTANT_BITS), residue) // 2


def exact_ceil(factor: Fraction, sixteenths: int) -> int:
    """The smallest whole number not below factor * 2**(sixteenths / 16); factor > 0."""
    octaves, part = divmod(sixteenths, OCTAVE)
    factor *= Fraction(2) ** octaves
    top, bottom = factor.numerator**OCTAVE << part, factor.denominator**OCTAVE
    low, high = 0, 2 * (factor.numerator // factor.denominator + 1)
    # What is looked for is above low and at most high, as 2**(15 / 16) < 2.
    while high - low > 1:
        middle = (low + high) // 2
        if middle**OCTAVE * bottom >= top:
            high = middle
        else:
            low = middle
    return high


def class_sums(weights: Int64Array, codes: Int64Array, step: int) -> Int64Array:
    """Sums of w << E for each residue class: [classes, ...], summed over the last axis.

    weights and codes : integers that broadcast to each other
    """
    exponents = np.maximum(codes - 1, 0) * step
    products = np.where(codes > 0, weights << exponents // OCTAVE, 0)
    residues = exponents % OCTAVE
    return np.stack(
        [
            np.where(residues == residue, products, 0).sum(axis=-1, dtype=np.int64)
            for residue in residue_classes(step)
        ]
    )


def joined(sums: Int64Array, bias: Int64Array | int, step: int) -> Int64Array:
    """One number of the class sums [classes, ...] and a bias in units of class 0.

    It counts the weight's scale times 2**(fsr / 16), in steps of 2**-fraction_bits.
    """
    classes = residue_classes(step)
    constants = [class_constant(f) if len(classes) > 1 else 1 for f in classes]
    total: Int64Array = np.tensordot(np.array(constants, np.int64), sums, axes=1)
    total = total + (np.asarray(bias, np.int64) << fraction_bits(step))
    return total


def thresholds(inputs: LogFormat, outputs: LogFormat, weight_scale: float) -> tuple[int, ...]:
    """What a joined sum must reach for the output codes 1, 2, ..., levels - 1.

    weight_scale : of the channel's integer weights, > 0, taken exactly
    """
    factor = 2 ** fraction_bits(inputs.step) / Fraction(weight_scale)
    first = outputs.fsr - outputs.step // 2 - inputs.fsr
    return tuple(
        exact_ceil(factor, first + number * outputs.step) for number in range(outputs.levels - 1)
    )


def multiples(form: LogFormat) -> Int64Array:
    """What codes stand for, in 2**-fraction_bits of the value of code 1; int64 [levels].

    They are the constants of the residue classes, shifted: sums of their products are the joined
    class sums.
    """
    classes = residue_classes(form.step)
    exponents = np.arange(form.levels - 1) * form.step
    constants = {f: class_constant(f) if len(classes) > 1 else 1 for f in classes}
    found = [constants[int(e) % OCTAVE] << int(e) // OCTAVE for e in exponents]
    return np.array([0, *found], np.int64)


THRESHOLD_LIMIT = 1 << 60
"""No joined sum reaches any code of a channel with a last threshold beyond."""


def limits(outputs: LogFormat, unit: Fraction) -> tuple[int, ...]:
    """What a sum that counts `unit` must reach for the last codes, one of each residue class.

    Those of all other codes are whole octaves below one of them: `code_thresholds`. At most
    `THRESHOLD_LIMIT`.
    """
    first = outputs.fsr - outputs.step // 2
    found = []
    for number in range(min(outputs.classes, outputs.levels - 1)):
        sixteenths = first + (outputs.levels - 2 - number) * outputs.step
        if unit * THRESHOLD_LIMIT < Fraction(2) ** (sixteenths // OCTAVE):
            found.append(THRESHOLD_LIMIT)
        else:
            found.append(exact_ceil(1 / unit, sixteenths))
    return tuple(found)


def code_thresholds(outputs: LogFormat, last: Int64Array) -> Int64Array:
    """What sums must reach for the codes 1, 2, ..., levels - 1, of their `limits`.

    last : [classes, ...], ascending codes along the first axis of the result
    """
    octaves = outputs.step * outputs.classes // OCTAVE
    below = [divmod(number, outputs.classes) for number in range(outputs.levels - 1)]
    found = [-(-last[nearer] >> turns * octaves) for turns, nearer in below]
    return np.stack(found[::-1])


def encode(total: Int64Array, reached: Sequence[int]) -> npt.NDArray[np.uint8]:
    """The number of thresholds (ascending, 1 or more each) that every total has reached.

    A total of 0 or less reaches none: the encoder is a rectifier too.
    """
    return np.searchsorted(np.array(reached, object), total, side="right").astype(np.uint8)


def search_constants(reached: Sequence[int], step: int) -> tuple[int, ...]:
    """The thresholds from which shifts give all others: those of the last codes, last one first.

    As many as the step has residue classes. With z = factor * 2**(n / 16), ceil(z / 2**m) is
    ceil(ceil(z) / 2**m), so a threshold that lies m octaves below another is its ceiling shift.
    """
    return tuple(reversed(reached))[: len(residue_classes(step))]
