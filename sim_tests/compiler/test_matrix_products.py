"""Forms of MatMul and Gemm, golden against ONNX Runtime."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler.compare import compare_layer
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from sim_tests.compiler.agreement import assert_equal_everywhere, random_inputs
from sim_tests.compiler.networks import Network
from sim_tests.compiler.qoperator_networks import (
    TYPE_PAIRS,
    random_parameters,
    random_weight,
    single,
    tensor,
)

ACTIVATION = (0.05, 3, "int8")


def check(network: Network, path: Path, rng: np.random.Generator, *, islands: int = 0) -> None:
    """Equal in every element; an island at most one step apart."""
    network.save(path)
    model = load_model(path)
    inputs = random_inputs(model, rng, 30)
    if not islands:
        assert_equal_everywhere(path, model, inputs)
        return
    reference = Reference(path, [])
    assert len(reference.islands) == islands
    expected = reference.run(inputs).outputs["y"]
    record = compare_layer("y", run_model(model, inputs)["y"], expected)
    assert record.max_steps <= 1
    assert record.mismatches <= 0.02 * record.elements


def gemm(
    rng: np.random.Generator,
    types: tuple[str, str] = ("int8", "int8"),
    *,
    bias: str = "",
    scale_of_bias: float = 1.0,
    **attributes: Any,
) -> Network:
    """x [1, 24] times a constant with 10 columns; transA takes x as [24, 1]."""
    network = Network()
    before, after = (random_parameters(rng, types[0]) for _ in range(2))
    codes = network.input("x", types[0], (1, 24))
    if attributes.get("transA"):
        codes = network.node("Reshape", codes, network.constant([24, 1], "int64"))
    shape = (10, 24) if attributes.get("transB") else (24, 10)
    names, scale = random_weight(network, rng, shape, types[1], depth=24)
    operands = [network.dequantize(codes, before), network.node("DequantizeLinear", *names)]
    if bias == "int32":
        exact = np.float32(before[0]) * scale * np.float32(scale_of_bias)
        operands.append(network.weight(rng.integers(-3000, 3000, 10).astype(np.int32), exact))
    elif bias:
        operands.append(network.constant(rng.normal(size=10), "float32"))
    made = network.node("Gemm", *operands, name="g", **attributes)
    network.output(network.quantize(made, after, output="y"), types[0])
    return network


@pytest.mark.parametrize("types", TYPE_PAIRS, ids="-".join)
@pytest.mark.parametrize("bias", ["", "int32", "float32"])
@pytest.mark.parametrize("transposed", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm_of_every_order_equals_onnxruntime(
    tmp_path: Path,
    rng: np.random.Generator,
    types: tuple[str, str],
    bias: str,
    transposed: tuple[int, int],
) -> None:
    network = gemm(rng, types, bias=bias, transA=transposed[0], transB=transposed[1])
    check(network, tmp_path / "m.onnx", rng)


@pytest.mark.parametrize("alpha", [2.0, 0.3, -0.7, 1e-3])
def test_gemm_with_alpha_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, alpha: float
) -> None:
    check(gemm(rng, ("uint8", "int8"), alpha=alpha), tmp_path / "m.onnx", rng)


@pytest.mark.parametrize(
    ("alpha", "beta", "bias", "scale_of_bias"),
    [
        (0.5, 1.0, "int32", 0.5),
        (0.3, 1.0, "int32", 1.0),
        (1.0, 2.0, "int32", 0.5),
        (1.0, 0.4, "int32", 1.0),
        (-0.9, 0.4, "float32", 1.0),
    ],
)
def test_gemm_with_alpha_or_beta_and_a_bias_is_an_island_of_one_step(
    tmp_path: Path,
    rng: np.random.Generator,
    alpha: float,
    beta: float,
    bias: str,
    scale_of_bias: float,
) -> None:
    network = gemm(rng, alpha=alpha, beta=beta, bias=bias, scale_of_bias=scale_of_bias)
    check(network, tmp_path / "m.onnx", rng, islands=1)


def test_gemm_without_a_share_of_its_bias_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    check(gemm(rng, bias="int32", beta=0.0), tmp_path / "m.onnx", rng, islands=1)


def test_bias_that_sums_are_too_coarse_for_is_refused(tmp_path: Path) -> None:
    network = Network()
    x = network.dequantize(network.input("x", "int8", (1, 2)), (1.0, 0, "int8"))
    w = network.weight(np.ones((2, 1), np.int8), 1.0)
    c = network.constant([0.4], "float32")
    made = network.node("Gemm", x, w, c, name="g", beta=1.0, alpha=2.0)
    network.output(network.quantize(made, (0.5, 0, "int8"), output="y"), "int8")
    network.save(tmp_path / "m.onnx")
    message = (
        "m.onnx: Gemm 'g' (node 2): its sums are too coarse for the bias: rounding it moves "
        "results by 0.8 steps\n"
        "  input 'dequantizelinear3' float32[1,2]\n"
        "  input 'dequantizelinear7' float32[2,1]\n"
        "  input 'constant8' float32[1]\n"
        "  help: quantize the bias to int32 with scale input * weight"
    )
    with pytest.raises(UnsupportedError, match=rf"^{re.escape(message)}$"):
        load_model(tmp_path / "m.onnx")


def test_bias_of_a_product_on_the_host_has_its_share(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    x = network.dequantize(network.input("x", "int8", (1, 24)), ACTIVATION)
    codes = codes_of(network, network.node("MatMul", x, constant_matrix(network, rng, 24, 16)))
    c = network.constant(rng.normal(size=10), "float32")
    network.node("Gemm", codes, constant_matrix(network, rng, 16, 10), c, beta=2.5, output="y")
    network.output("y", "float32")
    path = network.save(tmp_path / "m.onnx")
    model = load_model(path)
    inputs = random_inputs(model, rng, 20)
    expected = Reference(path, []).run(inputs).outputs["y"]
    assert np.allclose(run_model(model, inputs)["y"], expected, rtol=1e-5, atol=1e-5)


def matmul(
    rng: np.random.Generator,
    types: tuple[str, str],
    x_shape: Sequence[int],
    w_shape: tuple[int, ...],
    *,
    constant_first: bool = False,
    bias: tuple[str, tuple[int, ...]] | None = None,
) -> Network:
    """MatMul of x and a constant, in either order, perhaps with an Add of a constant behind it."""
    network = Network()
    before, after = (random_parameters(rng, types[0]) for _ in range(2))
    x = network.dequantize(network.input("x", types[0], x_shape), before)
    names, scale = random_weight(network, rng, w_shape, types[1], depth=x_shape[-1])
    w = network.node("DequantizeLinear", *names)
    real = network.node("MatMul", *((w, x) if constant_first else (x, w)), name="m")
    if bias is not None and bias[0] == "int32":
        codes = rng.integers(-3000, 3000, bias[1]).astype(np.int32)
        real = network.node("Add", real, network.weight(codes, np.float32(before[0]) * scale))
    elif bias is not None:
        real = network.node("Add", network.constant(rng.normal(size=bias[1]), "float32"), real)
    network.output(network.quantize(real, after, output="y"), types[0])
    return network


@pytest.mark.parametrize("types", TYPE_PAIRS, ids="-".join)
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "bias"),
    [
        ((1, 5, 24), (24, 10), None),
        ((1, 5, 24), (1, 24, 10), None),
        ((1, 3, 5, 24), (24, 10), None),
        ((1, 24), (24, 10), ("int32", (10,))),
        ((1, 24), (24, 10), ("float32", (10,))),
        ((1, 5, 24), (24, 10), ("int32", (10,))),
        ((1, 5, 24), (24, 10), ("float32", (10,))),
    ],
)
def test_rows_times_a_constant_equal_onnxruntime(
    tmp_path: Path,
    rng: np.random.Generator,
    types: tuple[str, str],
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    bias: tuple[str, tuple[int, ...]] | None,
) -> None:
    check(matmul(rng, types, x_shape, w_shape, bias=bias), tmp_path / "m.onnx", rng)


def test_a_row_added_as_a_matrix_is_an_island_of_one_step(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = matmul(rng, ("int8", "int8"), (1, 24), (24, 10), bias=("float32", (1, 10)))
    check(network, tmp_path / "m.onnx", rng, islands=1)


@pytest.mark.parametrize("types", [("int8", "int8"), ("uint8", "uint8")], ids="-".join)
@pytest.mark.parametrize("x_shape", [(1, 24, 5), (1, 24, 1)])
@pytest.mark.parametrize("bias", [None, ("int32", (10, 1)), ("float32", (10, 1))])
def test_a_constant_times_columns_equals_onnxruntime(
    tmp_path: Path,
    rng: np.random.Generator,
    types: tuple[str, str],
    x_shape: tuple[int, ...],
    bias: tuple[str, tuple[int, ...]] | None,
) -> None:
    network = matmul(rng, types, x_shape, (10, 24), constant_first=True, bias=bias)
    check(network, tmp_path / "m.onnx", rng, islands=0 if bias is None else 1)


def test_quantized_rows_equal_onnxruntime(tmp_path: Path, rng: np.random.Generator) -> None:
    network = Network()
    a = tensor(network, network.input("x", "uint8", (1, 7, 24)), (0.05, 100, "uint8"))
    b, _ = random_weight(network, rng, (24, 10), "int8", channels=1, depth=24)
    operands = [*a, *b, *tensor(network, "", (0.05, 130, "uint8"))]
    check(single(network, "QLinearMatMul", operands, "uint8"), tmp_path / "m.onnx", rng)


def test_products_of_the_pixels_of_an_image_leave_it_where_it_is(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    parameters = (0.05, 3, "int8")
    x = network.dequantize(network.input("x", "int8", (1, 4, 6, 5)), parameters)
    w = network.node("DequantizeLinear", *random_weight(network, rng, (8, 4, 3, 3), "int8")[0])
    real = network.dequantize(network.quantize(network.node("Conv", x, w), parameters), parameters)
    pixels = network.node("Transpose", real, perm=[0, 2, 3, 1])
    rows = network.node("Reshape", pixels, network.constant([1, 12, 8], "int64"))
    for _ in range(2):
        names, _ = random_weight(network, rng, (8, 8), "int8")
        made = network.node("MatMul", rows, network.node("DequantizeLinear", *names))
        rows = network.dequantize(network.quantize(made, parameters), parameters)
    network.output(network.quantize(rows, (0.06, 4, "int8"), output="y"), "int8")
    path = network.save(tmp_path / "m.onnx")
    model = load_model(path)
    assert [type(op).__name__ for op in model.graph.ops] == ["Conv", "Conv", "Conv"]
    assert_equal_everywhere(path, model, random_inputs(model, rng, 8))


def codes_of(network: Network, real: str) -> str:
    """Quantized and dequantized again, with the parameters of every activation below."""
    return network.dequantize(network.quantize(real, ACTIVATION), ACTIVATION)


def constant_matrix(network: Network, rng: np.random.Generator, *shape: int) -> str:
    return network.node(
        "DequantizeLinear", *random_weight(network, rng, shape, "int8", zero_point=0)[0]
    )


@pytest.mark.parametrize("last", ["MatMul", "Sigmoid", "Mul"])
def test_mixer_of_tokens_and_channels_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, last: str
) -> None:
    network = Network()
    x = network.dequantize(network.input("x", "int8", (1, 4, 6, 5)), ACTIVATION)
    image = codes_of(network, network.node("Conv", x, constant_matrix(network, rng, 8, 4, 1, 1)))
    channels = network.node("Reshape", image, network.constant([1, 8, 30], "int64"))
    mixed = codes_of(
        network, network.node("MatMul", channels, constant_matrix(network, rng, 30, 30))
    )
    mixed = codes_of(network, network.node("Add", mixed, channels))
    tokens = network.node("Transpose", mixed, perm=[0, 2, 1])
    made = codes_of(network, network.node("MatMul", tokens, constant_matrix(network, rng, 8, 8)))
    real = {
        "MatMul": lambda: network.node("MatMul", made, constant_matrix(network, rng, 8, 3)),
        "Sigmoid": lambda: network.node("Sigmoid", made),
        "Mul": lambda: network.node(
            "Mul",
            codes_of(network, network.node("Sigmoid", made)),
            network.weight(rng.integers(-128, 128, 8).astype(np.int8), 0.02),
        ),
    }[last]()
    network.output(network.quantize(real, (0.01, 4, "int8"), output="y"), "int8")
    check(network, tmp_path / "m.onnx", rng)
