"""Golden numerics against hand-worked tables, exact rationals and ONNX Runtime's own operators."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto

from qcompile.compiler.golden import float_rules, numerics
from qcompile.compiler.ir import Requant

RunNode = Callable[..., npt.NDArray[np.int64]]


def model_codes(codes: npt.NDArray[np.int8], dtype: str) -> npt.NDArray[np.int64]:
    """int8 codes of the integer level as codes of the model's own type."""
    return codes.astype(np.int64) + (128 if dtype == "uint8" else 0)


def exact_requant(scale: npt.NDArray[np.float32], zero_point: int) -> Requant:
    mantissa, shift = numerics.scale_to_mantissa(scale)
    return Requant(mode="exact", mantissa=mantissa, shift=shift, zero_point=zero_point)


def test_scale_to_mantissa_is_exact_for_powers_of_two_and_above_one() -> None:
    scales = np.array([1.0, 0.5, 1.82, 2.0**-40, 2.0**-41, 0.0], np.float32)
    mantissa, shift = numerics.scale_to_mantissa(scales)
    assert shift.tolist() == [23, 24, 23, 63, 0, 0]
    assert mantissa[:2].tolist() == [2**23, 2**23]
    assert mantissa[4:].tolist() == [0, 0]
    assert Fraction(int(mantissa[2]), 2**23) == Fraction(float(np.float32(1.82)))


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0, 2.0**24])
def test_scale_to_mantissa_refuses_what_is_no_scale(scale: float) -> None:
    with pytest.raises(ValueError, match=r"^scales must be finite and between 0 and 2\*\*24, not "):
        numerics.scale_to_mantissa(np.array([scale], np.float32))


def test_scale_to_shift_takes_the_nearest_power_of_two() -> None:
    scales = np.array([1.0, 0.5, 0.36, 0.35, 1e-30, 3.0], np.float32)
    assert numerics.scale_to_shift(scales).tolist() == [0, 1, 1, 2, 63, -2]


def test_rounding_ties_go_to_even_for_both_signs() -> None:
    x = np.array([-5, -3, -2, -1, 0, 1, 2, 3, 5, 6, 7], dtype=np.int64)
    assert numerics.round_half_even_shift(x, 1).tolist() == [-2, -2, -1, 0, 0, 0, 1, 2, 2, 3, 4]
    assert numerics.round_half_even_shift(x, 0).tolist() == x.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_rounded_shift_equals_exact_rationals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-(2**62) + 1, 2**62, 1000) >> rng.integers(0, 62, 1000)
    shift = rng.integers(0, 64, 1000)
    expected = [round(Fraction(int(a), 2 ** int(n))) for a, n in zip(x, shift, strict=True)]
    assert numerics.round_half_even_shift(x, shift).tolist() == expected


def test_round_to_significand_keeps_24_bits_with_ties_to_even() -> None:
    rng = np.random.default_rng(4)
    edges = [0, 1, 2**24 - 1, 2**24, 2**24 + 1, 2**24 + 3, 2**25 - 1, 2**31 - 1, 2**31, 2**61 - 1]
    x = np.array([*edges, *(rng.integers(0, 2**61, 5000) >> rng.integers(0, 60, 5000))])
    for sign in (1, -1):
        expected = []
        for value in x.tolist():
            unit = 2 ** max(value.bit_length() - 24, 0)
            expected.append(sign * round(Fraction(value, unit)) * unit)
        assert numerics.round_to_significand(sign * x).tolist() == expected


@pytest.mark.parametrize("zero_point", [-128, -1, 0, 5, 127])
def test_exact_requantization_equals_the_float32_rule_on_dense_accumulators(
    zero_point: int,
) -> None:
    rng = np.random.default_rng(zero_point + 128)
    scale = (2.0 ** rng.uniform(-14, 0.9, 16)).astype(np.float32)
    acc = rng.integers(-(2**17), 2**17, (20000, 16)) << rng.integers(0, 15, (20000, 1))
    real = acc.astype(np.float32) * scale
    low, high = np.float32(-128 - zero_point), np.float32(127 - zero_point)
    expected = np.rint(np.clip(real, low, high)).astype(np.int64) + zero_point
    codes = numerics.requantize(acc, exact_requant(scale, zero_point))
    assert np.array_equal(codes, expected)


def test_exact_requantization_keeps_the_double_rounding_of_the_float32_product() -> None:
    # Accumulators whose float32 product is a tie while the exact product is none: one rounding
    # alone gets them wrong, and there are some among these 8 million.
    scale = np.linspace(0.001, 0.01, 200).astype(np.float32)
    acc = np.arange(-20000, 20000, dtype=np.int64)[:, np.newaxis]
    expected = np.clip(np.rint(acc.astype(np.float32) * scale), -128, 127)
    mantissa, shift = numerics.scale_to_mantissa(scale)
    once = np.clip(numerics.round_half_even_shift(acc * mantissa, shift), -128, 127)
    assert np.count_nonzero(once != expected) > 0
    codes = numerics.requantize(acc, exact_requant(scale, 0)).astype(np.int64)
    assert np.array_equal(codes, expected)


def test_zero_point_inside_sends_ties_to_the_even_code() -> None:
    half = np.array([0.5], np.float32)
    acc = np.arange(-6, 7, dtype=np.int64)[:, np.newaxis]
    mantissa, shift = numerics.scale_to_mantissa(half)
    for zero_point in (-128, -7, 0, 3, 4):
        requant = Requant(
            mode="exact",
            mantissa=mantissa,
            shift=shift,
            zero_point=zero_point,
            zero_point_inside=True,
        )
        expected = np.clip(np.rint(acc * 0.5 + zero_point), -128, 127)
        assert np.array_equal(numerics.requantize(acc, requant), expected)


def test_shift_requantization_is_one_rounding_shift_with_clamp() -> None:
    requant = Requant(
        mode="shift",
        mantissa=np.ones(2, np.int64),
        shift=np.array([2, 3]),
        zero_point=1,
        low=1,
        high=5,
    )
    acc = np.array([[-8, -8], [2, 12], [6, 20], [100, 100]], dtype=np.int64)
    assert numerics.requantize(acc, requant).tolist() == [[1, 1], [1, 3], [3, 3], [5, 5]]


def test_requantize_takes_the_channel_axis_by_number() -> None:
    requant = exact_requant(np.array([0.25, 0.5, 1.0], np.float32), 0)
    acc = np.arange(-12, 12, dtype=np.int64).reshape(2, 3, 2, 2)
    by_axis = numerics.requantize(acc, requant, axis=1)
    last = numerics.requantize(np.moveaxis(acc, 1, -1), requant)
    assert np.array_equal(np.moveaxis(by_axis, 1, -1), last)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("seed", range(4))
def test_requantize_equals_onnxruntime_matmul(run_node: RunNode, dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = float_rules.code_range(dtype)
    depth, channels = 200, 48
    x = rng.integers(low, high + 1, (400, depth)).astype(dtype)
    w = rng.integers(low, high + 1, (depth, channels)).astype(dtype)
    zeros = rng.integers(low, high + 1, 3)
    scales = (2.0 ** rng.uniform(-9, -1, 2)).astype(np.float32)
    output_scale = np.float32(2.0 ** rng.uniform(-1, 3))
    got = run_node(
        "QLinearMatMul",
        {"x": x},
        constants={
            "xs": scales[0],
            "xz": zeros[0].astype(dtype),
            "w": w,
            "ws": scales[1],
            "wz": zeros[1].astype(dtype),
            "ys": output_scale,
            "yz": zeros[2].astype(dtype),
        },
        order="x xs xz w ws wz ys yz",
        output_type=TensorProto.INT8 if dtype == "int8" else TensorProto.UINT8,
    )
    acc = (x.astype(np.int64) - zeros[0]) @ (w.astype(np.int64) - zeros[1])
    scale = numerics.combined_scale(float(scales[0]), scales[1:], float(output_scale))
    moved = 128 if dtype == "uint8" else 0
    requant = exact_requant(np.repeat(scale, channels), int(zeros[2]) - moved)
    assert np.array_equal(model_codes(numerics.requantize(acc, requant), dtype), got)


def test_requantize_equals_onnxruntime_convolution_with_biases_beyond_24_bits(
    run_node: RunNode,
) -> None:
    rng = np.random.default_rng(9)
    channels = 64
    x = rng.integers(-128, 128, (8, 4, 16, 16)).astype(np.int8)
    w = rng.integers(-127, 128, (channels, 4, 1, 1)).astype(np.int8)
    bias = (rng.integers(-(2**30), 2**30, channels) >> rng.integers(0, 24, channels)).astype(
        np.int32
    )
    weight_scale = (100 / np.maximum(np.abs(bias.astype(np.float64)), 1e4)).astype(np.float32)
    got = run_node(
        "QLinearConv",
        {"x": x},
        constants={
            "xs": np.float32(0.7),
            "xz": np.int8(-3),
            "w": w,
            "ws": weight_scale,
            "wz": np.zeros(channels, np.int8),
            "ys": np.float32(0.61),
            "yz": np.int8(11),
            "b": bias,
        },
        order="x xs xz w ws wz ys yz b",
        output_type=TensorProto.INT8,
    )
    acc = np.einsum("nchw,oc->nohw", x.astype(np.int64) + 3, w[:, :, 0, 0].astype(np.int64))
    acc += bias.astype(np.int64)[:, np.newaxis, np.newaxis]
    assert np.abs(acc).max() > 2**28
    scale = numerics.combined_scale(0.7, weight_scale, 0.61)
    assert np.array_equal(numerics.requantize(acc, exact_requant(scale, 11), axis=1), got)
