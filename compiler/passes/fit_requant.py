"""Constants of a layer behind whose sums float operators stand before the next QuantizeLinear.

A batch normalization, a scaling or a float bias makes the code of a sum a rising (or falling) step
function, computed in float32. Per output channel the thresholds are found, the smallest sum of each
code; then whole numbers are looked for with which requantization has the same thresholds:

    requantize((factor * sum << fraction) + bias)

The factor multiplies the weights, so that the bias has finer steps than a sum: a bias rounded to a
whole sum would move thresholds. Where weights leave no room for a factor that gives all thresholds,
the accumulators get a fraction, which the hardware does with one shift. Where that does not give
them either, the nearest constants are taken, which are refused if any sum's code were more than one
step off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from qcompile.compiler import ir_float, ir_quantized
from qcompile.compiler.golden.float_rules import quantize_linear
from qcompile.compiler.golden.numerics import requantize, scale_to_mantissa
from qcompile.compiler.golden.unary import UnaryOp, unary_function
from qcompile.compiler.ir import FRACTION_BITS, Int16Array, Int64Array, Quantization, Requant

FloatArray = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

WEIGHT_LIMIT = 127
"""Weights are multiplied as far as they stay within 8 bits."""

FACTORS = (1, 2, 3, 4, 6, 8, 11, 16, 18, 25, 32, 42, 63, 90, 127)
NEIGHBOURS = tuple(sorted(range(-40, 41), key=abs))
"""Steps of a float32 from the best scale: a bias that is a whole number may fit another one."""
NARROWINGS = 80
"""Thirds by which an interval of scales is narrowed: to 2**-46 of it, float64's precision."""
SUM_LIMIT = 2**31
FAR_OFF = 256
"""Steps that no two codes are apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatSteps:
    """What ONNX Runtime does with the sums of a layer, until they are codes.

    Attributes
    ----------
    acc_scale : float32 [channels]
        Real value of 1 in the sums.
    steps : functions of one value, with constants [] or [channels]
    quantization, dtype : of the codes
    low, high : int
        A clamp of the codes.
    """

    acc_scale: FloatArray
    steps: tuple[UnaryOp, ...]
    quantization: Quantization
    dtype: str
    low: int
    high: int

    def codes(self, acc: Int64Array) -> Int64Array:
        """Codes of sums [channels, n]; what float32 does not hold saturates."""
        real = acc.astype(np.float32) * self.acc_scale[:, np.newaxis]
        with np.errstate(over="ignore"):
            for step in self.steps:
                real = np.asarray(unary_function(_as_columns(step))(real), dtype=np.float32)
        codes = quantize_linear(real, self.quantization, self.dtype)
        return np.clip(codes, self.low, self.high)

    def line(self) -> tuple[Float64Array, Float64Array]:
        """Codes per sum and codes at the sum 0, without zero point and clamps: [channels] each."""
        points = np.broadcast_to(np.asarray([0.0, 1.0]), (len(self.acc_scale), 2))
        real = points * self.acc_scale.astype(np.float64)[:, np.newaxis]
        for step in self.steps:
            if _is_truncation(step):
                real = _untruncated(step, real)
            elif not (isinstance(step, ir_float.Clip) or _is_bipolar(step)):
                function: Callable[[Any], Any] = unary_function(_as_columns(step, np.float64))
                real = function(real)
        codes = real / np.float64(np.float32(self.quantization.scale))
        return codes[:, 1] - codes[:, 0], codes[:, 0]


def _is_bipolar(step: UnaryOp) -> bool:
    return isinstance(step, ir_float.Unary) and step.function == "Bipolar"


def _is_truncation(step: UnaryOp) -> TypeGuard[ir_float.Unary]:
    return isinstance(step, ir_float.Unary) and step.function.startswith("Trunc")


def _untruncated(step: ir_float.Unary, real: Float64Array) -> Float64Array:
    """What a Trunc would give if it kept all bits: the line through its steps."""
    given = dict(step.parameters)
    whole = (real / given["scale"] + given["zero_point"]) * given["factor"]
    return np.asarray((whole - given["out_zero"]) * given["out_scale"])


def _as_columns(step: UnaryOp, dtype: npt.DTypeLike = np.float32) -> UnaryOp:
    """Constants [channels] as [channels, 1]."""
    if not isinstance(step, ir_float.Arithmetic):
        return step
    constant = step.constant.astype(dtype)
    return replace(step, constant=constant.reshape(-1, 1) if constant.ndim else constant)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Constants for each channel.

    `factor` (negative where codes fall with the sum, 0 where all sums have one code) multiplies
    weights and bias of the sums; `fraction` is the accumulators', `steps_off` the largest
    difference of any sum's code.
    """

    factor: Int64Array
    bias: Int64Array
    mantissa: Int64Array
    shift: Int64Array
    fraction: int
    steps_off: int


def sum_bounds(
    weight: Int16Array, bias: Int64Array, least: int, most: int
) -> tuple[Int64Array, Int64Array]:
    """Lowest and highest sum of each channel for inputs (minus zero point) of least to most."""
    rows = weight.reshape(len(weight), -1).astype(np.int64)
    above, below = np.maximum(rows, 0).sum(axis=1), np.minimum(rows, 0).sum(axis=1)
    return bias + above * least + below * most, bias + above * most + below * least


def fit(
    float_steps: FloatSteps, weight: Int16Array, bias: Int64Array, inputs: tuple[int, int]
) -> Fit:
    """Integer constants for a layer's sums; `inputs` is the range of its codes minus zero point."""
    least, most = sum_bounds(weight, bias, *inputs)
    ends = float_steps.codes(np.stack([least, most], axis=1))
    sign = np.where(ends[:, 1] < ends[:, 0], -1, 1)
    limit = np.abs(weight.reshape(len(weight), -1).astype(np.int64)).max(axis=1)
    largest = np.where(limit > 0, WEIGHT_LIMIT // np.maximum(limit, 1), 1)
    searches = []
    for fraction in (0, FRACTION_BITS):
        search = _Search(float_steps, (sign, least, most), fraction)
        for factor in FACTORS:
            search.try_factor(factor, np.maximum(largest, 1))
        searches.append(search)
        if search.solved.all():
            break
    return min(searches, key=lambda search: search.rank).result(bias)


class _Search:
    """Looks for constants of all channels at once; sums are multiplied by `sign` throughout.

    `sums` are each channel's sign, lowest and highest sum.
    """

    def __init__(
        self,
        float_steps: FloatSteps,
        sums: tuple[Int64Array, Int64Array, Int64Array],
        fraction: int,
    ) -> None:
        sign, least, most = sums
        self.fraction = fraction
        self.steps = float_steps
        self.sign = sign
        self.low = np.where(sign > 0, least, -most)
        self.high = np.where(sign > 0, most, -least)
        slope, self.offset = float_steps.line()
        self.slope = np.abs(slope)
        self.targets, self.thresholds, self.valid = self._find_thresholds()
        channels = len(sign)
        self.first = self._codes(self.low[:, np.newaxis])[:, 0]
        self.constant = ~self.valid.any(axis=1) | ~(self.slope > 0)
        self.solved = self.constant.copy()
        self.factor = np.zeros(channels, dtype=np.int64)
        self.bias = self.first - float_steps.quantization.zero_point
        self.scale = np.ones(channels, dtype=np.float32)
        self.off = np.where(self.valid.any(axis=1), FAR_OFF, 0)
        self.wrong = np.where(self.off > 0, np.iinfo(np.int64).max, 0)

    @property
    def rank(self) -> tuple[int, int]:
        """The less, the better: steps that any sum is off, and thresholds that moved."""
        return int(self.off.max(initial=0)), int(self.wrong.sum())

    def _codes(self, acc: Int64Array) -> Int64Array:
        return self.steps.codes(acc * self.sign[:, np.newaxis])

    def _find_thresholds(self) -> tuple[Int64Array, Int64Array, npt.NDArray[np.bool_]]:
        """For each code but the lowest, the smallest sum that has it or a higher one."""
        ends = self._codes(np.stack([self.low, self.high], axis=1))
        count = int((ends[:, 1] - ends[:, 0]).max())
        targets = ends[:, :1] + 1 + np.arange(max(count, 1))
        valid = targets <= ends[:, 1:]
        below = np.broadcast_to(self.low[:, np.newaxis], targets.shape).copy()
        above = np.broadcast_to(self.high[:, np.newaxis], targets.shape).copy()
        while np.any(above - below > 1):  # codes of `below` are lower, those of `above` are not
            middle = (above + below) // 2
            reached = self._codes(middle) >= targets
            above = np.where(reached, middle, above)
            below = np.where(reached, below, middle)
        return targets, above, valid

    @np.errstate(over="ignore")
    def try_factor(self, factor: int, largest: Int64Array) -> None:
        """Try biases near the exact one with this factor, where the weights allow it.

        A scale that float32 does not hold is none that `_keep_best` takes.
        """
        open_ = ~self.solved & (factor <= largest)
        slope = np.where(open_, self.slope, 1.0)
        unit = factor << self.fraction
        exact = np.rint(np.where(open_, unit * self.offset / slope, 0.0)).astype(np.int64)
        reach = unit * np.maximum(np.abs(self.low), np.abs(self.high)) + np.abs(exact)
        open_ &= reach < SUM_LIMIT - 8
        nearest = np.where(open_, self.slope / unit, 1.0)
        widest = self._widest(unit, nearest).astype(np.float32)
        for steps in NEIGHBOURS:
            if not np.any(open_ & ~self.solved):
                return
            scale = widest * np.float32(1 + steps * 2.0**-23)
            least, most = self._room(unit, 1 / scale.astype(np.float64))
            middle = np.rint((least + most) / 2).astype(np.int64)
            self._keep_best(open_ & ~self.solved, factor, middle, scale)
        for distance in (0, 1, -1):
            bias = exact + distance
            self._keep_best(open_ & ~self.solved, factor, bias, nearest.astype(np.float32))

    def _room(self, unit: int, u: Float64Array) -> tuple[Float64Array, Float64Array]:
        """Least and most bias with a scale 1 / u; where least is more, no bias is right.

        With h the result at which a code begins and T the smallest sum that has it, a bias b is
        right if (T - 1) * unit + b < h * u <= T * unit + b.
        """
        half = self.targets - self.steps.quantization.zero_point - 0.5
        least = half * u[:, np.newaxis] - unit * self.thresholds.astype(np.float64)
        return (
            np.where(self.valid, least, least[:, :1]).max(axis=1),
            np.where(self.valid, least, least[:, :1]).min(axis=1) + unit,
        )

    def _widest(self, unit: int, nearest: Float64Array) -> Float64Array:
        """The scale that leaves the bias most room, which is a concave function of 1 / scale."""
        low, high = np.minimum(0.5 / nearest, unit / 4), 1.5 / nearest  # one sum, several codes
        for _ in range(NARROWINGS):
            left, right = low + (high - low) / 3, high - (high - low) / 3
            (left_least, left_most), (right_least, right_most) = (
                self._room(unit, u) for u in (left, right)
            )
            better = right_most - right_least > left_most - left_least
            low, high = np.where(better, left, low), np.where(better, high, right)
        return 2 / (low + high)

    def _keep_best(
        self, open_: npt.NDArray[np.bool_], factor: int, bias: Int64Array, scale: FloatArray
    ) -> None:
        scale = np.where(open_ & (scale < 2.0**24), scale, np.float32(1))
        difference = self._differences(factor, bias, scale)
        off, wrong = difference.max(axis=1), np.count_nonzero(difference, axis=1)
        better = open_ & ((off < self.off) | ((off == self.off) & (wrong < self.wrong)))
        self.factor = np.where(better, factor, self.factor)
        self.bias = np.where(better, bias, self.bias)
        self.scale = np.where(better, scale, self.scale)
        self.off = np.where(better, off, self.off)
        self.wrong = np.where(better, wrong, self.wrong)
        self.solved |= better & (off == 0)

    def _differences(self, factor: int, bias: Int64Array, scale: FloatArray) -> Int64Array:
        """Differences of codes, at every threshold and just below it, and at the ends."""
        ends = np.stack([self.low, self.high], axis=1)
        acc = np.concatenate([self.thresholds, self.thresholds - 1, ends], axis=1)
        acc = np.clip(acc, self.low[:, np.newaxis], self.high[:, np.newaxis])
        moved = 128 if self.steps.dtype == "uint8" else 0
        mantissa, shift = scale_to_mantissa(scale)
        requant = Requant(
            mode="exact",
            mantissa=mantissa,
            shift=shift,
            zero_point=self.steps.quantization.zero_point - moved,
            low=self.steps.low - moved,
            high=self.steps.high - moved,
            fraction=self.fraction,
        )
        total = (factor * acc << self.fraction) + bias[:, np.newaxis]
        got = requantize(total, requant, axis=0).astype(np.int64)
        return np.asarray(np.abs(got + moved - self._codes(acc)))

    def result(self, bias: Int64Array) -> Fit:
        """The constants; a channel of one code has factor 0 and this code as its bias."""
        factor = np.where(self.constant, 0, self.factor * self.sign)
        mantissa, shift = scale_to_mantissa(self.scale)
        return Fit(
            factor=factor,
            bias=(factor * bias << self.fraction) + self.bias,
            mantissa=mantissa,
            shift=shift,
            fraction=self.fraction,
            steps_off=int(self.off.max(initial=0)),
        )


def without_steps(
    layer: ir_quantized.QuantizedConv, float_steps: FloatSteps
) -> ir_quantized.QuantizedConv:
    """The layer with its float operators as a scale and a rounded bias: an approximation."""
    slope, offset = float_steps.line()
    sign = np.where(slope < 0, -1, 1)
    scale = np.maximum(np.abs(slope), 2.0**-60)
    output = np.float32(float_steps.quantization.scale)
    bias = sign * layer.bias + np.rint(offset / scale).astype(np.int64)
    return replace(
        layer,
        weight=(layer.weight * sign.reshape(-1, 1, 1, 1)).astype(np.int16),
        acc_scale=(scale * output).astype(np.float32),
        bias=np.clip(bias, 1 - (SUM_LIMIT // 2), (SUM_LIMIT // 2) - 1),
        steps=(),
    )
