"""Float operators between a layer's sums and its codes: as ONNX Runtime computes them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.ir import Conv
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from sim_tests.compiler.networks import Network, Parameters, random_codes

BEFORE = (0.0713, -3, "int8")
AFTER = (0.31, 7, "int8")
BITS = {2: 1, 3: 3, 4: 7, 8: 127}
"""Largest weight code by bit width."""


def narrow_codes(network: Network, real: str, parameters: Parameters, low: int, high: int) -> str:
    """QuantizeLinear and Clip of the codes."""
    dtype = parameters[2]
    codes = network.quantize(real, parameters)
    return network.node("Clip", codes, network.constant(low, dtype), network.constant(high, dtype))


def batch_norm(network: Network, rng: np.random.Generator, x: str, channels: int) -> str:
    """Random constants with factors of both signs, and one channel that is 0."""
    scale = rng.uniform(0.3, 2.0, channels) * rng.choice([-1, 1], channels)
    scale[0] = 0
    arrays = (
        scale,
        rng.normal(size=channels),
        rng.normal(size=channels) * 2,
        rng.uniform(0.5, 40.0, channels),
    )
    names = [network.constant(array, "float32") for array in arrays]
    return network.node("BatchNormalization", x, *names, epsilon=1e-4)


def compared(path: Path, inputs: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.int64]]:
    """Differences of the outputs."""
    expected = Reference(path, ()).run(inputs).outputs
    got = run_model(load_model(path), inputs)
    return {name: got[name].astype(np.int64) - expected[name] for name in expected}


@pytest.mark.parametrize("bits", BITS)
def test_batch_normalization_behind_a_product(
    tmp_path: Path, rng: np.random.Generator, bits: int
) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 200))
    low, high = -BITS[bits], BITS[bits]
    weight = rng.integers(low, high + 1, (200, 40)).astype(np.int8)
    product = network.node("MatMul", network.dequantize(x, BEFORE), network.weight(weight, 0.05))
    real = batch_norm(network, rng, product, 40)
    codes = narrow_codes(network, real, (2.7, 0, "int8"), low, high)
    network.output(codes, "int8")
    path = network.save(tmp_path / "narrow.onnx")
    difference = compared(path, {"x": random_codes(rng, (300, 200), "int8")})[codes]
    if bits < 8:  # weights with room for a factor: no threshold is moved
        assert np.count_nonzero(difference) == 0
    assert np.abs(difference).max() <= 1
    assert np.count_nonzero(difference) <= 1e-3 * difference.size


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_convolution_with_a_float_bias_and_batch_normalization(
    tmp_path: Path, rng: np.random.Generator, dtype: str, relu: bool
) -> None:
    network = Network()
    middle = 128 if dtype == "uint8" else 0
    before = (0.0713, middle - 3, dtype)
    after = (0.81, (0 if relu else 140) - 128 + middle, dtype)
    x = network.input("x", dtype, (1, 5, 9, 9))
    weight = random_codes(rng, (24, 5, 3, 3), dtype)
    scales = rng.uniform(0.004, 0.03, 24)
    real = network.node(
        "Conv",
        network.dequantize(x, before),
        network.weight(weight, scales, np.full(24, middle), axis=0),
        network.constant(rng.normal(size=24), "float32"),
        pads=[1, 1, 1, 1],
    )
    real = batch_norm(network, rng, real, 24)
    if relu:
        real = network.node("Relu", real)
    y = network.quantize(real, after)
    network.output(y, dtype)
    path = network.save(tmp_path / "conv.onnx")
    difference = compared(path, {"x": random_codes(rng, (8, 5, 9, 9), dtype)})[y]
    assert np.abs(difference).max() <= 1
    assert np.count_nonzero(difference) <= 2e-5 * difference.size


STEPS: dict[str, list[tuple[str, Any]]] = {
    "scale": [("Mul", 0.173)],
    "scale by channel": [("Mul", np.linspace(0.1, 3, 12).reshape(12, 1, 1))],
    "scale and shift": [("Sub", 1.25), ("Div", 2.5)],
    "negative": [("Mul", -0.4), ("Add", np.linspace(-3, 3, 12).reshape(1, 12, 1, 1))],
    "relu and scale": [("Mul", 0.4), ("Relu", None)],
    "neg": [("Neg", None)],
    "relu before a negative scale": [("Relu", None), ("Mul", -0.37), ("Add", 4.0)],
}


@pytest.mark.parametrize("name", STEPS)
def test_scaling_behind_a_convolution(tmp_path: Path, rng: np.random.Generator, name: str) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 4, 6, 6))
    weight = rng.integers(-7, 8, (12, 4, 3, 3)).astype(np.int8)
    real = network.node("Conv", network.dequantize(x, BEFORE), network.weight(weight, 0.0313))
    for operator, constant in STEPS[name]:
        extra = [] if constant is None else [network.constant(constant, "float32")]
        real = network.node(operator, real, *extra)
    y = network.quantize(real, AFTER)
    network.output(y, "int8")
    path = network.save(tmp_path / "scaled.onnx")
    difference = compared(path, {"x": random_codes(rng, (50, 4, 6, 6), "int8")})[y]
    # ONNX Runtime adds real numbers here, whose rounding decides what is a tie without it.
    assert np.abs(difference).max() <= 1
    assert np.count_nonzero(difference) <= 1e-3 * difference.size
    (conv,) = load_model(path).graph.ops
    assert isinstance(conv, Conv)
    assert np.abs(conv.weight).max() <= 127


@pytest.mark.parametrize("bias", ["none", "codes", "real"])
@pytest.mark.parametrize("operator", ["MatMul", "Gemm"])
def test_last_product_may_leave_as_real_numbers(
    tmp_path: Path, rng: np.random.Generator, operator: str, bias: str
) -> None:
    network = Network()
    x = network.input("x", "float32", (1, 50))
    codes = network.quantize(x, BEFORE)
    first = network.weight(random_codes(rng, (50, 60), "int8"), 0.01)
    middle = network.node("MatMul", network.dequantize(codes, BEFORE), first)
    vector = network.dequantize(network.quantize(middle, AFTER), AFTER)
    operands = [vector, network.weight(random_codes(rng, (60, 10), "int8"), 0.02)]
    added = {
        "none": [],
        "codes": [
            network.weight(rng.integers(-999, 999, 10).astype(np.int32), np.float32(0.31 * 0.02))
        ],
        "real": [network.constant(rng.normal(size=10), "float32")],
    }[bias]
    if operator == "Gemm":
        real = network.node("Gemm", *operands, *added)
    else:
        real = network.node("MatMul", *operands)
        real = network.node("Add", real, *added) if added else real
    network.output(
        network.node("Div", real, network.constant(3.7, "float32"), output="y"), "float32"
    )
    path = network.save(tmp_path / "real.onnx")
    inputs = {"x": (rng.normal(size=(100, 50)) * 4).astype(np.float32)}
    expected = Reference(path, ()).run(inputs).outputs["y"]
    got = run_model(load_model(path), inputs)["y"]
    assert got.dtype == np.float32
    if bias == "real":  # ONNX Runtime then multiplies real numbers, which it adds in another order
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)
    else:
        assert np.array_equal(got, expected)


def test_clamp_in_front_of_a_constant_for_each_channel_is_refused(tmp_path: Path) -> None:
    network = Network()
    x = network.dequantize(network.input("x", "int8", (1, 4, 6, 6)), BEFORE)
    weight = network.weight(np.ones((3, 4, 1, 1), np.int8), 0.0313)
    real = network.node("Relu", network.node("Conv", x, weight, name="c"))
    constant = network.constant([[[1.0]], [[20.0]], [[-20.0]]], "float32")
    network.output(network.quantize(network.node("Add", real, constant), AFTER), "int8")
    with pytest.raises(UnsupportedError) as caught:
        load_model(network.save(tmp_path / "m.onnx"))
    first, last = str(caught.value).splitlines()
    assert re.fullmatch(
        r"m\.onnx: Conv 'c' \(node 2\): the float operators behind it would be \d+ steps off", first
    )
    assert last == "  help: add QuantizeLinear and DequantizeLinear between the operators"
