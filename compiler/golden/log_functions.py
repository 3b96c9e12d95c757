"""Softmax in the log domain, as whole numbers: shifts, sums and small tables alone.

codes = steps * 2**-(d + log2 sum(2**-d)), where d is how far a code lies below the largest one, in
octaves. No value is ever multiplied by another one, nor divided: weights are powers of two,
requantizations are right shifts, and each function is a table of 256 entries.

1. u = x - max, and two tables of it: `powers`, exp(scale * u) in parts of 2**-POWER_BITS, and
   `logs`, -log2 of that in parts of 2**-LOG_BITS.
2. S, the sum of the powers, is 1 to `classes`. Each octave has `PIECES` pieces of equal length; S
   fills those below it, one of them in part, and each piece has a table for what log2 gains there.
3. q = log + log2 S. The codes fall with q in `WINDOWS`, finely in the first octave and coarsely
   behind the third, each with a table.

Every table's error and every rounding counts against one step: docs/log_functions.md has the bound.
`passes.softmax_layers` makes layers of exactly these steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompile.compiler.golden.numerics import round_half_even_shift
from qcompile.compiler.ir import Int8Array, Int64Array, Softmax

LOG_BITS = 10
"""Of the fraction of a log, whose unit is the octave."""
MAX_LOG = (1 << 14) - 1
"""Of a code's log: 16 octaves, far below the smallest share that is not 0."""
POWER_BITS = 14
"""Of the fraction of a power."""
REST_BITS = 7
"""More bits of a power, which are summed apart where there are more than `FEW_CLASSES`."""
FEW_CLASSES = 32
MAX_STEPS = 256
MAX_CLASSES = 1024
"""For which every sum stays exact in float32."""
PIECES = 4
"""Of an octave of S."""
GAIN_BITS = 9
"""Of the fraction of what a piece gains."""
WINDOWS = (2, 3, 5)
"""Log2 of the parts of an octave, 2**-LOG_BITS each, that are a code in each window of q."""
LEVELS = 255
"""Steps of a window: its codes are 0 to 255."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of each octave of S: codes are clip((S - begin) / step, 0, 255), ties to even.

    Attributes
    ----------
    begin : int
        In parts of 2**-POWER_BITS, for the first octave; twice as much for the next, and so on.
    shift : int
        Log2 of the step, for the first octave; one more for the next, and so on.
    gains : int64 [256]
        What log2 gains in the piece, by its code, in parts of 2**-GAIN_BITS.
    """

    begin: int
    shift: int
    gains: Int64Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A window of q: codes are clip((q - begin) / 2**shift, 0, 255), ties to even.

    `shares` int64 [256]: by how much the result is above the window's end.
    """

    begin: int
    shift: int
    shares: Int64Array


def log_tables(scale: float) -> tuple[Int64Array, Int64Array]:
    """`powers` and `logs` int64 [256] of u = -255..0, for codes that are `scale` apart.

    `powers` have POWER_BITS + REST_BITS bits of fraction.
    """
    octaves = np.arange(255, -1, -1) * (float(np.float32(scale)) * np.log2(np.e))
    powers = np.rint(np.exp2(-octaves) * 2.0 ** (POWER_BITS + REST_BITS))
    logs = np.rint(np.minimum(octaves * 2.0**LOG_BITS, MAX_LOG))
    return powers.astype(np.int64), logs.astype(np.int64)


def octaves(classes: int) -> int:
    """Octaves that the sum of so many powers may reach into."""
    return max(1, (classes - 1).bit_length())


def pieces() -> tuple[Piece, ...]:
    """The pieces of an octave."""
    part = (1 << POWER_BITS) // PIECES
    found = []
    for number in range(PIECES):
        codes = np.arange(256)
        codes[LEVELS] = 256  # a full piece gains all of it
        begin = 1 + number / PIECES
        logs = np.rint(np.log2(begin + codes / (256 * PIECES)) * 2.0**GAIN_BITS)
        gains = logs.astype(np.int64) - round(float(np.log2(begin)) * 2**GAIN_BITS)
        found.append(
            Piece(
                begin=(PIECES + number) * part,
                shift=part.bit_length() - 1 - 8,
                gains=gains,
            )
        )
    return tuple(found)


def windows(steps: int) -> tuple[Window, ...]:
    """The windows of q for shares of `steps`; behind the last one they are 0."""
    found: list[Window] = []
    begin = 0
    for shift in WINDOWS:
        shares = _share(begin + (np.arange(256) << shift), steps)
        end = shares[LEVELS]
        if len(found) == len(WINDOWS) - 1:
            shares[LEVELS] = end = 0
        found.append(Window(begin=begin, shift=shift, shares=shares - end))
        begin += LEVELS << shift
    return tuple(found)


def _share(log: Int64Array, steps: int) -> Int64Array:
    """steps * 2**-log to the nearest whole number."""
    shares: Int64Array = np.rint(steps * np.exp2(-log / 2.0**LOG_BITS)).astype(np.int64)
    return shares


def softmax(op: Softmax, x: Int8Array) -> Int8Array:
    """Codes of the shares along the operation's axis of x int8 [N, ...]."""
    codes = np.moveaxis(x, op.axis, -1).astype(np.int64)
    below = codes - codes.max(axis=-1, keepdims=True) + LEVELS
    log = op.logs[below] + log_of_sum(op.powers[below])
    shares = np.zeros_like(log)
    for window in windows(op.steps):
        code = _clipped(log - window.begin, window.shift)
        shares += window.shares[code]
    result = np.minimum(shares - 128, 127).astype(np.int8)
    return np.ascontiguousarray(np.moveaxis(result, -1, op.axis))


def log_of_sum(powers: Int64Array) -> Int64Array:
    """log2 of the sum along the last axis, [..., 1], in parts of 2**-LOG_BITS."""
    classes = powers.shape[-1]
    sums = split_powers(powers, classes)
    total = sums[0].sum(axis=-1, keepdims=True)
    if len(sums) > 1:
        total += round_half_even_shift(sums[1].sum(axis=-1, keepdims=True), REST_BITS)
    gained = np.zeros_like(total)
    for piece in pieces():
        for octave in range(octaves(classes)):
            code = _clipped(total - (piece.begin << octave), piece.shift + octave)
            gained += piece.gains[code]
    log: Int64Array = gained << (LOG_BITS - GAIN_BITS)
    return log


def split_powers(powers: Int64Array, classes: int) -> tuple[Int64Array, ...]:
    """Powers with POWER_BITS of fraction, and the rest of REST_BITS where classes are many."""
    if classes <= FEW_CLASSES:
        return (round_half_even_shift(powers, REST_BITS),)
    return powers >> REST_BITS, powers & (1 << REST_BITS) - 1


def _clipped(values: Int64Array, shift: int) -> npt.NDArray[np.int64]:
    return np.clip(round_half_even_shift(values, shift), 0, LEVELS)
