"""Groups of constants and of moved codes that fold_qdq makes, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qcompile.compiler.pipeline import load_model
from qcompile.compiler.simulate import reference_of, simulate
from qcompile.runtime.inputs import Samples
from sim_tests.compiler.agreement import random_inputs
from sim_tests.compiler.networks import Network, random_conv

INT8 = (0.05, 3, "int8")


def assert_allowed_by_sim(path: Path, rng: np.random.Generator) -> None:
    model = load_model(path)
    samples = Samples(tensors=random_inputs(model, rng, 9), labels=None, notes=())
    run = simulate(model, reference_of(model), samples, progress=lambda _: None)
    assert run.failures == ()


def test_sum_of_quantized_constants_is_a_constant(tmp_path: Path, rng: np.random.Generator) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 4, 2, 2))
    codes = random_conv(network, rng, x, (4, 4, 1, 1), (INT8, INT8))
    ones = network.weight(np.ones((1, 4, 1, 1), np.int8), 0.01)
    total = network.node("Add", ones, network.constant(0.25, "float32"))
    constant = network.dequantize(network.quantize(total, INT8), INT8)
    y = network.node("Add", network.dequantize(codes, INT8), constant)
    network.output(network.quantize(y, INT8, output="y"), "int8")
    assert_allowed_by_sim(network.save(tmp_path / "m.onnx"), rng)


def test_real_product_of_codes_that_were_moved_is_an_output(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """The moved codes get the name of the QuantizeLinear behind them, for the product too."""
    network = Network()
    x = network.input("x", "int8", (1, 4, 2, 2))
    codes = random_conv(network, rng, x, (4, 4, 2, 2), (INT8, INT8))
    flat = network.node("Flatten", network.dequantize(codes, INT8))
    real = network.dequantize(network.quantize(flat, INT8), INT8)
    weight = network.weight(rng.integers(-127, 128, (4, 3)).astype(np.int8), 0.01)
    product = network.node("MatMul", real, weight)
    network.output(product, "float32")
    network.output(network.quantize(product, INT8, output="y"), "int8")
    assert_allowed_by_sim(network.save(tmp_path / "m.onnx"), rng)
