"""Models at the edge of what ONNX allows, or beyond it where only ONNX Runtime notices."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from qcompile.compiler.errors import ModelError, QcompileError
from qcompile.compiler.frontend.node_reader import Refusal
from qcompile.compiler.frontend.signatures import check_counts
from qcompile.compiler.pipeline import load_model
from sim_tests.compiler.networks import Network

WEIGHT = np.ones((4, 3, 3, 3), np.int8)


def convolution(
    network: Network | None = None,
    *extra: str,
    weight: str = "",
    before: tuple[Any, Any] = (0.05, 3),
    after: tuple[Any, Any] = (0.05, 3),
    **attributes: Any,
) -> Network:
    """A Conv of x int8[1,3,6,6]; scale and zero point of any shape in front and behind."""
    network = network or Network()
    network.input("x", "int8", (1, 3, 6, 6))
    names = (network.constant(before[0], "float32", "sx"), network.constant(before[1], "int8"))
    real = network.node("DequantizeLinear", "x", *names, name="dq")
    weight = weight or network.weight(WEIGHT, 0.01)
    y = network.node("Conv", real, weight, *extra, name="conv", **attributes)
    names = (network.constant(after[0], "float32", "sy"), network.constant(after[1], "int8"))
    network.output(network.node("QuantizeLinear", y, *names, name="q", output="y"), "int8")
    return network


def refused(path: Path, message: str, *lines: str) -> None:
    """Loading fails with exactly this text."""
    text = "\n".join((message, *lines))
    with pytest.raises(QcompileError, match=rf"^{re.escape(text)}$"):
        load_model(path)


def test_scale_below_the_normal_numbers_is_refused(tmp_path: Path) -> None:
    refused(
        convolution(before=(1e-39, 3)).save(tmp_path / "m.onnx"),
        "m.onnx: DequantizeLinear 'dq' (node 0): scale 'sx' holds 1.0000002153053333e-39, which "
        "float32 holds with fewer than 24 bits",
        "  input 'x' int8[1,3,6,6]; constant 'sx' float32[]; constant 'constant1' int8[]",
        "  help: quantize the model again, with scales of 1.1754943508222875e-38 and above",
    )
    load_model(convolution(before=(np.finfo(np.float32).tiny, 3)).save(tmp_path / "tiny.onnx"))


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("parameters", [([[0.05]], 3), (0.05, [[3]]), ([[[0.05]]], [3])])
def test_parameters_of_several_dimensions_are_refused(
    tmp_path: Path, before: bool, parameters: tuple[Any, Any]
) -> None:
    network = convolution(before=parameters) if before else convolution(after=parameters)
    path = network.save(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"scale \[.*\] and zero point \[.*\] do not fit '"):
        load_model(path)


def test_parameters_of_several_dimensions_are_refused_in_qoperator_form(tmp_path: Path) -> None:
    network = Network()
    operands = [network.input("x", "int8", (1, 3, 6, 6))]
    for scale in ([[0.05]], 0.01, 0.05):
        if len(operands) == 3:
            operands.append(network.constant(WEIGHT, "int8"))
        operands += [network.constant(scale, "float32"), network.constant(0, "int8")]
    network.output(network.node("QLinearConv", *operands, name="conv"), "int8")
    refused(
        network.save(tmp_path / "m.onnx"),
        "m.onnx: QLinearConv 'conv' (node 0): scale [1, 1] and zero point [] do not fit 'x': "
        "both are numbers or lists",
        "  input 'x' int8[1,3,6,6]; constant 'constant1' float32[1,1]; constant 'constant2' "
        "int8[]; constant 'constant3' int8[4,3,3,3]; constant 'constant4' float32[]; constant "
        "'constant5' int8[]; constant 'constant6' float32[]; constant 'constant7' int8[]",
    )


def test_unknown_types_of_values_between_are_ignored(tmp_path: Path) -> None:
    model = convolution().model()
    info = helper.make_tensor_value_info("conv", TensorProto.FLOAT, [1])
    info.type.tensor_type.elem_type = 99
    model.graph.value_info.append(info)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    load_model(path)


@pytest.mark.parametrize("location", ["a" * 300, "loop"])
def test_external_data_that_cannot_be_opened_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    model = convolution().model()
    tensor = model.graph.initializer[2]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=rf"external data '{location}' (cannot be read: |is miss)"):
        load_model(path)


def test_tensors_of_too_many_dimensions_are_refused(tmp_path: Path) -> None:
    network = convolution()
    network.input("wide", "int8", [1] * 70)
    refused(network.save(tmp_path / "m.onnx"), "m.onnx: input 'wide' has 70 dimensions")
    network = Network()
    network.constant(np.ones(1), "float32", "c")
    network.constants[0].dims[:] = [1] * 70
    refused(
        convolution(network).save(tmp_path / "m.onnx"),
        "m.onnx: constant 'c' has 70 dimensions, more than 32",
    )
    network = convolution()
    network.node("Reshape", "x", network.constant([1] * 69 + [108], "int64"), name="r")
    with pytest.raises(ModelError, match=r"Reshape 'r' \(node 4\): makes a tensor of 70 dimension"):
        load_model(network.save(tmp_path / "m.onnx"))


@pytest.mark.parametrize("shape", [(0, 3, 3, 3), (4, 0, 3, 3)])
def test_empty_weights_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    network = Network()
    weight = network.weight(np.ones(shape, np.int8), 0.01)
    path = convolution(network, weight=weight).save(tmp_path / "m.onnx")
    stated = str(list(shape)).replace(", ", ",")
    refused(
        path,
        f"m.onnx: DequantizeLinear 'dequantizelinear4' (node 0): operand 'constant1' {list(shape)} "
        "is empty",
        f"  constant 'constant1' int8{stated}; constant 'constant2' float32[]; constant "
        "'constant3' int8[]",
    )


def test_empty_constant_that_nobody_reads_is_no_problem(tmp_path: Path) -> None:
    network = convolution()
    network.constant(np.ones((0,)), "float32")
    load_model(network.save(tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    ("attributes", "end"),
    [
        ({"strides": [1.5, 1.5]}, "attribute strides is no list of int"),
        ({"pads": [0.0, 0.0, 0.0, 0.0]}, "attribute pads is no list of int"),
    ],
)
def test_attribute_of_fractions_is_refused(
    tmp_path: Path, attributes: dict[str, Any], end: str
) -> None:
    path = convolution(**attributes).save(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=rf"^m\.onnx: Conv 'conv' \(node 2\): {end}\n"):
        load_model(path)


def test_node_with_more_inputs_than_its_operator_is_refused(tmp_path: Path) -> None:
    network = Network()
    bias = network.weight(np.zeros(4, np.int32), np.float32(0.05) * np.float32(0.01))
    path = convolution(network, bias, bias).save(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"Conv 'conv' \(node 3\): has 4 inputs; Conv takes 3 at"):
        load_model(path)


def test_operator_of_a_later_opset_is_refused() -> None:
    node = helper.make_node("HardSwish", ["x"], ["y"])
    check_counts(node, 14)
    with pytest.raises(Refusal, match=r"^opset 13 has no operator HardSwish$"):
        check_counts(node, 13)


def test_refused_result_of_absurd_size_does_not_stop_the_reader(tmp_path: Path) -> None:
    network = Network()
    network.input("x", "int8", (1, 3, 6, 6))
    pads = [0, 1 << 40, 0, 0]
    y = network.node("MaxPool", "x", name="p", kernel_shape=[1, 1], pads=pads)
    limits = [network.constant([value], "int64") for value in (0, 1, 2)]
    network.output(network.node("Slice", y, *limits), "int8")
    with pytest.raises(QcompileError, match=r"^m\.onnx: MaxPool 'p' \(node 0\): "):
        load_model(network.save(tmp_path / "m.onnx"))
