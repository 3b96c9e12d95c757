"""Float rules of ONNX Runtime's CPU provider, step by step in float32.

They turn codes into codes for operators whose float32 rounding is visible in the result. The
compiler evaluates them once for every possible operand (256, or 256 x 256 for Add), so that the
integer graph holds tables and no float; the pooling rules are what the integer forms are compared
with. Scales are float32 values; zero points and codes are in the model's own type (int8 or uint8).

The rules were read in ONNX Runtime 1.31's sources (MLAS, x86-64) and are tested against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from qcompile.compiler.ir import Int8Array, Int64Array, Quantization
from qcompile.runtime.float_functions import fused_multiply_add

FloatArray = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
UnaryFunction = Callable[[FloatArray], FloatArray]
ScalarOperand = Literal["a", "b"]


def code_range(dtype: str) -> tuple[int, int]:
    """Lowest and highest code of an integer type, such as (-128, 127) for "int8"."""
    info = np.iinfo(np.dtype(dtype))
    return int(info.min), int(info.max)


def quantize_linear(x: FloatArray, quantization: Quantization, dtype: str) -> Int64Array:
    """QuantizeLinear: rint(clip(x / scale, low - zp, high - zp)) + zp, the division in float32.

    What is not a number becomes the lowest code, as on x86.
    """
    low, high = code_range(dtype)
    zero_point = quantization.zero_point
    with np.errstate(over="ignore"):
        ratio = x.astype(np.float32) / np.float32(quantization.scale)
    least, most = np.float32(low - zero_point), np.float32(high - zero_point)
    whole = np.rint(np.clip(np.where(np.isnan(ratio), least, ratio), least, most))
    return np.asarray(whole, dtype=np.int64) + zero_point


def dequantize_linear(codes: npt.ArrayLike, quantization: Quantization) -> FloatArray:
    """DequantizeLinear: float32(code - zero_point) * scale."""
    difference = np.asarray(codes).astype(np.int64) - quantization.zero_point
    return difference.astype(np.float32) * np.float32(quantization.scale)


def add_table(
    a: Quantization,
    b: Quantization,
    output: Quantization,
    *,
    dtype: str,
    low: int | None = None,
    high: int | None = None,
    scalar: ScalarOperand | None = None,
) -> Int8Array:
    """QLinearAdd for all operand pairs: int8 [256, 256], index and result moved to int8 codes.

    q = rint(fma(A, ra, fma(B, rb, F))), F = zC - fma(ra, zA, rb * zB), ra = sA / sC, rb = sB / sC,
    with raw codes A and B; the zero point is inside the rounding. `low` and `high` are a fused
    clamp in int8 codes (default -128 and 127). An operand that is one number over ONNX Runtime's
    innermost loop (`scalar`) is added into F beforehand, with a product that is rounded.
    """
    first, last = code_range(dtype)
    f32 = np.float32
    ratio_a = np.asarray(f32(a.scale) / f32(output.scale), dtype=f32)
    ratio_b = np.asarray(f32(b.scale) / f32(output.scale), dtype=f32)
    zero_a, zero_b = (np.asarray(x.zero_point, dtype=f32) for x in (a, b))
    folded = np.asarray(
        f32(output.zero_point)
        - fused_multiply_add(ratio_a, zero_a, np.asarray(ratio_b * zero_b, dtype=f32)),
        dtype=f32,
    )
    codes = np.arange(first, last + 1).astype(f32)
    if scalar == "a":
        inner = folded + codes * ratio_a
        total = fused_multiply_add(codes, ratio_b, inner[:, np.newaxis])
    else:
        inner = fused_multiply_add(codes, ratio_b, folded)
        if scalar == "b":
            inner = folded + codes * ratio_b
        total = fused_multiply_add(codes[:, np.newaxis], ratio_a, inner[np.newaxis, :])
    return _to_int8(np.rint(np.clip(total, first, last)), dtype, low, high)


def multiply_table(
    a: Quantization, b: Quantization, output: Quantization, *, dtype: str
) -> Int8Array:
    """QLinearMul for all operand pairs: int8 [256, 256] as `add_table`.

    q = rint(P * R + zC) with P = (A - zA) * (B - zB) and R = sA * sB / sC, each step rounded to
    float32; the zero point is inside the rounding.
    """
    first, last = code_range(dtype)
    f32 = np.float32
    ratio = f32(a.scale) * f32(b.scale) / f32(output.scale)
    codes = np.arange(first, last + 1)
    product = np.multiply.outer(codes - a.zero_point, codes - b.zero_point).astype(f32)
    total = product * ratio + f32(output.zero_point)
    return _to_int8(np.rint(np.clip(total, first, last)), dtype, None, None)


def quantize_to_int8(values: FloatArray, y: Quantization, dtype: str) -> Int8Array:
    """QuantizeLinear to codes of `dtype`, moved to int8."""
    return _to_int8(quantize_linear(values, y, dtype), dtype, None, None)


def common_quantization(a: Quantization, b: Quantization, dtype: str) -> Quantization | None:
    """The range of real numbers that two quantizations of one type both have, in 255 steps.

    That is what ONNX Runtime's optimizer puts in place of two that follow one another, step by
    step in float32, with the zero point rounded half away from zero. None where they have no
    number but 0 in common, or no normal float32 is its scale.
    """
    low, high = code_range(dtype)
    f32 = np.float32
    with np.errstate(over="ignore", invalid="ignore"):
        bottom = max(f32(low - q.zero_point) * f32(q.scale) for q in (a, b))
        top = min(f32(high - q.zero_point) * f32(q.scale) for q in (a, b))
        scale = f32(top - bottom) / f32(high - low)
    if not np.finfo(f32).tiny <= scale < np.inf:
        return None
    zero_point = float(f32(low) - f32(bottom / scale))
    whole = math.copysign(math.floor(abs(zero_point) + 0.5), zero_point)
    return Quantization(scale=float(scale), zero_point=int(whole))


def lookup_table(
    functions: tuple[UnaryFunction, ...],
    x: Quantization,
    y: Quantization,
    *,
    dtype: str,
    output_dtype: str | None = None,
) -> Int8Array:
    """Q(f(DQ(q))) for all codes: int8 [256], index and result moved to int8 codes.

    Functions are applied one by one in float32; none at all requantizes only.
    """
    first, last = code_range(dtype)
    values = dequantize_linear(np.arange(first, last + 1), x)
    for function in functions:
        values = function(values).astype(np.float32)
    result_dtype = output_dtype or dtype
    return _to_int8(quantize_linear(values, y, result_dtype), result_dtype, None, None)


def _to_int8(
    codes: npt.NDArray[np.generic], dtype: str, low: int | None, high: int | None
) -> Int8Array:
    moved = codes.astype(np.int64) - (128 if dtype == "uint8" else 0)
    return np.clip(moved, -128 if low is None else low, 127 if high is None else high).astype(
        np.int8
    )


def average_pool(
    windows: npt.ArrayLike,
    x: Quantization,
    y: Quantization,
    *,
    dtype: str,
    divisor: int | None = None,
) -> Int64Array:
    """QLinearAveragePool over the last axis of codes [..., taps], taps in row-major order.

    This is the rule of windows smaller than the image; a window of the whole image without pads is
    averaged as in QLinearGlobalAveragePool.

    Each tap is dequantized and added in float32, one after the other; divided by the number of
    taps (or `divisor`: with count_include_pad); quantized with the zero point inside.
    """
    taps = dequantize_linear(windows, x)
    total = np.zeros(taps.shape[:-1], dtype=np.float32)
    for i in range(taps.shape[-1]):
        total = total + taps[..., i]
    mean = total / np.float32(divisor or taps.shape[-1])
    low, high = code_range(dtype)
    codes = mean / np.float32(y.scale) + np.float32(y.zero_point)
    return np.asarray(np.clip(np.rint(codes), low, high), dtype=np.int64)


def global_average_pool_scale(x_scale: float, y_scale: float, elements: int) -> FloatArray:
    """QLinearGlobalAveragePool's scale of sum(x - zx): sx / float32(sy * elements), shape [1]."""
    product = np.float32(y_scale) * np.float32(elements)
    return np.asarray([np.float32(x_scale) / product], dtype=np.float32)
