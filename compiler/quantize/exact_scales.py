"""Scales with which every requantization is one rounding shift, in ONNX Runtime too.

ONNX Runtime multiplies a layer's sums by fl(fl(s_x * s_w) / s_y), in float32. With one step u for
the whole layer, s_w = u * 2**-n, that is 2**-n for every channel as soon as it is 1 for u: scaling
by powers of two changes no rounding. Such a u need not exist; then a scale of an activation moves
by a few float32 steps, which changes nothing else.

With n at most MOST_SHIFT the shift is also exact where sums have more than the 24 bits of a
float32: those lie beyond 2**24 * 2**-16 = 256 codes, where every code has saturated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler.quantize.layer import WEIGHT_LIMIT, Layer

Array = npt.NDArray[Any]
MOST_SHIFT = 16
ULPS = (0, 1, -1, 2, -2)
"""Float32 steps from s_y / s_x at which u is looked for: a product and a quotient round twice."""
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
    """float32 scales step * 2**-n of each channel's weights: n 0..16, the best for its weights.

    Tried are the largest n without clipping and the next one, which clips the largest weights but
    has steps half as wide.
    """
    moved = np.moveaxis(layer.weights, layer.axis, 0)
    channels = moved.reshape(len(moved), -1)
    largest = np.maximum(np.abs(channels).max(axis=1), np.finfo(np.float64).tiny)
    longest = np.floor(np.log2(np.float64(step) * WEIGHT_LIMIT / largest))
    tried = [np.clip(longest + more, 0, MOST_SHIFT) for more in (0, 1)]
    errors = []
    for shift in tried:
        scale = (np.float64(step) * 2.0**-shift)[:, np.newaxis]
        codes = np.clip(np.rint(channels / scale), -WEIGHT_LIMIT, WEIGHT_LIMIT)
        errors.append(((codes * scale - channels) ** 2).sum(axis=1))
    shift = np.where(errors[1] < errors[0], tried[1], tried[0])
    return np.asarray(step * np.float32(2.0) ** -shift.astype(np.float32), np.float32)
