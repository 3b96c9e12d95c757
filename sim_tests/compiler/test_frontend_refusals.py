"""What the frontend refuses: one clear message that names the culprit and a way out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from qcompile.compiler.errors import ModelError, QcompileError, UnsupportedError
from qcompile.compiler.pipeline import load_model
from sim_tests.compiler.networks import Network

INT8 = (0.05, 3, "int8")


def refused(path: Path, family: type[QcompileError], *lines: str) -> None:
    """Loading fails with exactly these lines."""
    with pytest.raises(family, match=rf"^{re.escape(chr(10).join(lines))}$") as caught:
        load_model(path)
    assert type(caught.value) is family


def conv_network(**attributes: object) -> Network:
    """Input [1, 4, 8, 8], Conv 'c' with weight [4, 4, 3, 3], all quantized."""
    network = Network()
    x = network.dequantize(network.input("x", "int8", (1, 4, 8, 8)), INT8)
    w = network.weight(np.ones((4, 4, 3, 3), np.int8), 0.01)
    y = network.node("Conv", x, w, name="c", output="c_out", **attributes)
    network.output(network.quantize(y, INT8, output="y"), "int8")
    return network


# ------------------------------------------------------------------ the file


def test_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.onnx"
    refused(path, ModelError, f"{path}: no such file", "  help: give the path of an .onnx file")


def test_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    refused(
        tmp_path, ModelError, f"{tmp_path}: is a folder", "  help: give the path of an .onnx file"
    )


def test_special_file_is_named() -> None:
    refused(
        Path("/dev/null"),
        ModelError,
        "/dev/null: is no regular file",
        "  help: give the path of an .onnx file",
    )


def test_batch_given_by_shape_is_named(tmp_path: Path) -> None:
    network = Network()
    x = network.dequantize(network.input("x", "int8", ("n", 4)), INT8)
    network.output(network.quantize(network.node("Relu", x), INT8), "int8")
    path = network.save(tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError, match=r"--shape gives input 'x' a batch of 4\n.*give 1"):
        load_model(path, shapes={"x": (4, 4)})
    with pytest.raises(ModelError, match=r"input 'x' \[1, 0\] has an empty dimension"):
        load_model(empty_input(tmp_path), shapes={"x": (1, 0)})


def empty_input(folder: Path) -> Path:
    """Input [n, m], both symbolic."""
    network = Network()
    x = network.dequantize(network.input("x", "int8", ("n", "m")), INT8)
    network.output(network.quantize(network.node("Relu", x), INT8), "int8")
    return network.save(folder / "symbolic.onnx")


def test_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.touch()
    refused(path, ModelError, "m.onnx: the file is empty", "  help: export or download it again")


def test_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = conv_network().save(tmp_path / "m.onnx")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    refused(
        path,
        ModelError,
        "m.onnx: not an ONNX file, or cut short",
        f"  {len(data) // 2:,} bytes that no protobuf parser can read to the end",
        "  help: export or download the model again",
    )


def test_file_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save_model(helper.make_model(helper.make_graph([], "g", [], []), ir_version=8), path)
    refused(
        path,
        ModelError,
        "m.onnx: not an ONNX model: it has no operators or no version",
        "  help: export or download the model again",
    )


def test_file_beyond_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = conv_network().save(tmp_path / "m.onnx")
    size = path.stat().st_size
    monkeypatch.setattr("qcompile.compiler.frontend.loader.MAX_FILE_BYTES", size - 1)
    refused(
        path,
        ModelError,
        f"m.onnx: {size:,} bytes, more than the {size - 1:,} that are read",
        "  help: networks for these devices have a few megabytes; is this the right file?",
    )


def test_constant_that_declares_a_huge_size_is_not_allocated(tmp_path: Path) -> None:
    network = conv_network()
    network.constants.append(
        TensorProto(name="bomb", dims=[1 << 40], data_type=TensorProto.FLOAT, raw_data=b"1234")
    )
    refused(
        network.save(tmp_path / "m.onnx"),
        ModelError,
        "m.onnx: constant 'bomb' declares 4,398,046,511,104 bytes, "
        "more than the 1,073,741,824 accepted",
        "  help: is the file damaged?",
    )


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "link.bin"])
def test_external_data_outside_the_folder_is_not_opened(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(b"12345678")
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    network = conv_network()
    tensor = TensorProto(name="stolen", dims=[8], data_type=TensorProto.INT8)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    network.constants.append(tensor)
    refused(
        network.save(folder / "m.onnx"),
        ModelError,
        f"m.onnx: constant 'stolen': external data '{location}' is outside the model's folder",
        "  help: keep external data beside the model and save it with a relative path",
    )


def test_external_data_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"1234")
    network = conv_network()
    tensor = TensorProto(name="w", dims=[8], data_type=TensorProto.INT8)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="w.bin")
    network.constants.append(tensor)
    refused(
        network.save(tmp_path / "m.onnx"),
        ModelError,
        "m.onnx: constant 'w' of shape [8] needs 8 bytes of 'w.bin', which gives 4",
        "  help: copy the file again: it is cut short or belongs to another model",
    )


# ------------------------------------------------------------------ names and order


def edited(edit: Callable[[onnx.GraphProto], object]) -> onnx.ModelProto:
    model = conv_network().model()
    edit(model.graph)
    return model


def saved(path: Path, model: onnx.ModelProto) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def test_cyclic_graph_is_refused(tmp_path: Path) -> None:
    def edit(graph: onnx.GraphProto) -> None:
        graph.node[0].input[0] = "y"

    refused(
        saved(tmp_path / "m.onnx", edited(edit)),
        ModelError,
        "m.onnx: DequantizeLinear 'dequantizelinear3' (node 0): "
        "its inputs depend on its own output",
        "  3 nodes form or follow a cycle",
        "  help: a graph must not have cycles; unroll the loop when exporting",
    )


def test_nodes_in_another_order_are_read(tmp_path: Path) -> None:
    def edit(graph: onnx.GraphProto) -> None:
        nodes = list(graph.node)
        del graph.node[:]
        graph.node.extend(reversed(nodes))

    assert len(load_model(saved(tmp_path / "m.onnx", edited(edit))).graph.ops) == 1


def test_value_without_a_name_is_refused(tmp_path: Path) -> None:
    def edit(graph: onnx.GraphProto) -> None:
        graph.node.append(helper.make_node("Relu", ["c_out"], [""], name="r"))

    refused(
        saved(tmp_path / "m.onnx", edited(edit)),
        ModelError,
        "m.onnx: Relu 'r' (node 4): has no named output",
    )


def test_value_that_is_defined_twice_is_refused(tmp_path: Path) -> None:
    def edit(graph: onnx.GraphProto) -> None:
        graph.node.append(helper.make_node("Relu", ["c_out"], ["y"], name="r"))

    refused(
        saved(tmp_path / "m.onnx", edited(edit)),
        ModelError,
        "m.onnx: Relu 'r' (node 4): defines 'y', which is defined already",
        "  help: give every value one definition; the file was edited or is damaged",
    )


def test_undefined_input_is_refused(tmp_path: Path) -> None:
    def edit(graph: onnx.GraphProto) -> None:
        graph.node[0].input[0] = "nobody"

    refused(
        saved(tmp_path / "m.onnx", edited(edit)),
        ModelError,
        "m.onnx: DequantizeLinear 'dequantizelinear3' (node 0): "
        "input 'nobody' is defined by no node",
    )


# ------------------------------------------------------------------ shapes of inputs


def vector_network(shape: tuple[int | str, ...]) -> Network:
    network = Network()
    x = network.dequantize(network.input("x", "int8", shape), INT8)
    w = network.weight(np.ones((8, 4), np.int8), 0.01)
    network.output(network.quantize(network.node("MatMul", x, w), INT8, output="y"), "int8")
    return network


def test_symbolic_dimension_needs_a_size_and_the_message_says_how(tmp_path: Path) -> None:
    path = vector_network(("batch", "width")).save(tmp_path / "m.onnx")
    refused(
        path,
        UnsupportedError,
        "m.onnx: input 'x' [batch,width]: dimension 'width' has no size",
        "  help: give it one: --shape 'x=1,width' with numbers for the names",
    )
    assert load_model(path, shapes={"x": (1, 8)}).inputs[0].shape == (1, 8)


def test_leading_symbolic_dimension_is_one(tmp_path: Path) -> None:
    path = vector_network(("batch", 8)).save(tmp_path / "m.onnx")
    assert load_model(path).inputs[0].shape == (1, 8)


def test_static_batch_is_refused(tmp_path: Path) -> None:
    refused(
        vector_network((16, 8)).save(tmp_path / "m.onnx"),
        UnsupportedError,
        "m.onnx: input 'x' [16,8] has a batch of 16",
        "  help: export the model with a batch of 1 or a symbolic first dimension; "
        "inputs run one by one",
    )


def test_shape_for_an_unknown_input_is_refused(tmp_path: Path) -> None:
    path = vector_network((1, 8)).save(tmp_path / "m.onnx")
    message = r"^m\.onnx: --shape names 'z', which is no input\n  help: inputs: x$"
    with pytest.raises(ModelError, match=message):
        load_model(path, shapes={"z": (1, 8)})


def test_shape_that_contradicts_the_file_is_refused(tmp_path: Path) -> None:
    path = vector_network((1, 8)).save(tmp_path / "m.onnx")
    message = (
        r"^m\.onnx: input 'x' \[1,8\] cannot have the shape \[1,9\] of --shape\n"
        r"  help: only symbolic dimensions can be chosen$"
    )
    with pytest.raises(ModelError, match=message):
        load_model(path, shapes={"x": (1, 9)})


# ------------------------------------------------------------------ operators and attributes


def test_attribute_that_nobody_reads_is_an_error(tmp_path: Path) -> None:
    refused(
        conv_network(fused_activation=3).save(tmp_path / "m.onnx"),
        UnsupportedError,
        "m.onnx: Conv 'c' (node 2): attribute fused_activation=3 is not known here",
        "  input 'dequantizelinear3' float32[1,4,8,8]; input 'dequantizelinear7' float32[4,4,3,3]",
        "  help: remove it, or convert the model to the opset that it says it uses",
    )


@pytest.mark.parametrize(
    ("attributes", "message", "help"),
    [
        (
            {"auto_pad": "SAME_UPPER", "dilations": [2, 2]},
            "auto_pad=SAME_UPPER with dilations=[2, 2] is not supported",
            "export the model with explicit pads",
        ),
        (
            {"pads": [3, 0, 0, 0]},
            "pads=[3, 0, 0, 0] reach a whole kernel [3, 3] beyond the image",
            "pad less than the kernel",
        ),
        (
            {"pads": [-1, 0, 0, 0]},
            "pads=[-1, 0, 0, 0] is not supported",
            "four pads, none negative",
        ),
        ({"strides": [0, 1]}, "strides=[0, 1] is not supported", "two positive numbers"),
    ],
)
def test_window_that_cannot_be_done_is_refused(
    tmp_path: Path, attributes: dict[str, object], message: str, help: str
) -> None:
    refused(
        conv_network(**attributes).save(tmp_path / "m.onnx"),
        UnsupportedError,
        f"m.onnx: Conv 'c' (node 2): {message}",
        "  input 'dequantizelinear3' float32[1,4,8,8]; input 'dequantizelinear7' float32[4,4,3,3]",
        f"  help: {help}",
    )


@pytest.mark.parametrize("scale", [0.0, -0.5, np.nan, np.inf])
def test_scale_that_is_none_is_refused(tmp_path: Path, scale: float) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 8))
    real = network.node("DequantizeLinear", x, network.constant(scale, "float32", "s"), name="d")
    network.output(network.quantize(real, INT8, output="y"), "int8")
    refused(
        network.save(tmp_path / "m.onnx"),
        ModelError,
        f"m.onnx: DequantizeLinear 'd' (node 0): scale 's' holds {np.float32(scale)}",
        "  input 'x' int8[1,8]; constant 's' float32[]",
        "  help: a scale must be finite and above 0; quantize the model again",
    )


def test_opset_outside_the_known_range_is_refused(tmp_path: Path) -> None:
    model = conv_network().model()
    model.opset_import[0].version = 9
    refused(
        saved(tmp_path / "m.onnx", model),
        UnsupportedError,
        "m.onnx: opset 9 is not supported",
        "  help: convert the model to opset 10 to 21 (onnx.version_converter)",
    )


def test_attribute_of_a_newer_opset_is_refused(tmp_path: Path) -> None:
    network = Network(12)
    x = network.dequantize(network.input("x", "int8", (1, 2, 4, 4)), INT8)
    w = network.weight(np.ones((4, 2, 1, 1), np.int8), [0.01] * 4, axis=0)
    real = network.node("Conv", x, w, name="c", output="c_out")
    network.output(network.quantize(real, INT8, output="y"), "int8")
    refused(
        network.save(tmp_path / "m.onnx"),
        ModelError,
        "m.onnx: DequantizeLinear 'dequantizelinear7' (node 1): opset 12 has no attribute axis of "
        "DequantizeLinear",
        "  constant 'constant4' int8[4,2,1,1]; constant 'constant5' float32[4]; "
        "constant 'constant6' int8[4]",
        "  help: convert the model to a newer opset (onnx.version_converter)",
    )


def test_same_pads_that_leave_many_values_out_are_refused(tmp_path: Path) -> None:
    network = conv_network(auto_pad="SAME_UPPER", strides=[8, 8])
    refused(
        network.save(tmp_path / "m.onnx"),
        UnsupportedError,
        "m.onnx: Conv 'c' (node 2): auto_pad with strides=[8, 8] and kernel [3, 3] leaves 5 of 8 "
        "values out",
        "  input 'dequantizelinear3' float32[1,4,8,8]; input 'dequantizelinear7' float32[4,4,3,3]",
        "  help: export the model with explicit pads; ONNX Runtime's operators differ here",
    )


def test_window_that_reads_padding_only_is_refused(tmp_path: Path) -> None:
    network = Network()
    x = network.dequantize(network.input("x", "int8", (1, 2, 4, 1)), INT8)
    window = {"kernel_shape": [1, 2], "dilations": [1, 2], "pads": [0, 1, 0, 1]}
    real = network.node("MaxPool", x, name="p", output="p_out", **window)
    network.output(network.quantize(real, (0.1, 0, "int8"), output="y"), "int8")
    refused(
        network.save(tmp_path / "m.onnx"),
        UnsupportedError,
        "m.onnx: MaxPool 'p' (node 1): dilations=[1, 2]: window 0 along axis 3 reads padding only",
        "  input 'dequantizelinear3' float32[1,2,4,1]",
        "  help: pad less, or dilate less",
    )


def test_dynamic_quantization_is_refused_by_name(tmp_path: Path) -> None:
    network = Network()
    x = network.input("x", "float32", (1, 8))
    network.nodes.append(
        helper.make_node("DynamicQuantizeLinear", [x], ["y", "s", "z"], name="dyn")
    )
    network.output("y", "uint8")
    refused(
        network.save(tmp_path / "m.onnx"),
        UnsupportedError,
        "m.onnx: DynamicQuantizeLinear 'dyn' (node 0): the operator is not supported",
        "  input 'x' float32[1,8]",
        "  help: quantize statically (onnxruntime quantize_static): scales must be constants",
    )


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    network = Network()
    x = network.dequantize(network.input("x", "int8", (1, 4, 8, 8)), INT8)
    pooled = network.node("LpPool", x, name="p", output="p_out", kernel_shape=[2, 2])
    codes = network.quantize(pooled, INT8, output="p_codes")
    float_weight = network.constant(np.ones((4, 4, 1, 1)), "float32", "w")
    real = network.node(
        "Conv", network.dequantize(codes, INT8), float_weight, name="c", output="c_out"
    )
    network.output(network.quantize(real, INT8, output="y"), "int8")
    refused(
        network.save(tmp_path / "m.onnx"),
        UnsupportedError,
        "m.onnx: 2 problems",
        "  m.onnx: LpPool 'p' (node 1): the operator is not supported",
        "    input 'dequantizelinear3' float32[1,4,8,8]",
        "    help: docs/operators.md lists the operators that are supported",
        "  m.onnx: Conv 'c' (node 4): weight 'w' is a float constant",
        "    input 'dequantizelinear8' float32[1,4,7,7]",
        "    input 'w' float32[4,4,1,1]",
        "    help: quantize the weight: a constant with DequantizeLinear behind it",
    )


def test_float_model_is_refused_with_a_way_out(tmp_path: Path) -> None:
    network = Network()
    x = network.input("x", "float32", (1, 4, 8, 8))
    w = network.constant(np.ones((4, 4, 3, 3)), "float32", "w")
    network.output(network.node("Conv", x, w, name="c", output="y"), "float32")
    refused(
        network.save(tmp_path / "m.onnx"),
        UnsupportedError,
        "m.onnx: Conv 'c' (node 0): operand 'x' is not a quantized activation",
        "  input 'x' float32[1,4,8,8]",
        "  input 'w' float32[4,4,3,3]",
        "  help: quantize the whole model, with QuantizeLinear and DequantizeLinear around every "
        "operator: `qcompile quantize` does it with a float model, and so does onnxruntime's "
        "quantize_static",
    )


def test_result_that_is_not_quantized_is_refused(tmp_path: Path) -> None:
    network = conv_network()
    network.output("c_out", "float32")
    refused(
        network.save(tmp_path / "m.onnx"),
        UnsupportedError,
        "m.onnx: output 'c_out': 'c_out' is the float result of Conv 'c' (node 2)",
        "  help: add QuantizeLinear and DequantizeLinear behind that Conv",
    )
