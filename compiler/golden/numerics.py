"""The number contract: every rounding of qcompile is defined here, as exact integer arithmetic.

An accumulator is the sum of products and bias of one output, a whole number. It becomes an int8
code by `requantize`, which reproduces bit for bit what ONNX Runtime's QLinearConv, QLinearMatMul
and QGemm compute in float32 on x86: convert the accumulator to float32, multiply by the float32
scale, round to the nearest whole number with ties to even, add the zero point, clamp. Both float32
roundings (24 significant bits) are written out as integer operations, so hardware needs no float.

Arrays are int64 unless a signature says otherwise. Codes are int8: a uint8 code and its zero point
are the same minus 128. Float rules of whole operators (tables, Softmax) are in `float_rules`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qcompile.compiler.golden.log_domain import code_thresholds
from qcompile.compiler.ir import Int8Array, Int64Array, Requant

FloatArray = npt.NDArray[np.float32]

SIGNIFICAND_BITS = 24
"""Significant bits of a float32 (IEEE 754 binary32, the implicit one included)."""

MAX_SHIFT = 63
"""Largest right shift of a Requant; a live channel stays below it, see `scale_to_mantissa`."""


def round_half_even_shift(x: Int64Array, shift: int | Int64Array) -> Int64Array:
    """x / 2**shift to the nearest whole number, ties to even; any sign, shift 0..63.

    |x| must be below 2**62, so that nothing overflows.
    """
    return _round_shift(x, np.asarray(shift, dtype=np.int64), tie_parity=0)


def _round_shift(x: Int64Array, shift: Int64Array, *, tie_parity: int) -> Int64Array:
    """x / 2**shift to the nearest whole number, ties to the one of parity `tie_parity`."""
    # Adding half, less one where the floor has the wanted parity, carries ties to that parity.
    parity = (np.right_shift(x, shift) & 1) ^ tie_parity
    half = np.left_shift(1, np.maximum(shift - 1, 0)) - 1
    return np.where(shift == 0, x, np.right_shift(x + parity + half, shift))


def round_to_significand(x: Int64Array) -> Int64Array:
    """x rounded to 24 significant bits, ties to even; any sign, |x| below 2**62.

    The conversion of an integer to float32 is this rounding (IEEE 754), and the way back is exact.
    """
    return x.astype(np.float32).astype(np.int64)


def requantize(acc: Int64Array, requant: Requant, *, axis: int = -1) -> Int8Array:
    """Codes of accumulators, per channel of `axis`; |acc| below 2**37.

    Mode `exact`: acc to 24 significant bits (a conversion to float32; no change up to 2**24),
    times the 24-bit mantissa, to 24 significant bits (the float32 product), right shift, every
    rounding with ties to even (which treats both signs alike). With a `fraction` acc is not
    rounded: no conversion to float32 of ONNX Runtime's stands behind it. Mode `shift`: right shift
    with ties to even. Then zero point and clamp; with `zero_point_inside` the zero point is added
    before the last rounding. Mode `log`: comparisons alone, see `ir.Requant`.
    """
    shape = [1] * acc.ndim
    shape[axis] = -1
    if requant.mode == "log":
        return _logarithmic(acc, requant, shape)
    shift = requant.shift.reshape(shape)
    scaled = acc
    if requant.mode == "exact":
        whole = acc if requant.fraction else round_to_significand(acc)
        product = whole * requant.mantissa.reshape(shape)
        scaled = round_to_significand(product)
    # With the zero point inside, a tie goes to the even code: to the odd multiple if it is odd.
    tie_parity = requant.zero_point & 1 if requant.zero_point_inside else 0
    codes = _round_shift(scaled, shift, tie_parity=tie_parity) + requant.zero_point
    return np.clip(codes, requant.low, requant.high).astype(np.int8)


def _logarithmic(acc: Int64Array, requant: Requant, shape: list[int]) -> Int8Array:
    """The number of thresholds that each sum has reached, clamped."""
    assert requant.log is not None and requant.limits is not None, "a log Requant has both"
    codes = np.zeros(acc.shape, np.int8)
    for threshold in code_thresholds(requant.log, requant.limits):
        codes += acc >= threshold.reshape(shape)
    return np.clip(codes, requant.low, requant.high).astype(np.int8)


def scale_to_mantissa(scale: FloatArray) -> tuple[Int64Array, Int64Array]:
    """Mantissa and right shift of float32 scales: scale == mantissa / 2**shift, exactly.

    The mantissa is in [2**23, 2**24) and the shift in 0..63. A scale below 2**-40 gives (0, 0):
    an accumulator of 32 bits times such a scale always rounds to 0.
    Scales must be finite, not negative and below 2**24.
    """
    if not np.all(np.isfinite(scale)) or np.any(scale < 0) or np.any(scale >= 2.0**24):
        raise ValueError(f"scales must be finite and between 0 and 2**24, not {scale}")
    fraction, exponent = np.frexp(scale.astype(np.float64))  # 0.5 <= fraction < 1
    mantissa = np.ldexp(fraction, SIGNIFICAND_BITS).astype(np.int64)
    shift = SIGNIFICAND_BITS - exponent.astype(np.int64)
    live = (mantissa > 0) & (shift <= MAX_SHIFT)
    return np.where(live, mantissa, 0), np.where(live, shift, 0)


def scale_to_shift(scale: FloatArray) -> Int64Array:
    """The n for which 2**-n is nearest to each scale in the logarithmic sense, at most 63.

    A result below 0 (a scale above the square root of 2) has no right shift: callers refuse it.
    """
    if not np.all(np.isfinite(scale)) or np.any(scale <= 0):
        raise ValueError(f"scales must be finite and positive, not {scale}")
    exact = -np.log2(scale.astype(np.float64))
    return np.minimum(np.rint(exact).astype(np.int64), MAX_SHIFT)


def combined_scale(input_scale: float, weight_scale: FloatArray, output_scale: float) -> FloatArray:
    """float32(float32(input * weight) / output): ONNX Runtime's scale of an accumulator."""
    with np.errstate(over="ignore", under="ignore"):
        product = np.float32(input_scale) * weight_scale.astype(np.float32)
        return np.asarray(product / np.float32(output_scale), dtype=np.float32)
