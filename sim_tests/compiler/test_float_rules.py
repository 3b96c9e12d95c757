"""Float rules of whole operators against ONNX Runtime's own operators."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto

from qcompile.compiler.golden import float_rules, numerics
from qcompile.compiler.ir import Quantization, Requant
from qcompile.runtime.float_functions import fused_multiply_add, sigmoid

RunNode = Callable[..., npt.NDArray[np.int64]]


def model_codes(codes: npt.NDArray[np.int8], dtype: str) -> npt.NDArray[np.int64]:
    """int8 codes of the integer level as codes of the model's own type."""
    return codes.astype(np.int64) + (128 if dtype == "uint8" else 0)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("seed", range(8))
def test_add_table_equals_onnxruntime_for_all_pairs(
    run_node: RunNode, dtype: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    low, high = float_rules.code_range(dtype)
    a, b, c = (
        Quantization(
            scale=float(np.float32(2.0 ** rng.uniform(-7, 0))),
            zero_point=int(rng.integers(low, high + 1)),
        )
        for _ in range(3)
    )
    codes = np.arange(low, high + 1).astype(dtype)
    constants: dict[str, npt.ArrayLike] = {}
    for name, q in (("a", a), ("b", b), ("c", c)):
        constants[name + "s"] = np.asarray(q.scale, np.float32)
        constants[name + "z"] = np.asarray(q.zero_point, dtype)
    got = run_node(
        "QLinearAdd",
        {"a": np.repeat(codes, 256), "b": np.tile(codes, 256)},
        constants=constants,
        order="a as az b bs bz cs cz",
        output_type=TensorProto.INT8 if dtype == "int8" else TensorProto.UINT8,
        domain="com.microsoft",
    )
    table = float_rules.add_table(a, b, c, dtype=dtype)
    assert np.array_equal(model_codes(table.reshape(-1), dtype), got)


def test_fused_multiply_add_rounds_once() -> None:
    rng = np.random.default_rng(3)
    a, b, c = ((rng.normal(size=3000) * 2.0 ** rng.integers(-8, 9, 3000)) for _ in range(3))
    a, b, c = (x.astype(np.float32) for x in (a, b, c))
    # Products whose sum with c lies a hair beside the middle between two float32.
    a[:1000], b[:1000] = np.float32(1 + 2.0**-12), np.float32(1 - 2.0**-12)
    c[:1000] = np.float32(2.0**24) * rng.integers(-(2**10), 2**10, 1000).astype(np.float32)
    got = fused_multiply_add(a, b, c)
    for x, y, z, r in zip(a, b, c, got, strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        distance = abs(Fraction(float(r)) - exact)
        for neighbour in (
            np.nextafter(r, np.float32(np.inf)),
            np.nextafter(r, -np.float32(np.inf)),
        ):
            other = abs(Fraction(float(neighbour)) - exact)
            assert distance < other or (distance == other and (r.view(np.int32) & 1) == 0)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_average_pool_rule_equals_onnxruntime(run_node: RunNode, dtype: str) -> None:
    rng = np.random.default_rng(5)
    low, high = float_rules.code_range(dtype)
    x = rng.integers(low, high + 1, (2, 8, 6, 6)).astype(dtype)
    xq = Quantization(scale=float(np.float32(0.037)), zero_point=low + 77)
    yq = Quantization(scale=float(np.float32(0.031)), zero_point=low + 91)
    constants = {
        "xs": np.asarray(xq.scale, np.float32),
        "xz": np.asarray(xq.zero_point, dtype),
        "ys": np.asarray(yq.scale, np.float32),
        "yz": np.asarray(yq.zero_point, dtype),
    }
    kind = TensorProto.INT8 if dtype == "int8" else TensorProto.UINT8
    got = run_node(
        "QLinearAveragePool",
        {"x": x},
        constants=constants,
        order="x xs xz ys yz",
        output_type=kind,
        domain="com.microsoft",
        kernel_shape=[2, 2],
        strides=[2, 2],
    )
    windows = x.reshape(2, 8, 3, 2, 3, 2).transpose(0, 1, 2, 4, 3, 5).reshape(2, 8, 3, 3, 4)
    assert np.array_equal(float_rules.average_pool(windows, xq, yq, dtype=dtype), got)

    got = run_node(
        "QLinearGlobalAveragePool",
        {"x": x},
        constants=constants,
        order="x xs xz ys yz",
        output_type=kind,
        domain="com.microsoft",
        channels_last=0,
    )
    acc = (x.astype(np.int64) - xq.zero_point).sum(axis=(2, 3), keepdims=True)
    scale = float_rules.global_average_pool_scale(xq.scale, yq.scale, 36)
    moved = 128 if dtype == "uint8" else 0
    mantissa, shift = numerics.scale_to_mantissa(np.repeat(scale, 8))
    requant = Requant(
        mode="exact", mantissa=mantissa, shift=shift, zero_point=yq.zero_point - moved
    )
    assert np.array_equal(model_codes(numerics.requantize(acc, requant, axis=1), dtype), got)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("seed", range(5))
def test_sigmoid_table_equals_onnxruntime(run_node: RunNode, dtype: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    low, high = float_rules.code_range(dtype)
    xq = Quantization(
        scale=float(np.float32(2.0 ** rng.uniform(-7, -2))),
        zero_point=int(rng.integers(low, high + 1)),
    )
    yq = Quantization(scale=1 / 256, zero_point=low)
    got = run_node(
        "QLinearSigmoid",
        {"x": np.arange(low, high + 1).astype(dtype)},
        constants={
            "xs": np.asarray(xq.scale, np.float32),
            "xz": np.asarray(xq.zero_point, dtype),
            "ys": np.asarray(yq.scale, np.float32),
            "yz": np.asarray(yq.zero_point, dtype),
        },
        order="x xs xz ys yz",
        output_type=TensorProto.INT8 if dtype == "int8" else TensorProto.UINT8,
        domain="com.microsoft",
    )
    table = float_rules.lookup_table((sigmoid,), xq, yq, dtype=dtype)
    assert np.array_equal(model_codes(table, dtype), got)


@pytest.mark.parametrize(("dtype", "zero_point"), [("int8", -7), ("uint8", 200)])
def test_quantize_linear_rule_equals_onnxruntime_beside_ties(
    run_node: RunNode, dtype: str, zero_point: int
) -> None:
    scale = np.float32(0.0731)
    ties = (np.arange(-300, 300) + 0.5).astype(np.float32) * scale
    x = np.concatenate([ties, np.nextafter(ties, np.float32(9e9)), np.nextafter(ties, -ties)])
    got = run_node(
        "QuantizeLinear",
        {"x": x},
        constants={"s": scale, "z": np.asarray(zero_point, dtype)},
        order="x s z",
        output_type=TensorProto.INT8 if dtype == "int8" else TensorProto.UINT8,
    )
    q = Quantization(scale=float(scale), zero_point=zero_point)
    assert np.array_equal(float_rules.quantize_linear(x, q, dtype), got)
    back = float_rules.dequantize_linear(got, q)
    assert np.array_equal(back, (got - zero_point).astype(np.float32) * scale)
