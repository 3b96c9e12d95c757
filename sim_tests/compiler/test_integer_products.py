"""ConvInteger and MatMulInteger with constant scales behind them, and what is refused of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from qcompile.compiler.compare import compare_layer
from qcompile.compiler.errors import QcompileError, UnsupportedError
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from sim_tests.compiler.agreement import random_inputs
from sim_tests.compiler.networks import Network, random_codes
from sim_tests.compiler.qoperator_networks import TYPE_PAIRS, random_weight, tensor


def integer_product(
    rng: np.random.Generator,
    operator: str,
    types: tuple[str, str],
    *,
    per_channel: bool = False,
    bias: bool = False,
    x_shape: tuple[int, ...] = (1, 24),
) -> Network:
    """Codes 'x', the operator 'p', Cast, Mul by constant scales, perhaps Add, QuantizeLinear."""
    network = Network()
    conv = operator == "ConvInteger"
    shape = (10, x_shape[1], *(3,) * (len(x_shape) - 2)) if conv else (x_shape[-1], 10)
    codes = random_codes(rng, shape, types[1])
    operands = [
        network.input("x", types[0], x_shape),
        network.constant(codes, types[1]),
        network.constant(random_codes(rng, (), types[0]), types[0]),
        network.constant(0 if types[1] == "int8" else 128, types[1]),
    ]
    sums = network.node(operator, *operands, name="p")
    real = network.node("Cast", sums, to=1)
    broadcast = (10,) + (1,) * (len(x_shape) - 2) if conv else (10,)
    depth = codes.size // 10
    scale = rng.uniform(0.4, 1.6, broadcast if per_channel else ()) * 0.05 / (74 * depth**0.5)
    real = network.node("Mul", real, network.constant(scale, "float32"))
    if bias:
        real = network.node("Add", real, network.constant(rng.normal(size=broadcast), "float32"))
    network.output(network.quantize(real, (0.05, 7, types[0]), output="y"), types[0])
    return network


@pytest.mark.parametrize("types", TYPE_PAIRS, ids="-".join)
@pytest.mark.parametrize(
    ("operator", "x_shape"),
    [
        ("MatMulInteger", (1, 24)),
        ("MatMulInteger", (1, 5, 24)),
        ("ConvInteger", (1, 4, 7, 6)),
    ],
)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_integer_product_with_constant_scales_is_at_most_a_step_apart(
    tmp_path: Path,
    rng: np.random.Generator,
    types: tuple[str, str],
    operator: str,
    x_shape: tuple[int, ...],
    per_channel: bool,
    bias: bool,
) -> None:
    network = integer_product(
        rng, operator, types, per_channel=per_channel, bias=bias, x_shape=x_shape
    )
    path = network.save(tmp_path / "m.onnx")
    model = load_model(path)
    inputs = random_inputs(model, rng, 40)
    reference = Reference(path, [])
    assert [island.tensor for island in reference.islands] == ["y"]
    expected = reference.run(inputs).outputs["y"]
    record = compare_layer("y", run_model(model, inputs)["y"], expected)
    assert record.max_steps <= 1
    assert record.mismatches <= 0.01 * record.elements  # the bias is rounded to the sums


def test_codes_of_a_quantized_input_are_multiplied(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    real = network.input("x", "float32", (1, 24))
    codes = network.quantize(real, (0.03, 9, "uint8"))
    w = network.constant(random_codes(rng, (24, 10), "int8"), "int8")
    sums = network.node("MatMulInteger", codes, w, network.constant(9, "uint8"), name="p")
    scaled = network.node(
        "Mul", network.node("Cast", sums, to=1), network.constant(4e-4, "float32")
    )
    network.output(network.quantize(scaled, (0.05, 7, "uint8"), output="y"), "uint8")
    path = network.save(tmp_path / "m.onnx")
    model = load_model(path)
    inputs = random_inputs(model, rng, 100)
    expected = Reference(path, []).run(inputs).outputs["y"]
    assert compare_layer("y", run_model(model, inputs)["y"], expected).max_steps <= 1


def refused(network: Network, path: Path, *lines: str) -> None:
    network.save(path)
    with pytest.raises(UnsupportedError, match=rf"^{re.escape(chr(10).join(lines))}$"):
        load_model(path)


def test_sums_themselves_are_refused(tmp_path: Path) -> None:
    network = Network()
    x = network.input("x", "uint8", (1, 4))
    w = network.constant(np.ones((4, 4)), "int8")
    network.outputs.append(helper.make_tensor_value_info("y", TensorProto.INT32, None))
    network.node("MatMulInteger", x, w, name="p", output="y")
    refused(
        network,
        tmp_path / "m.onnx",
        "m.onnx: output 'y': 'y' is the unscaled result of MatMulInteger 'p' (node 0)",
        "  help: quantize statically (onnxruntime quantize_static): behind the operator a Cast to "
        "float32, a Mul by a constant and a QuantizeLinear",
    )


def test_scaled_sums_at_the_end_are_the_hosts_and_equal_onnxruntime(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    parameters = (0.05, 100, "uint8")
    x = tensor(network, network.input("x", "uint8", (1, 24)), parameters)
    w, _ = random_weight(network, rng, (24, 16), "int8", depth=24)
    codes = network.node("QLinearMatMul", *x, *w, *tensor(network, "", parameters))
    last = network.constant(random_codes(rng, (16, 10), "int8"), "int8")
    sums = network.node("MatMulInteger", codes, last, network.constant(100, "uint8"))
    scale = network.constant(0.0123, "float32")
    network.node("Mul", network.node("Cast", sums, to=1), scale, output="y")
    network.output("y", "float32")
    path = network.save(tmp_path / "m.onnx")
    model = load_model(path)
    inputs = random_inputs(model, rng, 40)
    expected = Reference(path, []).run(inputs).outputs["y"]
    assert np.array_equal(run_model(model, inputs)["y"], expected)


def test_zero_point_that_is_computed_is_refused(tmp_path: Path) -> None:
    network = Network()
    x, zero = network.input("x", "uint8", (1, 4)), network.input("z", "uint8", (1,))
    w = network.constant(np.ones((4, 4)), "int8", "w")
    network.node("MatMulInteger", x, w, zero, name="p", output="y")
    network.outputs.append(helper.make_tensor_value_info("y", TensorProto.INT32, None))
    refused(
        network,
        tmp_path / "m.onnx",
        "m.onnx: MatMulInteger 'p' (node 0): zero point 'z' is computed at run time",
        "  input 'x' uint8[1,4]; constant 'w' int8[4,4]; input 'z' uint8[1]",
        "  help: export the model with a constant zero point",
    )


@pytest.mark.parametrize("operator", ["MatMulInteger", "ConvInteger"])
def test_a_weight_of_one_number_is_refused(tmp_path: Path, operator: str) -> None:
    network = Network()
    x = network.input("x", "uint8", (1, 4, 4, 4))
    w = network.constant(3, "int8")
    network.outputs.append(helper.make_tensor_value_info("y", TensorProto.INT32, None))
    network.node(operator, x, w, name="p", output="y")
    with pytest.raises(QcompileError, match=r"weight '\w+' is a single number"):
        load_model(network.save(tmp_path / "m.onnx"))
