"""Small networks through the whole frontend and all passes, element for element as ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.ir import AveragePool, Conv, Lookup, Model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from sim_tests.compiler.networks import Network, Parameters, random_codes, random_conv

SAMPLES = 4
FIRST = (0.0631, -11, "int8")
SECOND = (0.0417, 5, "int8")
RELU = (0.0273, -128, "int8")


def check(path: Path, inputs: dict[str, npt.NDArray[Any]]) -> Model:
    """Golden and ONNX Runtime agree in every element of every output; returns the model."""
    model = load_model(path)
    reference = Reference(path, ())
    assert reference.islands == ()
    expected = reference.run(inputs).outputs
    got = run_model(model, inputs)
    assert set(got) == set(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        assert got[name].shape == array.shape
        assert np.array_equal(got[name], array), name
    return model


CONVOLUTIONS: list[tuple[tuple[int, int, int, int], int, dict[str, Any]]] = [
    ((5, 3, 1, 1), 3, {}),
    ((4, 3, 3, 3), 3, {"pads": [1, 1, 1, 1]}),
    ((4, 3, 3, 3), 3, {"pads": [0, 1, 2, 0], "strides": [2, 1]}),
    ((4, 3, 5, 2), 3, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((4, 3, 4, 4), 3, {"auto_pad": "SAME_LOWER"}),
    ((4, 3, 3, 2), 3, {"auto_pad": "VALID", "dilations": [1, 1], "group": 1}),
    ((4, 3, 3, 3), 3, {"dilations": [2, 3], "pads": [2, 1, 2, 3]}),
    ((4, 3, 1, 1), 3, {"auto_pad": "SAME_UPPER", "strides": [3, 3]}),
    ((4, 3, 1, 1), 3, {"auto_pad": "SAME_LOWER", "strides": [4, 5]}),
    ((6, 1, 3, 3), 6, {"group": 6, "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ((6, 1, 5, 3), 6, {"group": 6, "auto_pad": "SAME_UPPER", "dilations": [1, 1]}),
    ((12, 1, 3, 3), 6, {"group": 6, "pads": [1, 1, 1, 1], "strides": [2, 1]}),
    ((4, 3, 3, 2), 6, {"group": 2, "pads": [1, 0, 1, 1]}),
    ((7, 1, 10, 4), 1, {"strides": [2, 2], "pads": [4, 1, 5, 1]}),
]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(("shape", "channels", "attributes"), CONVOLUTIONS)
def test_convolution_equals_onnxruntime(
    tmp_path: Path,
    rng: np.random.Generator,
    shape: tuple[int, int, int, int],
    channels: int,
    attributes: dict[str, Any],
    relu: bool,
) -> None:
    network = Network()
    x = network.input("x", "int8", (1, channels, 12, 11))
    after = RELU if relu else SECOND
    y = random_conv(network, rng, x, shape, (FIRST, after), relu=relu, **attributes)
    network.output(y, "int8")
    path = network.save(tmp_path / "conv.onnx")
    check(path, {"x": random_codes(rng, (SAMPLES, channels, 12, 11), "int8")})


@pytest.mark.parametrize("relu", [False, True])
def test_uint8_codes_with_weight_zero_points_equal_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, relu: bool
) -> None:
    network = Network()
    x = network.input("x", "uint8", (1, 3, 9, 9))
    parameters = ((0.05, 117, "uint8"), (0.031, 0 if relu else 140, "uint8"))
    y = random_conv(
        network,
        rng,
        x,
        (8, 3, 3, 3),
        parameters,
        per_channel=False,
        zero_points=True,
        relu=relu,
        pads=[1, 1, 1, 1],
    )
    network.output(y, "uint8")
    path = network.save(tmp_path / "u8.onnx")
    model = check(path, {"x": random_codes(rng, (SAMPLES, 3, 9, 9), "uint8")})
    conv = model.graph.ops[0]
    assert isinstance(conv, Conv)
    assert conv.input_zero_point == 117 - 128
    assert np.abs(conv.weight).max() > 128, "a centred uint8 weight needs nine bits"
    assert [op["op"] for op in model.prologue] == ["Offset"]


@pytest.mark.parametrize("opset", range(10, 22))
def test_every_supported_opset_is_read_alike(
    tmp_path: Path, rng: np.random.Generator, opset: int
) -> None:
    network = Network(opset)
    x = network.input("x", "float32", ("batch", 2, 6, 6))
    codes = network.quantize(x, FIRST)
    y = random_conv(
        network, rng, codes, (4, 2, 3, 3), (FIRST, RELU), per_channel=opset >= 13, relu=True
    )
    network.output(network.dequantize(y, RELU), "float32")
    path = network.save(tmp_path / "opset.onnx")
    check(path, {"x": rng.normal(size=(SAMPLES, 2, 6, 6)).astype(np.float32) * 4})


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("operator", ["MatMul", "Gemm"])
def test_fully_connected_layer_reads_the_image_that_was_flattened(
    tmp_path: Path, rng: np.random.Generator, operator: str, layout: str
) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 3, 6, 5))
    image = random_conv(network, rng, x, (4, 3, 3, 3), (FIRST, SECOND))  # [1, 4, 4, 3]
    real = network.dequantize(image, SECOND)
    if layout == "NHWC":
        moved = network.quantize(network.node("Transpose", real, perm=[0, 2, 3, 1]), SECOND)
        real = network.dequantize(moved, SECOND)
    shape = network.constant([1, -1], "int64")
    flat = network.quantize(network.node("Reshape", real, shape), SECOND)
    real = network.dequantize(flat, SECOND)
    weight = random_codes(rng, (48, 10), "int8")
    bias = rng.integers(-2000, 2000, 10).astype(np.int32)
    bias_name = network.weight(bias, np.float32(SECOND[0]) * np.float32(0.004))
    if operator == "MatMul":
        result = network.node("MatMul", real, network.weight(weight, 0.004))
        result = network.node("Add", bias_name, result)
    else:
        result = network.node(
            "Gemm", real, network.weight(weight.T.copy(), 0.004), bias_name, transB=1
        )
    network.output(network.quantize(result, (0.11, 3, "int8")), "int8")
    path = network.save(tmp_path / "dense.onnx")
    model = check(path, {"x": random_codes(rng, (SAMPLES, 3, 6, 5), "int8")})
    assert [type(op) for op in model.graph.ops] == [Conv, Conv]
    assert isinstance(model.graph.ops[1], Conv)
    assert model.graph.ops[1].weight.shape == (10, 4, 4, 3)


def test_residual_addition_with_relu_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 4, 5, 5))
    y = random_conv(network, rng, x, (4, 4, 3, 3), (FIRST, SECOND), pads=[1, 1, 1, 1])
    total = network.node("Add", network.dequantize(y, SECOND), network.dequantize(x, FIRST))
    network.output(network.quantize(network.node("Relu", total), RELU), "int8")
    path = network.save(tmp_path / "add.onnx")
    check(path, {"x": random_codes(rng, (SAMPLES, 4, 5, 5), "int8")})


def save_pool(path: Path, size: tuple[int, int], kernel: list[int], parameters: Parameters) -> Path:
    """A network of one AveragePool whose stride is its kernel."""
    network = Network()
    x = network.input("x", "int8", (1, 64, *size))
    mean = network.node(
        "AveragePool", network.dequantize(x, parameters), kernel_shape=kernel, strides=kernel
    )
    network.output(network.quantize(mean, parameters, output="y"), "int8")
    return network.save(path)


@pytest.mark.parametrize("size", [(8, 8), (25, 5), (7, 7), (3, 4)])
@pytest.mark.parametrize("scale", [0.125, 0.0417])
@pytest.mark.parametrize("zero_point", [-128, 5, 0])
def test_average_pool_of_the_whole_image_equals_onnxruntime(
    tmp_path: Path,
    rng: np.random.Generator,
    size: tuple[int, int],
    scale: float,
    zero_point: int,
) -> None:
    path = save_pool(tmp_path / "pool.onnx", size, list(size), (scale, zero_point, "int8"))
    model = check(path, {"x": random_codes(rng, (16, 64, *size), "int8")})
    assert isinstance(model.graph.ops[0], AveragePool)


@pytest.mark.parametrize("zero_point", [-128, 5, 0])
def test_average_pool_of_windows_with_scales_of_powers_of_two_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, zero_point: int
) -> None:
    path = save_pool(tmp_path / "pool.onnx", (8, 8), [2, 4], (0.125, zero_point, "int8"))
    check(path, {"x": random_codes(rng, (4, 64, 8, 8), "int8")})


def test_average_pool_of_windows_with_another_scale_differs_at_ties_alone(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    path = save_pool(tmp_path / "pool.onnx", (8, 8), [2, 2], SECOND)
    inputs = {"x": random_codes(rng, (4, 64, 8, 8), "int8")}
    expected = Reference(path, ()).run(inputs).outputs["y"].astype(np.int64)
    got = run_model(load_model(path), inputs)["y"].astype(np.int64)
    windows = inputs["x"].astype(np.int64).reshape(4, 64, 4, 2, 4, 2)
    tie = windows.sum(axis=(3, 5)) % 4 == 2
    assert np.abs(got - expected).max() <= 1
    assert np.array_equal(got[~tie], expected[~tie])


def test_global_average_pool_that_changes_the_scale_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 32, 6, 7))
    mean = network.node("GlobalAveragePool", network.dequantize(x, FIRST))
    network.output(network.quantize(mean, (0.0083, 14, "int8")), "int8")
    path = network.save(tmp_path / "pool.onnx")
    check(path, {"x": random_codes(rng, (16, 32, 6, 7), "int8")})


def test_codes_that_change_parameters_or_pass_a_relu_become_a_table(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 3, 4, 4))
    first = random_conv(network, rng, x, (3, 3, 1, 1), (FIRST, SECOND))
    clipped = network.node(
        "Clip",
        network.dequantize(first, SECOND),
        network.constant(-1.0, "float32"),
        network.constant(2.5, "float32"),
    )
    table = network.quantize(clipped, (0.02, 33, "int8"))
    last = random_conv(network, rng, table, (3, 3, 1, 1), ((0.02, 33, "int8"), SECOND))
    network.output(last, "int8")
    path = network.save(tmp_path / "table.onnx")
    model = load_model(path)
    assert [type(op) for op in model.graph.ops] == [Conv, Lookup, Conv]
    inputs = {"x": random_codes(rng, (SAMPLES, 3, 4, 4), "int8")}
    expected = Reference(path, ()).run(inputs).outputs[last]
    assert np.array_equal(run_model(model, inputs)[last], expected)


def test_several_inputs_and_outputs_keep_their_names_types_and_shapes(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    image = network.input("image", "int8", (1, 6, 6, 2))
    vector = network.input("vector", "float32", ("n", 10))
    channels_first = network.node("Transpose", image, perm=[0, 3, 1, 2])
    y = random_conv(network, rng, channels_first, (5, 2, 3, 3), (FIRST, SECOND))
    network.output(network.node("Identity", y, output="features"), "int8")
    codes = network.quantize(vector, FIRST)
    weight = network.weight(random_codes(rng, (10, 7), "int8"), 0.004)
    product = network.node("MatMul", network.dequantize(codes, FIRST), weight)
    logits = network.quantize(product, SECOND)
    classes = network.node("Softmax", network.dequantize(logits, SECOND), axis=1)
    network.output(network.quantize(classes, (1 / 256, -128, "int8"), output="classes"), "int8")
    network.output(logits, "int8")
    path = network.save(tmp_path / "several.onnx")
    model = check(
        path,
        {
            "image": random_codes(rng, (SAMPLES, 6, 6, 2), "int8"),
            "vector": rng.normal(size=(SAMPLES, 10)).astype(np.float32) * 4,
        },
    )
    assert [value.name for value in model.outputs] == ["features", "classes", logits]
    assert model.inputs[0].quantization is not None
    assert model.inputs[0].quantization.zero_point == FIRST[1]


def test_constants_in_external_files_are_read(tmp_path: Path, rng: np.random.Generator) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 3, 9, 9))
    network.output(random_conv(network, rng, x, (64, 3, 3, 3), (FIRST, SECOND)), "int8")
    path = tmp_path / "external.onnx"
    onnx.save_model(
        network.model(), path, save_as_external_data=True, location="weights.bin", size_threshold=64
    )
    check(path, {"x": random_codes(rng, (SAMPLES, 3, 9, 9), "int8")})
    before = load_model(path).sha256
    data = bytearray((tmp_path / "weights.bin").read_bytes())
    data[100] ^= 1
    (tmp_path / "weights.bin").write_bytes(data)
    assert load_model(path).sha256 != before


def test_clip_bounds_become_bounds_of_the_codes(tmp_path: Path, rng: np.random.Generator) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 2, 4, 4))
    real = network.dequantize(x, FIRST)
    weight = network.weight(random_codes(rng, (3, 2, 1, 1), "int8"), 0.02)
    bounds = (network.constant(-0.4, "float32"), network.constant(3.0, "float32"))
    clipped = network.node("Clip", network.node("Conv", real, weight), *bounds)
    network.output(network.quantize(clipped, (0.1, -20, "int8")), "int8")
    conv = load_model(network.save(tmp_path / "clip.onnx")).graph.ops[0]
    assert isinstance(conv, Conv)
    assert (conv.requant.low, conv.requant.high) == (-24, 10)


def test_shift_mode_takes_the_nearest_power_of_two(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 2, 4, 4))
    real = network.dequantize(x, (0.5, 0, "int8"))
    weight = network.weight(random_codes(rng, (3, 2, 1, 1), "int8"), [0.01, 0.5, 0.02], axis=0)
    network.output(network.quantize(network.node("Conv", real, weight), (4.0, 0, "int8")), "int8")
    path = network.save(tmp_path / "shift.onnx")
    conv = load_model(path, requant="shift").graph.ops[0]
    assert isinstance(conv, Conv)
    assert conv.requant.mode == "shift"
    assert conv.requant.shift.tolist() == [10, 4, 9]
    assert conv.requant.mantissa.tolist() == [1, 1, 1]
