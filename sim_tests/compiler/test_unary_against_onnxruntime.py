"""Chains of functions of one value as tables: all 256 codes as in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.ir import Conv, Int64Array, Lookup
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from sim_tests.compiler.networks import Network, Parameters

Step = tuple[str, dict[str, Any]]
"""An operator and its attributes; `constant` is a second operand, `first` puts it in front."""

CHAINS: dict[str, list[Step]] = {
    "abs": [("Abs", {})],
    "add": [("Add", {"constant": 0.613})],
    "affine": [("Mul", {"constant": 0.7071}), ("Sub", {"constant": 0.3})],
    "ceil": [("Mul", {"constant": 1.3}), ("Ceil", {})],
    "floor": [("Floor", {}), ("Mul", {"constant": 0.5})],
    "round": [("Mul", {"constant": 2.5}), ("Round", {}), ("Div", {"constant": 2.5})],
    "sign": [("Sign", {})],
    "reciprocal operator": [("Add", {"constant": 9.0}), ("Reciprocal", {})],
    "thresholded relu": [("ThresholdedRelu", {"alpha": 0.4})],
    "thresholded relu by default": [("ThresholdedRelu", {})],
    "log": [("Abs", {}), ("Add", {"constant": 0.1}), ("Log", {})],
    "softplus": [("Softplus", {})],
    "mish": [("Mish", {})],
    "selu": [("Selu", {})],
    "selu with constants": [("Selu", {"alpha": 1.3, "gamma": 0.9})],
    "celu": [("Celu", {"alpha": 0.6})],
    "max and min": [("Max", {"constant": -0.7, "first": True}), ("Min", {"constant": 1.1})],
    "gelu of com.microsoft": [("Gelu", {"domain": "com.microsoft"})],
    "quick gelu": [("QuickGelu", {"domain": "com.microsoft", "alpha": 1.5})],
    "quick gelu by default": [("QuickGelu", {"domain": "com.microsoft"})],
    "dropout": [("Dropout", {}), ("Neg", {})],
    "clip": [("Clip", {"bounds": (-1.3, 2.4)})],
    "elu": [("Elu", {"alpha": 0.7})],
    "erf": [("Erf", {})],
    "exp": [("Exp", {})],
    "from a constant": [("Sub", {"constant": 1.7, "first": True})],
    "gelu": [("Gelu", {})],
    "gelu by tanh": [("Gelu", {"approximate": "tanh"})],
    "hard sigmoid": [("HardSigmoid", {"alpha": 0.17, "beta": 0.45})],
    "hard sigmoid by default": [("HardSigmoid", {})],
    "hard swish": [("HardSwish", {})],
    "identity": [("Identity", {}), ("Neg", {})],
    "leaky relu": [("LeakyRelu", {"alpha": 0.1})],
    "leaky relu by default": [("LeakyRelu", {})],
    "long": [
        ("Add", {"constant": 3.0}),
        ("Clip", {"bounds": (0.0, 6.0)}),
        ("Div", {"constant": 6.0}),
        ("Sigmoid", {}),
        ("Mul", {"constant": -2.5, "first": True}),
    ],
    "neg": [("Neg", {})],
    "prelu": [("PRelu", {"constant": 0.21})],
    "relu": [("Relu", {})],
    "reciprocal": [("Add", {"constant": 9.0}), ("Div", {"constant": 2.0, "first": True})],
    "sigmoid": [("Sigmoid", {})],
    "softsign": [("Softsign", {})],
    "sqrt": [("Abs", {}), ("Sqrt", {})],
    "sqrt of negative numbers": [("Sqrt", {})],
    "tanh": [("Tanh", {})],
}

PARAMETERS: list[tuple[Parameters, Parameters]] = [
    ((0.0471, -9, "int8"), (0.0231, 14, "int8")),
    ((0.0833, 113, "uint8"), (0.0119, 31, "uint8")),
    ((0.0213, 3, "int8"), (0.0071, -128, "int8")),
]


def add_step(network: Network, x: str, step: Step) -> str:
    operator, attributes = step[0], dict(step[1])
    operands = [x]
    if "constant" in attributes:
        operands.append(network.constant(attributes.pop("constant"), "float32"))
    if attributes.pop("first", False):
        operands.reverse()
    operands += [network.constant(bound, "float32") for bound in attributes.pop("bounds", ())]
    return network.node(operator, *operands, **attributes)


def chain_network(chain: list[Step], before: Parameters, after: Parameters) -> Network:
    """Codes x, one sample of 256, through a chain to the codes y; a Conv makes it a network."""
    network = Network(20)
    x = network.input("x", before[2], (1, 1, 16, 16))
    real = network.dequantize(x, before)
    for step in chain:
        real = add_step(network, real, step)
    codes = network.quantize(real, after, output="y")
    network.output(codes, after[2])
    dtype = after[2]
    weight = network.weight(np.full((1, 1, 1, 1), 100, dtype=dtype), 0.02)
    product = network.node("Conv", network.dequantize(codes, after), weight)
    network.output(network.quantize(product, after, output="z"), dtype)
    return network


def all_codes(dtype: str) -> Int64Array:
    info = np.iinfo(dtype)
    return np.arange(info.min, info.max + 1)


def table_codes(op: dict[str, Any]) -> Int64Array:
    """Results of a table for all codes, in the model's own type."""
    return np.asarray(op["attributes"]["table"], dtype=np.int64)


@pytest.mark.parametrize("parameters", PARAMETERS)
@pytest.mark.parametrize("name", CHAINS)
def test_chain_is_onnxruntimes_table(
    tmp_path: Path, name: str, parameters: tuple[Parameters, Parameters]
) -> None:
    before, after = parameters
    path = chain_network(CHAINS[name], before, after).save(tmp_path / "chain.onnx")
    tables = [op for op in load_model(path).prologue if op["op"] == "Lookup"]
    assert len(tables) == 1
    x = all_codes(before[2]).astype(before[2]).reshape(1, 1, 16, 16)
    expected = Reference(path, ()).run({"x": x}).outputs["y"].reshape(-1)
    assert table_codes(tables[0]).tolist() == expected.tolist()


def test_chain_between_layers_is_a_table_of_the_accelerator(tmp_path: Path) -> None:
    before, after = PARAMETERS[0]
    network = Network(13)
    x = network.dequantize(network.input("x", "int8", (1, 1, 4, 4)), before)
    weight = network.weight(np.full((1, 1, 1, 1), 100, dtype=np.int8), 0.02)
    codes = network.quantize(network.node("Conv", x, weight), before)
    scale = network.weight(np.asarray(77, dtype=np.int8), 0.003)
    scaled = network.node("Mul", network.dequantize(codes, before), scale)
    bent = network.node("Tanh", network.node("Sub", scaled, scale))
    real = network.dequantize(network.quantize(bent, after), after)
    network.output(network.quantize(network.node("Conv", real, weight), after, output="y"), "int8")
    path = network.save(tmp_path / "table.onnx")
    model = load_model(path)
    assert [type(op) for op in model.graph.ops] == [Conv, Lookup, Conv]
    inputs = {"x": np.arange(-128, 128).astype(np.int8).reshape(16, 1, 4, 4)}
    expected = Reference(path, ()).run(inputs).outputs["y"]
    assert np.array_equal(run_model(model, inputs)["y"], expected)


def test_functions_on_the_host_equal_onnxruntime(tmp_path: Path, rng: np.random.Generator) -> None:
    network = Network(20)
    real = network.input("x", "float32", (1, 2, 4, 4))
    for step in (*CHAINS["long"], *CHAINS["gelu"], ("Mul", {"constant": [[[0.3]], [[1.7]]]})):
        real = add_step(network, real, step)
    parameters = (0.01, 3, "int8")
    x = network.dequantize(network.quantize(real, parameters, output="codes"), parameters)
    weight = network.weight(np.full((1, 2, 1, 1), 100, dtype=np.int8), 0.02)
    y = network.quantize(network.node("Conv", x, weight), parameters)
    network.output(network.node("Sigmoid", network.dequantize(y, parameters)), "float32")
    path = network.save(tmp_path / "host.onnx")
    inputs = {"x": rng.normal(size=(50, 2, 4, 4)).astype(np.float32) * 3}
    for name, expected in Reference(path, ()).run(inputs).outputs.items():
        assert np.array_equal(run_model(load_model(path), inputs)[name], expected)
