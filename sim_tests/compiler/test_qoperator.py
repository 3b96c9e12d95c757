"""The QOperator form: every operator equals ONNX Runtime in every element."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler.compare import compare_layer
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from sim_tests.compiler.agreement import assert_equal_everywhere, random_inputs
from sim_tests.compiler.networks import Network, Parameters
from sim_tests.compiler.qoperator_networks import (
    MICROSOFT,
    TYPE_PAIRS,
    random_parameters,
    random_weight,
    single,
    tensor,
)


def check(network: Network, path: Path, rng: np.random.Generator, count: int = 8) -> None:
    network.save(path)
    model = load_model(path)
    assert_equal_everywhere(path, model, random_inputs(model, rng, count))


def image_behind_a_conv(
    network: Network, rng: np.random.Generator, dtype: str
) -> tuple[str, Parameters]:
    """Codes [1, 6, 5, 4] that a QLinearConv makes, so that they are on the accelerator."""
    before, after = (random_parameters(rng, dtype) for _ in range(2))
    codes = network.input(network.fresh("x"), dtype, (1, 6, 5, 4))
    w, _ = random_weight(network, rng, (6, 6, 1, 1), dtype)
    operands = [*tensor(network, codes, before), *w, *tensor(network, "", after)]
    return network.node("QLinearConv", *operands), after


def test_every_layer_of_a_real_network_equals_onnxruntime(
    shared: Path, rng: np.random.Generator
) -> None:
    path = shared / "models" / "alibaba_kws_qoperator_u8s8.onnx"
    model = load_model(path)
    assert len(model.graph.ops) == 11
    codes = np.load(shared / "data" / "kws01.npz")["x"][:200]
    real = ((codes.astype(np.float32) - 83) * np.float32(0.5847029089927673)).reshape(-1, 49, 10, 1)
    assert_equal_everywhere(path, model, {"x:0": real})


CONVOLUTIONS: tuple[tuple[tuple[int, int, int, int], dict[str, Any]], ...] = (
    ((5, 4, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((4, 4, 1, 1), {"strides": [2, 1]}),
    ((4, 1, 3, 3), {"group": 4, "pads": [0, 1, 2, 0]}),
    ((6, 4, 2, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((3, 4, 3, 2), {"auto_pad": "SAME_LOWER"}),
    ((3, 4, 2, 2), {"auto_pad": "VALID", "dilations": [2, 3]}),
)


@pytest.mark.parametrize("types", TYPE_PAIRS, ids="-".join)
@pytest.mark.parametrize(("shape", "attributes"), CONVOLUTIONS)
@pytest.mark.parametrize("per_channel", [False, True])
def test_convolution_equals_onnxruntime(
    tmp_path: Path,
    rng: np.random.Generator,
    types: tuple[str, str],
    shape: tuple[int, int, int, int],
    attributes: dict[str, Any],
    per_channel: bool,
) -> None:
    network = Network()
    before, after = (random_parameters(rng, types[0]) for _ in range(2))
    x = tensor(network, network.input("x", types[0], (1, 4, 9, 8)), before)
    w, _ = random_weight(network, rng, shape, types[1], channels=0 if per_channel else None)
    bias = network.constant(rng.integers(-5000, 5000, shape[0]), "int32")
    operands = [*x, *w, *tensor(network, "", after), *([bias] if shape[0] != 4 else [])]
    check(
        single(network, "QLinearConv", operands, types[0], **attributes), tmp_path / "m.onnx", rng
    )


@pytest.mark.parametrize("types", TYPE_PAIRS, ids="-".join)
@pytest.mark.parametrize("per_channel", [False, True])
def test_matrix_product_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, types: tuple[str, str], per_channel: bool
) -> None:
    network = Network()
    before, after = (random_parameters(rng, types[0]) for _ in range(2))
    a = tensor(network, network.input("x", types[0], (1, 40)), before)
    b, _ = random_weight(
        network, rng, (40, 12), types[1], channels=1 if per_channel else None, depth=40
    )
    operands = [*a, *b, *tensor(network, "", after)]
    check(single(network, "QLinearMatMul", operands, types[0]), tmp_path / "m.onnx", rng, 40)


@pytest.mark.parametrize("types", TYPE_PAIRS, ids="-".join)
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [True, False])
def test_gemm_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, types: tuple[str, str], transposed: int, bias: bool
) -> None:
    network = Network()
    before, after = (random_parameters(rng, types[0]) for _ in range(2))
    a = tensor(network, network.input("x", types[0], (1, 40)), before)
    b, _ = random_weight(
        network,
        rng,
        (12, 40) if transposed else (40, 12),
        types[1],
        channels=1 - transposed if bias else None,
        depth=40,
    )
    c = network.constant(rng.integers(-5000, 5000, 12), "int32") if bias else ""
    operands = [*a, *b, c, *tensor(network, "", after)]
    single(network, "QGemm", operands, types[0], domain=MICROSOFT, transB=transposed)
    check(network, tmp_path / "m.onnx", rng, 40)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("operator", ["QLinearAdd", "QLinearMul"])
def test_operator_of_two_tensors_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, operator: str, dtype: str
) -> None:
    network = Network()
    scale = 0.05 if operator == "QLinearAdd" else 0.3
    operands = []
    for name in ("x", "z"):
        codes = network.input(name, dtype, (1, 6, 5, 4))
        operands += tensor(network, codes, random_parameters(rng, dtype))
    operands += tensor(network, "", random_parameters(rng, dtype, scale))
    single(network, operator, operands, dtype, domain=MICROSOFT)
    check(network, tmp_path / "m.onnx", rng, 40)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("operator", ["QLinearAdd", "QLinearMul"])
@pytest.mark.parametrize("shape", [(), (1,), (6, 1, 1), (1, 6, 1, 1)])
def test_operator_of_a_tensor_and_a_constant_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, operator: str, dtype: str, shape: tuple[int, ...]
) -> None:
    network = Network()
    scale = 0.05 if operator == "QLinearAdd" else 0.3
    x = tensor(network, *image_behind_a_conv(network, rng, dtype))
    info = np.iinfo(dtype)
    constant = network.constant(rng.integers(info.min, info.max + 1, shape), dtype)
    c = tensor(network, constant, random_parameters(rng, dtype))
    y = tensor(network, "", random_parameters(rng, dtype, scale))
    single(network, operator, [*x, *c, *y], dtype, domain=MICROSOFT)
    check(network, tmp_path / "m.onnx", rng, 20)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("operator", ["QLinearGlobalAveragePool", "QLinearAveragePool"])
def test_pool_over_the_image_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, dtype: str, operator: str
) -> None:
    network = Network()
    x = tensor(network, network.input("x", dtype, (1, 6, 5, 4)), random_parameters(rng, dtype))
    y = tensor(network, "", random_parameters(rng, dtype))
    attributes: dict[str, Any] = {"channels_last": 0}
    if operator == "QLinearAveragePool":
        attributes["kernel_shape"] = [5, 4]
    single(network, operator, [*x, *y], dtype, domain=MICROSOFT, **attributes)
    check(network, tmp_path / "m.onnx", rng, 40)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("axis", [1, -1])
def test_concatenation_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, dtype: str, axis: int
) -> None:
    network = Network()
    images = [image_behind_a_conv(network, rng, dtype) for _ in range(3)]
    operands = tensor(network, "", images[1][1])  # one operand is not requantized
    for codes, parameters in images:
        operands += tensor(network, codes, parameters)
    single(network, "QLinearConcat", operands, dtype, domain=MICROSOFT, axis=axis)
    check(network, tmp_path / "m.onnx", rng)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("alpha", [0.01, 0.3, 1.5])
def test_leaky_relu_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, dtype: str, alpha: float
) -> None:
    network = Network()
    x = tensor(network, *image_behind_a_conv(network, rng, dtype))
    y = tensor(network, "", random_parameters(rng, dtype))
    single(network, "QLinearLeakyRelu", [*x, *y], dtype, domain=MICROSOFT, alpha=alpha)
    check(network, tmp_path / "m.onnx", rng)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_sigmoid_equals_onnxruntime(tmp_path: Path, rng: np.random.Generator, dtype: str) -> None:
    network = Network()
    x = tensor(network, *image_behind_a_conv(network, rng, dtype))
    y = tensor(network, "", (1 / 256, np.iinfo(dtype).min, dtype))
    single(network, "QLinearSigmoid", [*x, *y], dtype, domain=MICROSOFT)
    check(network, tmp_path / "m.onnx", rng)


@pytest.mark.parametrize(("dtype", "axis"), [("uint8", 1), ("int8", 1), ("uint8", -1)])
@pytest.mark.parametrize("opset", [12, 13])
def test_softmax_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, dtype: str, axis: int, opset: int
) -> None:
    network = Network()
    before = random_parameters(rng, dtype)
    a = tensor(network, network.input("x", dtype, (1, 40)), before)
    b, _ = random_weight(network, rng, (40, 12), dtype, depth=40)
    logits = network.node("QLinearMatMul", *a, *b, *tensor(network, "", before))
    y = tensor(network, "", (1 / 256, np.iinfo(dtype).min, dtype))
    operands = [*tensor(network, logits, before), *y]
    single(network, "QLinearSoftmax", operands, dtype, domain=MICROSOFT, axis=axis, opset=opset)
    check(network, tmp_path / "m.onnx", rng, 40)


@pytest.mark.parametrize("operator", ["QLinearGlobalAveragePool", "QLinearAveragePool"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_pool_over_an_image_with_channels_last_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, operator: str, dtype: str
) -> None:
    network = Network()
    x = tensor(network, network.input("x", dtype, (1, 5, 4, 6)), random_parameters(rng, dtype))
    y = tensor(network, "", random_parameters(rng, dtype))
    attributes: dict[str, Any] = {"channels_last": 1}
    if operator == "QLinearAveragePool":
        attributes["kernel_shape"] = [5, 4]
    single(network, operator, [*x, *y], dtype, domain=MICROSOFT, **attributes)
    check(network, tmp_path / "m.onnx", rng, 40)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_microsoft_form_of_quantization_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, dtype: str
) -> None:
    network = Network()
    before, after = (random_parameters(rng, dtype) for _ in range(2))
    real = network.input("x", "float32", (1, 4, 6, 6))
    codes = network.node("QuantizeLinear", *tensor(network, real, before), domain=MICROSOFT)
    x = network.node("DequantizeLinear", *tensor(network, codes, before), domain=MICROSOFT)
    names, _ = random_weight(network, rng, (5, 4, 3, 3), dtype, channels=0)
    w = network.node("DequantizeLinear", *names, domain=MICROSOFT, axis=0)
    made = network.node("Conv", x, w)
    network.node("QuantizeLinear", *tensor(network, made, after), domain=MICROSOFT, output="y")
    network.output("y", dtype)
    check(network, tmp_path / "m.onnx", rng)


def test_gemm_that_is_quantized_behind_is_at_most_a_step_apart(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    a = tensor(network, network.input("x", "uint8", (1, 24)), random_parameters(rng, "uint8"))
    b, _ = random_weight(network, rng, (24, 10), "uint8", depth=24)
    bias = network.constant(rng.integers(-3000, 3000, 10), "int32")
    real = network.node("QGemm", *a, *b, bias, domain=MICROSOFT)
    network.output(network.quantize(real, random_parameters(rng, "uint8"), output="y"), "uint8")
    path = network.save(tmp_path / "m.onnx")
    model = load_model(path)
    inputs = random_inputs(model, rng, 200)
    expected = Reference(path, []).run(inputs).outputs["y"]
    record = compare_layer("y", run_model(model, inputs)["y"], expected)
    assert record.max_steps <= 1
    assert record.mismatches <= 2


@pytest.mark.parametrize("types", TYPE_PAIRS, ids="-".join)
@pytest.mark.parametrize("number", range(4))
def test_random_network_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, types: tuple[str, str], number: int
) -> None:
    """Two branches of random convolutions, their sum, product or concatenation, a pool, a Gemm."""
    network, dtype = Network(), types[0]
    channels, size = int(rng.integers(2, 9)), int(rng.integers(4, 9))
    x = network.input("x", dtype, (1, channels, size, size))
    image = tensor(network, x, random_parameters(rng, dtype))
    branches = []
    for group in (1, channels):
        shape = (channels, channels // group, 3, 3)
        w, _ = random_weight(network, rng, shape, types[1], channels=0 if number % 2 else None)
        after = random_parameters(rng, dtype)
        bias = network.constant(rng.integers(-2000, 2000, channels), "int32")
        operands = [*image, *w, *tensor(network, "", after), bias]
        codes = network.node("QLinearConv", *operands, group=group, pads=[1, 1, 1, 1])
        branches += tensor(network, codes, after)
    joined = random_parameters(rng, dtype, 0.3)
    operator = ("QLinearAdd", "QLinearMul", "QLinearConcat")[int(rng.integers(3))]
    y = tensor(network, "", joined)
    if operator == "QLinearConcat":
        codes = network.node(operator, *y, *branches, domain=MICROSOFT, axis=1)
        channels *= 2
    else:
        codes = network.node(operator, *branches, *y, domain=MICROSOFT)
    pooled = random_parameters(rng, dtype)
    operands = [*tensor(network, codes, joined), *tensor(network, "", pooled)]
    codes = network.node("QLinearGlobalAveragePool", *operands, domain=MICROSOFT)
    codes = network.node("Flatten", codes)
    b, _ = random_weight(network, rng, (channels, 5), types[1], depth=channels)
    last = tensor(network, "", random_parameters(rng, dtype))
    operands = [*tensor(network, codes, pooled), *b, "", *last]
    single(network, "QGemm", operands, dtype, domain=MICROSOFT)
    check(network, tmp_path / "m.onnx", rng, 6)
