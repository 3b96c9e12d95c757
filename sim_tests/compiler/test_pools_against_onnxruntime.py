"""Pools, reductions, ArgMax and Softmax through all passes, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qcompile.compiler.backend import compile_model
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.ir import AveragePool, Lookup, MaxPool, Model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from qcompile.hw.boards.icebreaker import ICEBREAKER
from sim_tests.compiler.networks import Network, Parameters, random_codes, random_conv

SAMPLES = 4
FIRST = (0.0631, -11, "int8")
SECOND = (0.0417, 5, "int8")
UNSIGNED = (0.0417, 121, "uint8")
HALF = (0.5, 3, "int8")


def results(path: Path, inputs: dict[str, npt.NDArray[Any]]) -> tuple[Model, Any, Any]:
    """The model, and golden's and ONNX Runtime's only output."""
    model = load_model(path)
    expected = Reference(path, ()).run(inputs).outputs
    got = run_model(model, inputs)
    assert set(got) == set(expected)
    (name,) = got
    assert got[name].dtype == expected[name].dtype
    assert got[name].shape == expected[name].shape
    return model, got[name], expected[name]


def reduced(
    operator: str,
    shape: tuple[int, ...],
    before: Parameters,
    after: Parameters,
    *,
    opset: int = 13,
    **attributes: Any,
) -> Network:
    """DQ, the operator, Q."""
    network = Network(opset)
    x = network.input("x", before[2], (1, *shape))
    real = network.node(operator, network.dequantize(x, before), name="p", **attributes)
    network.output(network.quantize(real, after), after[2])
    return network


Case = tuple[str, tuple[int, ...], dict[str, Any]]

MAX_POOLS: list[Case] = [
    ("MaxPool", (3, 8, 9), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("MaxPool", (3, 8, 9), {"kernel_shape": [3, 2], "pads": [2, 1, 0, 1], "storage_order": 1}),
    ("MaxPool", (3, 8, 9), {"kernel_shape": [2, 3], "dilations": [3, 2], "pads": [1, 2, 1, 0]}),
    ("MaxPool", (3, 8, 9), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ("MaxPool", (3, 8, 9), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ("MaxPool", (3, 8, 9), {"kernel_shape": [3, 3], "strides": [3, 3], "auto_pad": "VALID"}),
    ("MaxPool", (3, 8, 9), {"kernel_shape": [3, 3], "strides": [3, 2], "ceil_mode": 1}),
    ("MaxPool", (3, 7, 7), {"kernel_shape": [1, 2], "strides": [3, 4], "ceil_mode": 1}),
    (
        "MaxPool",
        (3, 7, 7),
        {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1] * 4, "ceil_mode": 1},
    ),
    ("MaxPool", (3, 9), {"kernel_shape": [3], "strides": [2], "pads": [1, 0]}),
    ("MaxPool", (3, 9), {"kernel_shape": [2], "dilations": [3], "ceil_mode": 1, "strides": [4]}),
    ("GlobalMaxPool", (3, 8, 9), {}),
    ("GlobalMaxPool", (3, 9), {}),
    ("ReduceMax", (3, 8, 9), {"axes": [2, 3]}),
    ("ReduceMax", (3, 8, 9), {"axes": [-1, -2], "keepdims": 0}),
    ("ReduceMax", (3, 8, 9), {"axes": [1]}),
    ("ReduceMax", (3, 8, 9), {"axes": [1, 3], "keepdims": 0}),
    ("ReduceMax", (3, 8), {"axes": [2], "keepdims": 0}),
    ("ReduceMax", (5,), {"axes": [1]}),
]


@pytest.mark.parametrize("before", [FIRST, UNSIGNED])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize(("operator", "shape", "attributes"), MAX_POOLS)
def test_maxima_equal_onnxruntime(
    tmp_path: Path,
    rng: np.random.Generator,
    operator: str,
    shape: tuple[int, ...],
    attributes: dict[str, Any],
    before: Parameters,
    same: bool,
) -> None:
    after = before if same else (0.0511, before[1] + 20, before[2])
    network = reduced(operator, shape, before, after, **attributes)
    path = network.save(tmp_path / "pool.onnx")
    inputs = {"x": random_codes(rng, (SAMPLES, *shape), before[2])}
    model, got, expected = results(path, inputs)
    assert np.array_equal(got, expected)
    assert any(isinstance(op, MaxPool) for op in model.graph.ops)


def test_max_pool_of_codes_without_scale_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    x = network.input("x", "uint8", (1, 3, 8, 8))
    network.output(network.node("MaxPool", x, kernel_shape=[2, 3], pads=[1, 1, 0, 0]), "uint8")
    path = network.save(tmp_path / "pool.onnx")
    _, got, expected = results(path, {"x": random_codes(rng, (SAMPLES, 3, 8, 8), "uint8")})
    assert np.array_equal(got, expected)


def test_max_pool_of_a_float_result_ends_in_its_quantization(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 3, 8, 8))
    weight = network.weight(random_codes(rng, (4, 3, 3, 3), "int8"), 0.02)
    real = network.node("Conv", network.dequantize(x, FIRST), weight)
    real = network.node("MaxPool", real, kernel_shape=[2, 2], strides=[2, 2])
    after = (0.05, -128, "int8")
    network.output(network.quantize(network.node("Relu", real), after), "int8")
    path = network.save(tmp_path / "pool.onnx")
    _, got, expected = results(path, {"x": random_codes(rng, (SAMPLES, 3, 8, 8), "int8")})
    assert np.array_equal(got, expected)


MEANS: list[Case] = [
    ("AveragePool", (3, 8, 9), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("AveragePool", (3, 8, 9), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("AveragePool", (3, 8, 9), {"kernel_shape": [4, 3], "pads": [3, 1, 2, 0], "strides": [2, 1]}),
    (
        "AveragePool",
        (3, 8, 9),
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    ),
    (
        "AveragePool",
        (3, 8, 9),
        {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    ),
    ("AveragePool", (3, 8, 9), {"kernel_shape": [3, 3], "strides": [3, 2], "ceil_mode": 1}),
    (
        "AveragePool",
        (3, 7, 7),
        {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1] * 4, "ceil_mode": 1},
    ),
    (
        "AveragePool",
        (3, 8, 9),
        {"kernel_shape": [3, 3], "pads": [1, 0, 1, 2], "count_include_pad": 1},
    ),
    ("AveragePool", (3, 2, 2), {"kernel_shape": [4, 4], "pads": [2] * 4}),
    ("AveragePool", (3, 9), {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}),
    ("GlobalAveragePool", (3, 9), {}),
]


@pytest.mark.parametrize("before", [HALF, (0.5, 121, "uint8")])
@pytest.mark.parametrize(("operator", "shape", "attributes"), MEANS)
def test_means_with_scales_of_powers_of_two_equal_onnxruntime(
    tmp_path: Path,
    rng: np.random.Generator,
    operator: str,
    shape: tuple[int, ...],
    attributes: dict[str, Any],
    before: Parameters,
) -> None:
    network = reduced(operator, shape, before, before, **attributes)
    path = network.save(tmp_path / "pool.onnx")
    inputs = {"x": random_codes(rng, (SAMPLES, *shape), before[2])}
    model, got, expected = results(path, inputs)
    assert np.array_equal(got, expected)
    assert any(isinstance(op, AveragePool) for op in model.graph.ops)


@pytest.mark.parametrize(("operator", "shape", "attributes"), MEANS)
def test_means_with_other_scales_are_at_most_a_step_apart(
    tmp_path: Path,
    rng: np.random.Generator,
    operator: str,
    shape: tuple[int, ...],
    attributes: dict[str, Any],
) -> None:
    path = reduced(operator, shape, FIRST, SECOND, **attributes).save(tmp_path / "pool.onnx")
    inputs = {"x": random_codes(rng, (SAMPLES, *shape), "int8")}
    _, got, expected = results(path, inputs)
    assert np.abs(got.astype(np.int64) - expected).max() <= 1
    assert np.count_nonzero(got != expected) <= 0.02 * got.size


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-1], [1], [3, 1], None])
@pytest.mark.parametrize("opset", [13, 18])
def test_means_of_axes_are_at_most_a_step_apart(
    tmp_path: Path, rng: np.random.Generator, opset: int, axes: list[int] | None, keepdims: int
) -> None:
    network = Network(opset)
    real = network.dequantize(network.input("x", "int8", (1, 6, 5, 4)), FIRST)
    if opset >= 18 and axes is not None:
        listed = network.constant(axes, "int64")
        mean = network.node("ReduceMean", real, listed, keepdims=keepdims)
    else:
        attributes: dict[str, Any] = {} if axes is None else {"axes": axes}
        mean = network.node("ReduceMean", real, keepdims=keepdims, **attributes)
    network.output(network.quantize(mean, SECOND), "int8")
    path = network.save(tmp_path / "mean.onnx")
    _, got, expected = results(path, {"x": random_codes(rng, (SAMPLES, 6, 5, 4), "int8")})
    assert np.abs(got.astype(np.int64) - expected).max() <= 1


@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize(("axis", "parameters"), [(1, FIRST), (-1, UNSIGNED)])
def test_arg_max_equals_onnxruntime(
    tmp_path: Path,
    rng: np.random.Generator,
    axis: int,
    parameters: Parameters,
    keepdims: int,
    last: int,
) -> None:
    network = Network()
    x = network.input("x", parameters[2], (1, 6, 5, 4))
    real = network.dequantize(x, parameters)
    pooled = network.quantize(network.node("MaxPool", real, kernel_shape=[2, 2]), parameters)
    real = network.dequantize(pooled, parameters)
    attributes: dict[str, Any] = {"axis": axis, "keepdims": keepdims, "select_last_index": last}
    network.output(network.node("ArgMax", real, **attributes), "int64")
    path = network.save(tmp_path / "arg.onnx")
    codes = rng.integers(100, 103, (SAMPLES, 6, 5, 4)).astype(parameters[2])
    _, got, expected = results(path, {"x": codes})
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("quantized", [True, False])
@pytest.mark.parametrize(("opset", "axis"), [(11, 0), (11, 1), (12, 2), (12, -1), (13, 1), (13, 2)])
def test_softmax_of_every_opset_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, opset: int, axis: int, quantized: bool
) -> None:
    network = Network(opset)
    x = network.input("x", "int8", (1, 2, 4, 3))
    codes = random_conv(network, rng, x, (5, 2, 1, 1), (FIRST, SECOND), per_channel=False)
    shares = network.node("Softmax", network.dequantize(codes, SECOND), axis=axis)
    if quantized:
        network.output(network.quantize(shares, (1 / 256, -128, "int8")), "int8")
    else:
        network.output(shares, "float32")
    path = network.save(tmp_path / "softmax.onnx")
    _, got, expected = results(path, {"x": random_codes(rng, (SAMPLES, 2, 4, 3), "int8")})
    assert np.array_equal(got, expected)


def test_maximum_with_other_parameters_is_followed_by_a_table(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = reduced("MaxPool", (3, 8, 8), FIRST, SECOND, kernel_shape=[2, 2])
    model = load_model(network.save(tmp_path / "pool.onnx"))
    assert [type(op) for op in model.graph.ops] == [MaxPool]
    assert [op["op"] for op in model.epilogue] == ["Lookup"]
    network = reduced("MaxPool", (3, 8, 8), FIRST, SECOND, kernel_shape=[2, 2])
    real = network.dequantize(network.nodes[-1].output[0], SECOND)
    second = network.quantize(network.node("MaxPool", real, kernel_shape=[2, 2]), SECOND)
    network.outputs.clear()
    network.output(second, "int8")
    model = load_model(network.save(tmp_path / "pools.onnx"))
    assert [type(op) for op in model.graph.ops] == [MaxPool, Lookup, MaxPool]


def test_layers_of_a_pool_of_parts_have_names_of_their_own(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 2, 1, 6))
    x = random_conv(network, rng, x, (4, 2, 1, 1), (FIRST, SECOND))
    pooled = network.node(
        "AveragePool", network.dequantize(x, SECOND), kernel_shape=[1, 3], pads=[0, 1, 0, 1]
    )
    y = network.quantize(pooled, SECOND)
    network.output(random_conv(network, rng, y, (3, 4, 1, 1), (SECOND, FIRST)), "int8")
    model = load_model(network.save(tmp_path / "m.onnx"))
    compiled = compile_model(model, board=ICEBREAKER, requant="exact")
    assert len({layer.name for layer in compiled.layers}) == len(compiled.layers) > 5


@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceMax"])
@pytest.mark.parametrize("axis", [2, 3, -1, -2])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_one_axis_of_an_image_is_reduced_between_layers(
    tmp_path: Path, rng: np.random.Generator, operator: str, axis: int, keepdims: int
) -> None:
    network = Network(13)
    x = network.input("x", "int8", (1, 3, 5, 6))
    x = network.quantize(network.node("Neg", network.dequantize(x, FIRST)), FIRST)
    options: dict[str, Any] = {"axes": [axis], "keepdims": keepdims}
    real = network.node(operator, network.dequantize(x, FIRST), **options)
    y = network.dequantize(network.quantize(real, SECOND), SECOND)
    network.output(network.quantize(network.node("Add", y, y), (0.08, 7, "int8")), "int8")
    codes = random_codes(rng, (SAMPLES, 3, 5, 6), "int8")
    model, found, expected = results(network.save(tmp_path / "m.onnx"), {"x": codes})
    assert np.abs(found.astype(int) - expected).max() <= (2 if operator == "ReduceMean" else 0)
    assert compile_model(model, board=ICEBREAKER, requant="exact").total_cycles > 0
