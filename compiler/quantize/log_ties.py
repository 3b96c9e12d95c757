"""Weights whose products would fall on thresholds of logarithmic codes.

Codes stand for powers of a root of two, and thresholds lie half a step between them. A weight that
is such a power itself, as those of copies, identities and means are, can put every sum of a single
tap on a threshold, where ONNX Runtime's float32 rounding decides: golden would differ in many
codes. A slightly larger scale of the channel moves its weights away.
"""

from __future__ import annotations

import math

import numpy as np

from qcompile.compiler.log_format import OCTAVE, LogFormat
from qcompile.compiler.quantize.layer import ALL_LEVELS, Array, Layer, nearest_level

TOO_NEAR = 2e-5
"""Sixteenths of an octave to a threshold: 9e-7 of a sum, a few float32 roundings."""
FACTORS = tuple(1 + 1 / n for n in (256, 170, 113, 75))
"""Of a scale, tried in this order."""


def scales_without_ties(
    layer: Layer, scales: Array, operand: LogFormat, result: LogFormat
) -> Array:
    """float32 scales [channels], raised by up to 1.3 % where products fall on thresholds."""
    found = np.asarray(scales, np.float32).copy()
    for factor in (1.0, *FACTORS):
        tried = np.asarray(scales * factor, np.float32)
        tied = _tied(layer, found, operand, result)
        if not tied.any():
            break
        found[tied] = tried[tied]
    return found


def _tied(
    layer: Layer, scales: Array, operand: LogFormat, result: LogFormat
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which channels have a weight, or a sum of all weights, that meets a threshold."""
    codes = nearest_level(layer.weights / layer.by_channel(scales), ALL_LEVELS).astype(np.int64)
    rows = np.moveaxis(codes, layer.axis, 0).reshape(len(scales), -1)
    candidates = np.abs(np.concatenate([rows, rows.sum(axis=1, keepdims=True)], axis=1))
    lattice = math.gcd(operand.step, result.step)
    first = result.fsr - result.step / 2 - operand.fsr
    with np.errstate(divide="ignore", invalid="ignore"):  # a code of 0
        real = candidates * np.asarray(scales, np.float64)[:, np.newaxis]
        place = OCTAVE * np.log2(real) - first
        away = np.abs(place - lattice * np.rint(place / lattice))
    return np.asarray((np.isfinite(place) & (away < TOO_NEAR)).any(axis=1))
