"""Moves of codes and of float results through all passes, element for element as ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler.compare import compare_layer
from qcompile.compiler.golden.interpreter import run_graph, run_model
from qcompile.compiler.ir import Model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from qcompile.runtime.host_ops import run_host_ops
from sim_tests.compiler.networks import Network, random_codes, random_conv

SAMPLES = 4
FIRST = (0.0631, -11, "int8")
SECOND = (0.0417, 5, "int8")
THIRD = (0.0273, -77, "int8")


def check(network: Network, folder: Path, inputs: dict[str, npt.NDArray[Any]]) -> Model:
    """Golden and ONNX Runtime agree in every output, and in every layer of a common name."""
    path = network.save(folder / "network.onnx")
    model = load_model(path)
    layers = [op.name for op in model.graph.ops]
    run = Reference(path, layers).run(inputs)
    entered = run_host_ops(model.prologue, inputs)
    codes = run_graph(model.graph, {name: entered[name] for name in model.graph.inputs})
    for name, expected in run.layers.items():
        assert compare_layer(name, codes[name], expected).mismatches == 0, name
    got = run_model(model, inputs)
    assert set(got) == set(run.outputs)
    for name, expected in run.outputs.items():
        assert got[name].dtype == expected.dtype
        assert got[name].shape == expected.shape
        assert np.array_equal(got[name], expected), name
    return model


def test_moved_float_result_ends_in_its_quantization(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 3, 6, 6))
    weight = network.weight(random_codes(rng, (4, 3, 3, 3), "int8"), 0.02)
    real = network.node("Conv", network.dequantize(x, FIRST), weight)
    real = network.node("Transpose", real, perm=[0, 2, 3, 1])
    real = network.node("Relu", network.node("Reshape", real, network.constant([1, 64], "int64")))
    codes = network.quantize(real, (0.05, -128, "int8"), output="flat")
    weight = network.weight(random_codes(rng, (64, 5), "int8"), 0.01)
    product = network.node("MatMul", network.dequantize(codes, (0.05, -128, "int8")), weight)
    network.output(network.quantize(product, SECOND, output="y"), "int8")
    check(network, tmp_path, {"x": random_codes(rng, (SAMPLES, 3, 6, 6), "int8")})


def test_concat_requantizes_each_operand_as_onnxruntime(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 3, 6, 6))
    a = random_conv(network, rng, x, (4, 3, 3, 3), (FIRST, SECOND))
    b = random_conv(network, rng, x, (2, 3, 3, 3), (FIRST, THIRD))
    c = random_conv(network, rng, x, (3, 3, 3, 3), (FIRST, SECOND))
    operands = [network.dequantize(y, p) for y, p in ((a, SECOND), (b, THIRD), (c, SECOND))]
    both = network.quantize(network.node("Concat", *operands, axis=1), SECOND)
    y = random_conv(network, rng, both, (5, 9, 2, 2), (SECOND, THIRD))
    network.output(y, "int8")
    check(network, tmp_path, {"x": random_codes(rng, (SAMPLES, 3, 6, 6), "int8")})
