"""A function of a code for each channel as a depthwise layer of one tap: weight * x + bias.

A straight line with a margin to every threshold of the function's codes is found first. Then
weights are tried: for a weight and a bias every code asks for an interval of scales, and any scale
that lies in all of them will do. What is found is proved for all 256 codes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from qcompile.compiler import ir
from qcompile.compiler.golden.numerics import requantize, scale_to_mantissa
from qcompile.compiler.layers import Layer, Region
from qcompile.compiler.passes.lowering.layer import make_layer, operator_of, shape3
from qcompile.compiler.passes.lowering.state import Lowering
from qcompile.compiler.passes.lowering.tabulated import Window

CODES = np.arange(-128, 128)
WEIGHTS = (*range(127, 31, -1), *range(508, 127, -1))
"""Up to four int8 weights a tap: the array has done those before the drain is ready."""
LARGEST_BIAS = 1 << 23
"""So that every sum is exact in float32."""
ROUNDING = 1e-9
"""Of the margin: ties leave none, and floating point a little less."""
Float64Array = npt.NDArray[np.float64]


def affine(
    state: Lowering, op: ir.Op, name: str, functions: ir.Int8Array, window: Window
) -> Layer | None:
    """A layer of one tap for the pixels of a window, function [channels, 256] in each channel; None
    where there is none."""
    shape = shape3(state.graph, op.name)
    low, high = int(functions.min()), int(functions.max())
    for zero_point in (0, 1) if state.mode == "exact" else ():
        distinct, channel = np.unique(functions, axis=0, return_inverse=True)
        found = [_fit(function, low, high, zero_point) for function in distinct.astype(np.int64)]
        fits = [fit for fit in found if fit is not None]
        if len(fits) < len(found):
            continue
        columns = np.array([(f.weight, f.bias, f.mantissa, f.shift) for f in fits], np.int64)
        weight, bias, mantissa, shift = columns[channel.reshape(-1)].T
        layer = make_layer(
            op,
            operator=operator_of(op),
            kind="depthwise",
            source=name,
            shapes=(shape, (len(functions), *window.size)),
            weight=weight.astype(np.int16).reshape(-1, 1, 1),
            bias=bias,
            strides=(1, 1),
            dilations=(1, 1),
            pads=(-window.start[0], -window.start[1], 0, 0),
            input_zero_point=0,
            requant=ir.Requant(
                mode="exact",
                mantissa=mantissa,
                shift=shift,
                zero_point=zero_point,
                low=low,
                high=high,
            ),
            macs=0,
        )
        region = Region(shape=shape, start=window.start)
        return layer if window.size == shape[1:] else replace(layer, region=region)
    return None


@dataclass(frozen=True, slots=True)
class _Fit:
    """Of one channel: code = requantize(weight * x + bias)."""

    weight: int
    bias: int
    mantissa: int
    shift: int


@dataclass(frozen=True, slots=True)
class _Steps:
    """A function [256] and, without the zero point, the real numbers that have its codes."""

    function: ir.Int64Array
    least: Float64Array
    most: Float64Array
    low: int
    high: int
    zero_point: int


def _fit(function: ir.Int64Array, low: int, high: int, zero_point: int) -> _Fit | None:
    """Whole numbers that give a function of 256 codes, clamped to low..high; None: none found."""
    steps = _Steps(
        function,
        np.where(function > low, function - zero_point - 0.5, -np.inf),
        np.where(function < high, function - zero_point + 0.5, np.inf),
        low,
        high,
        zero_point,
    )
    if bool((function == function[0]).all()):
        return _Fit(0, 2 * int(function[0] - zero_point), 1 << 23, 24)
    room, slope, offset = _line(steps)
    if room < -ROUNDING:
        return None
    for weight in WEIGHTS:
        signed = weight if slope > 0 else -weight
        nearest = round(offset * signed / slope)
        for bias in (nearest, nearest - 1, nearest + 1):
            found = _with_bias(steps, signed, bias)
            if found is not None:
                return found
    return None


def _with_bias(steps: _Steps, weight: int, bias: int) -> _Fit | None:
    """A scale in the middle of those that every code allows."""
    if abs(bias) > LARGEST_BIAS:
        return None
    total = (weight * CODES + bias).astype(np.float64)
    ends = np.stack([steps.least, steps.most])
    with np.errstate(divide="ignore", invalid="ignore"):
        scales = np.sort(ends / total, axis=0)
    at_zero = total == 0
    if np.any((steps.least[at_zero] > 0) | (steps.most[at_zero] < 0)):
        return None
    smallest, largest = scales[0, ~at_zero].max(), scales[1, ~at_zero].min()
    if not 0 < smallest <= largest:
        return None
    middle = (smallest + largest) / 2 if np.isfinite(largest) else 2 * smallest
    mantissa, shift = scale_to_mantissa(np.array([middle], np.float32))
    requant = ir.Requant(
        mode="exact",
        mantissa=mantissa,
        shift=shift,
        zero_point=steps.zero_point,
        low=steps.low,
        high=steps.high,
    )
    found = requantize((weight * CODES + bias)[np.newaxis], requant, axis=0)[0]
    if not np.array_equal(found, steps.function):
        return None
    return _Fit(weight, bias, int(mantissa[0]), int(shift[0]))


def _line(steps: _Steps) -> tuple[float, float, float]:
    """Margin, slope and offset of the straight line that stays farthest within the intervals."""

    def room(slope: float) -> tuple[float, float, float]:
        lower = (steps.least - slope * CODES).max()
        upper = (steps.most - slope * CODES).min()
        return upper - lower, slope, (upper + lower) / 2

    begin, end = -256.0, 256.0
    for _ in range(200):  # the room is concave in the slope
        third = (end - begin) / 3
        if room(begin + third)[0] < room(end - third)[0]:
            begin += third
        else:
            end -= third
    return room((begin + end) / 2)
