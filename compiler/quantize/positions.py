"""Positions of Xilinx's DPU: scales that are powers of two, 2**-position, int8 -128..127, no zero
points; how the vendor's quantizer searches them and how far the DPU can shift.

Source: Vitis AI's quantizers, as far as they are open (observers of MQBench; vai_q_tensorflow2).
The DPU rounds activations with halves up; ONNX's QuantizeLinear, and so this model, to even.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
LOWEST, HIGHEST = -128, 127
MOST_POSITION = 12
FURTHER = 4
"""Positions that are tried beyond the largest one that clips nothing."""
CUT_LIMITS = (0, 16)
"""Of shift_cut, which makes a code of a sum: pos_w + pos_x - pos_y."""
READ_LIMIT = 15
"""Of shift_read: how far the positions of an Add's operands may be apart."""
POOL_FACTORS = {
    (3, 3): (7, 64),
    (5, 5): (10, 256),
    **dict.fromkeys([(6, 6), (3, 6), (6, 3)], (7, 256)),
    (7, 7): (21, 1024),
    (14, 14): (21, 4096),
}
"""What the DPU multiplies the sum of a window by, in place of 1 / n."""


def rounded(values: Array, position: int) -> Array:
    """Values as int8 codes times 2**-position."""
    codes = np.clip(np.rint(np.ldexp(values, position)), LOWEST, HIGHEST)
    return np.asarray(np.ldexp(codes, -position))


def whole_position(values: Array) -> int:
    """The largest position with which no value is clipped, at most 12."""
    reach = max(float(values.min()) / LOWEST, float(values.max()) / HIGHEST)
    return MOST_POSITION if reach <= 0 else min(math.floor(-math.log2(reach)), MOST_POSITION)


def best_position(values: Array) -> int:
    """Of the largest one that clips nothing and the four above: that of the least squared error."""
    exact = np.asarray(values, np.float64)
    first = whole_position(exact)
    tried = range(first, min(first + FURTHER, MOST_POSITION) + 1)
    errors = [float(((rounded(exact, one) - exact) ** 2).sum()) for one in tried]
    return tried[int(np.argmin(errors))]


def activation_position(values: Array) -> int:
    """The best position of most rows of values [N, ...]; of equally frequent ones the smallest."""
    counts = Counter(best_position(row) for row in values)
    return min(counts, key=lambda position: (-counts[position], position))


def cut_weights(weights: int, operand: int, result: int) -> int:
    """The weights' position nearest to the one wanted with which shift_cut is within its limits."""
    low, high = CUT_LIMITS
    return min(max(weights, low + result - operand), high + result - operand)


def cut_bias(bias: int, sums: int, result: int) -> int:
    """The bias's position nearest to the one wanted with which shift_bias is within its limits.

    Positions of sums are pos_w + pos_x; shift_bias = pos_w + pos_x - pos_b, at least
    min(0, -(24 - (8 + shift_cut))) and at most 16.
    """
    least = min(0, -(24 - (8 + sums - result)))
    return min(max(bias, sums - CUT_LIMITS[1]), sums - least)


def pool_factor(kernel: tuple[int, ...]) -> float:
    """k / 2**n for a window: the vendor's, otherwise the best with n below 7 + log2 of its area."""
    known = POOL_FACTORS.get(kernel[:2]) if len(kernel) == 2 else None
    if known is not None:
        return known[0] / known[1]
    area = math.prod(kernel)
    powers = [2**n for n in range(7 + math.ceil(math.log2(area)))]
    factors = [round(power / area) / power for power in powers]
    return float(min(factors, key=lambda factor: abs(factor - 1 / area)))
