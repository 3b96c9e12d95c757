"""Scheme f8net: formats and shifts as reported, no multiplication but of 8 bits, ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper

from qcompile.compiler.quantize.ranges import Range
from qcompile.compiler.shift_cost import shift_cost
from sim_tests.compiler.quantized_models import (
    CALIBRATION,
    accuracies,
    differences_with_shifts,
    network_of,
    quantized,
    save_image_network,
    shift_graph,
)

Constants = dict[str, npt.NDArray[Any]]


def constants_of(model: onnx.ModelProto) -> Constants:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


@pytest.mark.parametrize("fl", ["std", "grid"])
@pytest.mark.parametrize("network", ["digits", "mnist", "keywords"])
def test_networks_keep_their_accuracy_and_shifts_equal_onnxruntime(
    tmp_path: Path, request: pytest.FixtureRequest, network: str, fl: str
) -> None:
    shared = None if network == "digits" else request.getfixturevalue("shared")
    path, inputs, labels = network_of(network, shared)
    found = quantized(path, inputs[:CALIBRATION], scheme="f8net", fl=fl, equalize="weights").model
    before, after = accuracies(path, inputs, labels, found)
    assert after >= before - 0.01
    assert differences_with_shifts(found, inputs[:150], tmp_path) == 0
    assert shift_cost(*shift_graph(tmp_path / "model.onnx")).changed == 0


def test_shifts_in_the_report_are_those_of_the_scales_in_the_model() -> None:
    path, inputs, _ = network_of("digits", None)
    found = quantized(path, inputs[:50], scheme="f8net")
    constants = constants_of(found.model)
    source = {node.output[0]: node for node in found.model.graph.node}
    behind = {name: node for node in found.model.graph.node for name in node.input}
    rows = {line.split()[0]: line.split()[1:5] for line in found.notes[1:]}
    layers = [node for node in found.model.graph.node if node.op_type in ("Conv", "Gemm")]
    assert {node.name for node in layers} == set(rows)
    for node in layers:
        x_scale, x_zero = (constants[name] for name in source[node.input[0]].input[1:])
        weights = constants[source[node.input[1]].input[1]]
        codes = constants[source[node.input[1]].input[0]]
        quantize = behind[node.output[0]]
        if quantize.op_type == "Relu":
            quantize = behind[quantize.output[0]]
        y_scale, y_zero = (constants[name] for name in quantize.input[1:])
        x_format, w_format, y_format, shift = rows[node.name]
        factor = np.float32(np.float32(x_scale * weights) / y_scale)
        assert weights.ndim == 0 and float(factor) == 2.0 ** -int(shift)
        fractions = [int(one.split(".")[1]) for one in (x_format, w_format, y_format)]
        assert fractions[0] + fractions[1] - fractions[2] == int(shift)
        assert np.abs(codes).max() <= 127 and codes.dtype == np.int8
        zeros = {"u": -128, "s": 0}
        assert (int(x_zero), int(y_zero)) == (zeros[x_format[0]], zeros[y_format[0]])


def test_addends_and_sum_of_a_residual_add_differ_by_shifts() -> None:
    path, inputs, _ = network_of("digits", None)
    for fl in ("std", "grid"):
        constants = constants_of(quantized(path, inputs[:50], scheme="f8net", fl=fl).model)
        scales = [
            float(constants[f"{name}/scale"])
            for name in ("down/relu", "residual/pointwise/conv", "residual/relu")
        ]
        for one in scales:
            assert np.log2(one / scales[0]).is_integer()


def test_chain_of_residual_adds_and_a_mean_in_one(tmp_path: Path, rng: np.random.Generator) -> None:
    """All that shares an eta: two sums in a row, of which one adds a pooled branch."""
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="a"),
        helper.make_node("Relu", ["a"], ["ar"], name="ar"),
        helper.make_node("Conv", ["ar", "w2"], ["b"], name="b", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["ar", "b"], ["s1"], name="s1"),
        helper.make_node("Relu", ["s1"], ["s1r"], name="s1r"),
        helper.make_node(
            "AveragePool", ["s1r"], ["p"], name="p", kernel_shape=[3, 3], pads=[1, 1, 1, 1],
            count_include_pad=1,
        ),
        helper.make_node("Add", ["s1r", "p"], ["s2"], name="s2"),
        helper.make_node("Conv", ["s2", "w3"], ["y"], name="y"),
    ]  # fmt: skip
    weights = {
        "w1": rng.normal(size=(6, 4, 1, 1)),
        "w2": rng.normal(size=(6, 6, 3, 3)) / 7,
        "w3": rng.normal(size=(3, 6, 1, 1)),
    }
    save_image_network(tmp_path / "float.onnx", nodes, **weights)
    inputs = rng.normal(size=(40, 4, 9, 9)).astype(np.float32)
    found = quantized(tmp_path / "float.onnx", inputs[:20], scheme="f8net")
    constants = constants_of(found.model)
    scales = [float(constants[f"{name}/scale"]) for name in ("ar", "b", "s1r", "p", "s2")]
    for one in scales:
        assert np.log2(one / scales[0]).is_integer()
    assert min(row.sqnr_db for row in found.tensors) > 15
    assert differences_with_shifts(found.model, inputs, tmp_path) == 0
    assert shift_cost(*shift_graph(tmp_path / "model.onnx")).changed == 0


def test_clip_is_the_end_of_a_range_that_is_given() -> None:
    path, inputs, _ = network_of("digits", None)
    ranges = {"stem/relu": Range(low=0.0, high=2.5)}
    given = quantized(path, inputs[:50], scheme="f8net", ranges=ranges).tensors[1]
    assert given.name == "stem/relu"
    assert given.high == pytest.approx(2.5, rel=1e-5)


def test_image_is_unsigned_with_the_longest_fraction() -> None:
    path, inputs, _ = network_of("digits", None)
    row = quantized(path, inputs[:50], scheme="f8net", range="minmax").tensors[0]
    assert row.encoding.zero_point == -128
    assert float(row.encoding.scale) == pytest.approx(inputs[:50].max() / 255, rel=1e-5)
