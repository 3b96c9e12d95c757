"""What exporters and quantize_static leave in a graph, element for element as ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from qcompile.compiler.diagnostics import Problems
from qcompile.compiler.errors import ModelError, UnsupportedError
from qcompile.compiler.frontend.loader import load_model_file
from qcompile.compiler.frontend.reader import read_graph
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.ir import Model
from qcompile.compiler.ir_float import Constant
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from sim_tests.compiler.networks import TYPES, Network, random_codes, random_conv

FIRST = (0.0631, -11, "int8")
SECOND = (0.0417, 5, "int8")
THIRD = (0.0873, -20, "int8")


def check(path: Path, rng: np.random.Generator) -> Model:
    """Golden and ONNX Runtime agree on four inputs; returns the model."""
    model = load_model(path)
    inputs = {"x": random_codes(rng, (4, *model.graph.values["x"].shape[1:]), "int8")}
    expected = Reference(path, ()).run(inputs).outputs
    found = run_model(model, inputs)
    for name, array in expected.items():
        assert found[name].shape == array.shape
        assert np.array_equal(found[name], array), name
    return model


def layer(network: Network, rng: np.random.Generator, channels: int = 4) -> str:
    """Input x [batch, 3, 6, 6] and a convolution to `channels`; the result dequantized."""
    x = network.input("x", "int8", ["batch", 3, 6, 6])
    codes = random_conv(network, rng, x, (channels, 3, 3, 3), (FIRST, SECOND), pads=[1, 1, 1, 1])
    return network.dequantize(codes, SECOND)


def size_of(network: Network, x: str, axis: int) -> str:
    """A dimension as PyTorch exports x.size(axis): Shape, Gather of a number, [] int64."""
    return network.node("Gather", network.node("Shape", x), network.constant(axis, "int64"), axis=0)


def joined(network: Network, *sizes: str) -> str:
    """Numbers as a list: Unsqueeze of each, then Concat."""
    zero = network.constant([0], "int64")
    return network.node("Concat", *(network.node("Unsqueeze", n, zero) for n in sizes), axis=0)


def test_reshape_to_a_computed_batch(tmp_path: Path, rng: np.random.Generator) -> None:
    network = Network()
    x = layer(network, rng)
    rest = network.constant(-1, "int64")
    flat = network.node("Reshape", x, joined(network, size_of(network, x, 0), rest))
    network.output(network.quantize(flat, SECOND), "int8")
    model = check(network.save(tmp_path / "m.onnx"), rng)
    assert model.graph.values[model.graph.outputs[0]].shape[1:] in ((144,), (4, 6, 6))


def test_channel_shuffle_of_computed_sizes(tmp_path: Path, rng: np.random.Generator) -> None:
    """Channels divided by the groups, height and width: all from Shape, as a trace has them."""
    network = Network()
    x = layer(network, rng)
    batch, channels, height, width = (size_of(network, x, axis) for axis in range(4))
    two = network.constant(2, "int64")
    half = network.node("Div", channels, two)
    split = network.node("Reshape", x, joined(network, batch, two, half, height, width))
    turned = network.node("Transpose", split, perm=[0, 2, 1, 3, 4])
    both = network.node("Mul", half, two)
    whole = network.node("Reshape", turned, joined(network, batch, both, height, width))
    network.output(network.quantize(whole, SECOND), "int8")
    check(network.save(tmp_path / "m.onnx"), rng)


def test_part_of_a_shape(tmp_path: Path, rng: np.random.Generator) -> None:
    network = Network(opset=15)
    x = layer(network, rng)
    front = network.node("Shape", x, start=0, end=-2)
    shape = network.node("Concat", front, network.constant([-1], "int64"), axis=0)
    network.output(network.quantize(network.node("Reshape", x, shape), SECOND), "int8")
    check(network.save(tmp_path / "m.onnx"), rng)


def test_batch_normalization_of_quantized_constants(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """quantize_static quantizes scale and bias of every BatchNormalization."""
    network = Network()
    x = layer(network, rng)
    scale = network.weight(random_codes(rng, (4,), "int8"), 0.011)
    bias = network.weight(rng.integers(-900, 900, 4).astype(np.int32), 0.0007)
    mean = network.constant([0.1, -0.2, 0.3, 0.0], "float32")
    variance = network.constant([0.9, 1.2, 0.7, 1.0], "float32")
    made = network.node("BatchNormalization", x, scale, bias, mean, variance)
    network.output(network.quantize(made, THIRD), "int8")
    check(network.save(tmp_path / "m.onnx"), rng)


def test_pad_with_a_quantized_value(tmp_path: Path, rng: np.random.Generator) -> None:
    network = Network()
    x = layer(network, rng)
    value = network.weight(np.asarray(17, np.int8), SECOND[0], SECOND[1])
    pads = network.constant([0, 0, 1, 0, 0, 0, 0, 2], "int64")
    network.output(network.quantize(network.node("Pad", x, pads, value), SECOND), "int8")
    check(network.save(tmp_path / "m.onnx"), rng)


def test_flatten_counts_a_negative_axis_from_behind_the_last(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    flat = network.node("Flatten", layer(network, rng), axis=-3)
    network.output(network.quantize(flat, SECOND), "int8")
    check(network.save(tmp_path / "m.onnx"), rng)


@pytest.mark.parametrize(
    ("operator", "divisor", "dtype"),
    [("Div", -5, "int64"), ("Div", 2, "int32"), ("Mul", 1 << 40, "int64"), ("Sub", 9, "int32")],
)
def test_numbers_of_shapes_are_whole(
    tmp_path: Path, rng: np.random.Generator, operator: str, divisor: int, dtype: str
) -> None:
    """Each number as ONNX Runtime computes it, also those that no float64 holds."""
    network = Network()
    x = network.input("x", "float32", ["batch", 3, 6, 5])
    large = network.constant([2**62 + 1, -(2**62) - 3, -7, 0], "int64")
    sizes = network.node("Add", network.node("Shape", x), large)
    cast = network.node("Cast", sizes, to=TYPES[dtype])
    made = network.node(operator, cast, network.constant(divisor, dtype))
    network.outputs.append(onnx.helper.make_empty_tensor_value_info(made))
    path = network.save(tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = np.asarray(session.run(None, {"x": np.zeros((1, 3, 6, 5), np.float32)})[0])
    graph = read_graph(load_model_file(path), {}, Problems("m.onnx"))
    (found,) = (op.data for op in graph.ops if isinstance(op, Constant) and made in op.outputs)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("operand", "dtype", "message"),
    [
        (2, "int32", r"Mul 'm' .*computes int64 with int32"),
        ([1, 2, 3], "int64", r"Mul 'm' .*shapes \[4\] and \[3\] do not broadcast"),
    ],
)
def test_numbers_of_shapes_that_do_not_fit(
    tmp_path: Path, rng: np.random.Generator, operand: int | list[int], dtype: str, message: str
) -> None:
    network = Network()
    x = layer(network, rng)
    sizes = network.node(
        "Mul", network.node("Shape", x), network.constant(operand, dtype), name="m"
    )
    network.output(network.quantize(network.node("Reshape", x, sizes), SECOND), "int8")
    with pytest.raises(ModelError, match=message):
        load_model(network.save(tmp_path / "m.onnx"))


def test_a_slice_names_each_axis_once(tmp_path: Path, rng: np.random.Generator) -> None:
    network = Network()
    x = layer(network, rng)
    bounds = (network.constant(numbers, "int64") for numbers in ([1, 2], [3, 6], [2, -2]))
    network.output(network.quantize(network.node("Slice", x, *bounds, name="s"), SECOND), "int8")
    with pytest.raises(ModelError, match=r"Slice 's' .*axes=\[2, -2\] repeat"):
        load_model(network.save(tmp_path / "m.onnx"))


def test_a_number_is_no_list_to_concat(tmp_path: Path, rng: np.random.Generator) -> None:
    network = Network()
    x = layer(network, rng)
    rows = network.node("Unsqueeze", network.node("Shape", x), network.constant([1], "int64"))
    both = network.node("Concat", rows, network.node("Shape", x), axis=1, name="c")
    network.output(network.quantize(network.node("Reshape", x, both), SECOND), "int8")
    with pytest.raises(ModelError, match=r"Concat 'c' .*int64\[4\] does not fit .*int64\[4, 1\]"):
        load_model(network.save(tmp_path / "m.onnx"))


@pytest.mark.filterwarnings("error")
def test_a_size_that_is_no_number(tmp_path: Path, rng: np.random.Generator) -> None:
    network = Network()
    x = layer(network, rng)
    real = network.node("Cast", network.node("Shape", x), to=TYPES["float32"])
    infinite = network.node("Div", real, network.constant(0, "float32"))
    sizes = network.node("Cast", infinite, to=TYPES["int64"])
    made = network.node("Reshape", x, sizes, name="r")
    network.output(network.quantize(made, SECOND), "int8")
    with pytest.raises(ModelError, match=r"Reshape 'r' .*is not valid"):
        load_model(network.save(tmp_path / "m.onnx"))


def test_division_of_a_shape_by_0(tmp_path: Path, rng: np.random.Generator) -> None:
    network = Network()
    x = layer(network, rng)
    size = network.node("Div", size_of(network, x, 1), network.constant(0, "int64"), name="half")
    shape = joined(network, size, network.constant(-1, "int64"))
    network.output(network.quantize(network.node("Reshape", x, shape), SECOND), "int8")
    with pytest.raises(ModelError, match=r"Div 'half' .*divides by 0"):
        load_model(network.save(tmp_path / "m.onnx"))


@pytest.mark.filterwarnings("error")
def test_batch_normalization_without_variance(tmp_path: Path, rng: np.random.Generator) -> None:
    network = Network()
    x = layer(network, rng)
    ones, zeros = (network.constant([value] * 4, "float32") for value in (1, 0))
    made = network.node("BatchNormalization", x, ones, zeros, zeros, zeros, name="b", epsilon=0.0)
    network.output(network.quantize(made, THIRD), "int8")
    with pytest.raises(ModelError, match=r"variance \+ epsilon is not above 0"):
        load_model(network.save(tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    ("operator", "way_out"),
    [
        ("LogSoftmax", "end with Softmax, or with the values in front of it"),
        ("ReduceL2", "end the network in front of it and compute it on the host"),
        ("LpNormalization", "train with BatchNormalization"),
    ],
)
def test_usual_operators_that_are_refused_have_a_way_out(
    tmp_path: Path, rng: np.random.Generator, operator: str, way_out: str
) -> None:
    network = Network()
    made = network.node(operator, layer(network, rng), name="n")
    network.output(network.quantize(made, THIRD), "int8")
    with pytest.raises(UnsupportedError) as caught:
        load_model(network.save(tmp_path / "m.onnx"))
    message = caught.value.render()
    assert f"{operator} 'n' (node" in message
    assert f"help: {way_out}" in message
