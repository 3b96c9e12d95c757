"""Forms of Conv: groups, lines, padding and biases, golden against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler.pipeline import load_model
from sim_tests.compiler.agreement import assert_equal_everywhere, random_inputs
from sim_tests.compiler.networks import Network
from sim_tests.compiler.qoperator_networks import (
    TYPE_PAIRS,
    random_parameters,
    random_weight,
    single,
    tensor,
)


def qdq_conv(
    rng: np.random.Generator,
    types: tuple[str, str],
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    *,
    bias: str = "",
    zero_point: int | None = 0,
    opset: int = 13,
    **attributes: Any,
) -> Network:
    """DQ, Conv 'c' with scales per channel and a bias ("", "int32" or "float32"), Q."""
    network = Network(opset)
    before, after = (random_parameters(rng, types[0]) for _ in range(2))
    x = network.dequantize(network.input("x", types[0], x_shape), before)
    names, scale = random_weight(network, rng, w_shape, types[1], channels=0, zero_point=zero_point)
    operands = [x, network.node("DequantizeLinear", *names, axis=0)]
    if bias == "int32":
        codes = rng.integers(-3000, 3000, w_shape[0]).astype(np.int32)
        operands.append(network.weight(codes, np.float32(before[0]) * scale, axis=0))
    elif bias:
        operands.append(network.constant(rng.normal(size=w_shape[0]), "float32"))
    made = network.node("Conv", *operands, name="c", **attributes)
    network.output(network.quantize(made, after, output="y"), types[0])
    return network


def check(network: Network, path: Path, rng: np.random.Generator) -> None:
    network.save(path)
    model = load_model(path)
    assert_equal_everywhere(path, model, random_inputs(model, rng, 8))


@pytest.mark.parametrize("types", TYPE_PAIRS, ids="-".join)
@pytest.mark.parametrize(
    ("channels", "shape", "group"),
    [
        (6, (6, 3, 3, 3), 2),
        (6, (9, 2, 3, 3), 3),
        (4, (8, 1, 3, 3), 4),
        (1, (5, 1, 3, 3), 1),
        (6, (12, 2, 1, 1), 3),
    ],
)
def test_groups_of_any_size_equal_onnxruntime(
    tmp_path: Path,
    rng: np.random.Generator,
    types: tuple[str, str],
    channels: int,
    shape: tuple[int, int, int, int],
    group: int,
) -> None:
    zero = 0 if types[1] == "int8" else 128
    network = qdq_conv(
        rng,
        types,
        (1, channels, 7, 6),
        shape,
        bias="int32",
        zero_point=zero,
        group=group,
        pads=[1, 0, 0, 1] if shape[2] > 1 else [0, 0, 0, 0],
    )
    check(network, tmp_path / "m.onnx", rng)


@pytest.mark.parametrize("types", TYPE_PAIRS, ids="-".join)
@pytest.mark.parametrize("bias", ["", "int32", "float32"])
@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((4, 6, 3), {"pads": [2, 1]}),
        ((4, 6, 4), {"strides": [3], "dilations": [2]}),
        ((6, 1, 5), {"group": 6, "auto_pad": "SAME_UPPER", "strides": [2]}),
        ((8, 3, 3), {"group": 2, "kernel_shape": [3]}),
    ],
)
def test_lines_equal_onnxruntime(
    tmp_path: Path,
    rng: np.random.Generator,
    types: tuple[str, str],
    bias: str,
    shape: tuple[int, int, int],
    attributes: dict[str, Any],
) -> None:
    network = qdq_conv(rng, types, (1, 6, 17), shape, bias=bias, zero_point=None, **attributes)
    check(network, tmp_path / "m.onnx", rng)


def test_quantized_line_equals_onnxruntime(tmp_path: Path, rng: np.random.Generator) -> None:
    network = Network()
    x = tensor(network, network.input("x", "uint8", (1, 6, 17)), (0.05, 100, "uint8"))
    w, _ = random_weight(network, rng, (4, 6, 3), "int8", channels=0)
    operands = [*x, *w, *tensor(network, "", (0.05, 130, "uint8"))]
    single(network, "QLinearConv", operands, "uint8", pads=[1, 1])
    check(network, tmp_path / "m.onnx", rng)


@pytest.mark.parametrize("types", TYPE_PAIRS, ids="-".join)
def test_float_bias_is_rounded_as_onnxruntime_does(
    tmp_path: Path, rng: np.random.Generator, types: tuple[str, str]
) -> None:
    network = qdq_conv(rng, types, (1, 4, 6, 6), (64, 4, 3, 3), bias="float32", zero_point=None)
    check(network, tmp_path / "m.onnx", rng)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("strides", [[1, 1], [2, 3]])
def test_padding_by_name_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, auto_pad: str, strides: list[int]
) -> None:
    network = qdq_conv(
        rng,
        ("int8", "int8"),
        (1, 3, 8, 7),
        (4, 3, 3, 2),
        auto_pad=auto_pad,
        strides=strides,
    )
    check(network, tmp_path / "m.onnx", rng)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_missing_zero_points_are_zero(tmp_path: Path, rng: np.random.Generator, dtype: str) -> None:
    network = Network()
    scales = [network.constant(scale, "float32") for scale in (0.05, 0.01, 0.06)]
    x = network.node("DequantizeLinear", network.input("x", "uint8", (1, 4, 6, 6)), scales[0])
    codes = network.constant(rng.integers(0, 100, (4, 4, 3, 3)), dtype)
    w = network.node("DequantizeLinear", codes, scales[1])
    network.node("QuantizeLinear", network.node("Conv", x, w), scales[2], output="y")
    network.output("y", "uint8")
    check(network, tmp_path / "m.onnx", rng)
