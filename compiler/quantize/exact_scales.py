"""Scales with which every requantization is one rounding shift, in ONNX Runtime too.

ONNX Runtime multiplies a layer's sums by fl(fl(s_x * s_w) / s_y), in float32. With one step u for
the whole layer, s_w = u * 2**-n, that is 2**-n for every channel as soon as it is 1 for u: scaling
by powers of two changes no rounding. Such a u need not exist; then a scale of an activation moves
by a few float32 steps, which changes nothing else.

With n at most MOST_SHIFT the shift is also exact where sums have more than the 24 bits of a
float32: those lie beyond 2**24 * 2**-16 = 256 codes, where every code has saturated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler.quantize.layer import WEIGHT_LIMIT, Layer

Array = npt.NDArray[Any]
MOST_SHIFT = 16
ULPS = (0, 1, -1, 2, -2)
"""Float32 steps from s_y / s_x at which u is looked for: a product and a quotient round twice."""
MEAN_ERROR = 1e-4
"""Of the logarithm of a mean's factor: above what settling does, below what codes show."""
MOST_MOVES = 10_000
"""Far more than are needed: one in two pairs of scales has a u."""


def unit_step(operand: np.float32, result: np.float32) -> np.float32 | None:
    """u with fl(fl(operand * u) / result) == 1, or None where there is none."""
    nearest = np.float32(result) / np.float32(operand)
    for ulps in ULPS:
        step = _moved(nearest, ulps)
        if np.float32(operand * step) / np.float32(result) == 1:
            return step
    return None


def _moved(value: np.float32, steps: int) -> np.float32:
    for _ in range(abs(steps)):
        value = np.nextafter(value, np.float32(np.inf if steps > 0 else 0))
    return np.float32(value)


def settle(
    scales: Mapping[str, np.float32], pairs: Iterable[tuple[str, str]], fixed: Iterable[str] = ()
) -> dict[str, np.float32]:
    """Scales of which every pair (operand, result) has a unit step: moved by few float32 steps.

    Names in `fixed` keep theirs, as far as that can be: of a pair of them, one moves.
    """
    found, wanted, kept = dict(scales), list(pairs), set(fixed)
    moves = dict.fromkeys(found, 0)
    for _ in range(MOST_MOVES):
        bad = [pair for pair in wanted if unit_step(found[pair[0]], found[pair[1]]) is None]
        if not bad:
            return found
        operand, result = bad[0]
        name = operand if result in kept and operand not in kept else result
        moves[name] += 1
        # 1 step up, 1 down, 2 up, 2 down, ...
        steps = (moves[name] + 1) // 2 * (1 if moves[name] % 2 else -1)
        found[name] = _moved(scales[name], steps)
    raise AssertionError(f"no scales near {dict(scales)} have exact shifts")


def least_result_scale(layer: Layer, operand: np.float32) -> float:
    """The result's smallest scale with which no channel's requantization multiplies by over 1."""
    return float(operand) * float(np.abs(layer.weights).max()) / WEIGHT_LIMIT


def shifted_scales(layer: Layer, step: np.float32) -> Array:
    """float32 scales step * 2**-n of each channel's weights: the largest n, 0..16, that clips none.

    So the largest weight of a channel has a code of 64 to 127. The next n, which clips, was no
    better on the networks tried.
    """
    others = tuple(one for one in range(layer.weights.ndim) if one != layer.axis)
    largest = np.abs(layer.weights).max(axis=others)
    reach = np.float64(step) * WEIGHT_LIMIT  # of the largest scale; the least reaches 2**-16 of it
    shift = np.floor(np.log2(reach / np.maximum(largest, reach * 2.0**-MOST_SHIFT)))
    power = -np.clip(shift, 0, MOST_SHIFT).astype(np.int32)
    return np.asarray(np.ldexp(step, power), np.float32)


def mean_scales(layer: Layer, step: np.float32) -> Array | None:
    """float32 scales near 1 / n, so that a mean's weights have code 1; None where step has no such.

    That is where the result's scale is not `mean_scale` times a power of two.
    """
    weight = float(layer.weights.flat[0])
    exact = math.log2(float(step) / weight)
    shift = round(exact)
    if abs(exact - shift) > MEAN_ERROR:
        return None
    return np.full(layer.weights.shape[0], np.ldexp(step, -shift), np.float32)


def mean_scale(layer: Layer, operand: float, wanted: float) -> float:
    """The smallest scale operand * 2**k / n of a mean of n pixels that is no less than wanted."""
    unit = operand * float(layer.weights.flat[0])
    shift = math.ceil(math.log2(wanted / unit) - 1e-6)
    return unit * 2.0 ** min(max(shift, 0), MOST_SHIFT)
