"""Sum, difference, product and quotient of two tensors, or of a tensor and a constant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.ir import Binary, Constant, Lookup
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from sim_tests.compiler.networks import Network, Parameters, random_codes

A: Parameters = (0.0471, -9, "int8")
B: Parameters = (0.0173, 21, "int8")
AFTER: dict[str, Parameters] = {
    "Add": (0.0531, 5, "int8"),
    "Sub": (0.0531, 5, "int8"),
    "Mul": (0.0613, -3, "int8"),
    "Div": (0.31, -3, "int8"),
}
IMAGE = (1, 6, 8, 8)


def unsigned(parameters: Parameters) -> Parameters:
    """The same codes, 128 higher."""
    return parameters[0], parameters[1] + 128, "uint8"


def assert_equal(path: Path, inputs: dict[str, npt.NDArray[Any]]) -> list[object]:
    """All outputs are equal; the types of the accelerator's operations."""
    model = load_model(path)
    got = run_model(model, inputs)
    for name, expected in Reference(path, ()).run(inputs).outputs.items():
        assert got[name].dtype == expected.dtype
        assert np.array_equal(got[name], expected)
    return [type(op) for op in model.graph.ops]


@pytest.mark.parametrize("shape", [IMAGE, (1, 6, 1, 1), (1, 1, 8, 8), (1, 1, 8, 1), (1, 6, 8, 1)])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("operator", AFTER)
def test_two_tensors_broadcast(
    tmp_path: Path, rng: np.random.Generator, operator: str, dtype: str, shape: tuple[int, ...]
) -> None:
    parameters = (A, B, AFTER[operator])
    a, b, y = parameters if dtype == "int8" else map(unsigned, parameters)
    for first, second in ((IMAGE, shape), (shape, IMAGE)):
        network = Network()
        real_a = network.dequantize(network.input("a", dtype, first), a)
        real_b = network.dequantize(network.input("b", dtype, second), b)
        network.output(network.quantize(network.node(operator, real_a, real_b), y), dtype)
        path = network.save(tmp_path / "binary.onnx")
        inputs = {
            "a": random_codes(rng, (40, *first[1:]), dtype),
            "b": random_codes(rng, (40, *second[1:]), dtype),
        }
        assert assert_equal(path, inputs) == [Binary]


@pytest.mark.parametrize("shape", [(), (1,), (6, 1, 1), (1, 1, 8, 8), IMAGE, (8,)])
@pytest.mark.parametrize("operator", AFTER)
def test_tensor_and_quantized_constant(
    tmp_path: Path, rng: np.random.Generator, operator: str, shape: tuple[int, ...]
) -> None:
    codes = random_codes(rng, shape, "int8")
    for first in (False, True):
        network = Network()
        x = network.dequantize(network.input("a", "int8", IMAGE), A)
        operands = [x, network.weight(codes, B[0], B[1])]
        y = network.node(operator, *(operands[::-1] if first else operands))
        codes_y = network.quantize(y, AFTER[operator])
        total = network.node("Add", network.dequantize(codes_y, AFTER[operator]), x)
        network.output(codes_y, "int8")
        network.output(network.quantize(total, A), "int8")
        path = network.save(tmp_path / "constant.onnx")
        kinds = assert_equal(path, {"a": random_codes(rng, (40, *IMAGE[1:]), "int8")})
        assert all(kind in (Lookup, Binary, Constant) for kind in kinds)


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div", "PRelu"])
def test_tensor_and_real_constant_of_each_channel(
    tmp_path: Path, rng: np.random.Generator, operator: str
) -> None:
    network = Network()
    x = network.dequantize(network.input("a", "int8", IMAGE), A)
    constant = rng.uniform(0.2, 3, (6, 1, 1)) * rng.choice([-1, 1], (6, 1, 1))
    y = network.node(operator, x, network.constant(constant, "float32"))
    y = network.node("Relu", y)
    network.output(network.quantize(y, B), "int8")
    path = network.save(tmp_path / "channels.onnx")
    kinds = assert_equal(path, {"a": random_codes(rng, (40, *IMAGE[1:]), "int8")})
    assert tuple(kinds) == (Constant, Binary)


def test_batch_normalization_of_codes(tmp_path: Path, rng: np.random.Generator) -> None:
    network = Network()
    x = network.dequantize(network.input("a", "int8", IMAGE), A)
    arrays = (rng.normal(size=6), rng.normal(size=6), rng.normal(size=6), rng.uniform(0.1, 2, 6))
    y = network.node(
        "BatchNormalization", x, *(network.constant(array, "float32") for array in arrays)
    )
    network.output(network.quantize(y, B), "int8")
    path = network.save(tmp_path / "norm.onnx")
    assert_equal(path, {"a": random_codes(rng, (40, *IMAGE[1:]), "int8")})


def test_functions_of_two_tensors_and_of_one_twice(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    a = network.dequantize(network.input("a", "int8", IMAGE), A)
    b = network.dequantize(network.input("b", "int8", IMAGE), B)
    gated = network.node("Mul", a, network.node("Sigmoid", b))
    total = network.node("Tanh", network.node("Sub", gated, network.node("Relu", a)))
    swish = network.node("Mul", a, network.node("Sigmoid", a))
    square = network.node("Mul", b, b)
    for number, real in enumerate((total, swish, square)):
        network.output(network.quantize(real, B, output=f"y{number}"), "int8")
    path = network.save(tmp_path / "functions.onnx")
    inputs = {name: random_codes(rng, (40, *IMAGE[1:]), "int8") for name in ("a", "b")}
    assert_equal(path, inputs)


def test_types_may_differ(tmp_path: Path, rng: np.random.Generator) -> None:
    network = Network()
    a = network.dequantize(network.input("a", "int8", IMAGE), A)
    b = network.dequantize(network.input("b", "uint8", IMAGE), unsigned(B))
    network.output(network.quantize(network.node("Add", a, b), unsigned(A)), "uint8")
    path = network.save(tmp_path / "types.onnx")
    inputs = {
        "a": random_codes(rng, (40, *IMAGE[1:]), "int8"),
        "b": random_codes(rng, (40, *IMAGE[1:]), "uint8"),
    }
    assert_equal(path, inputs)
