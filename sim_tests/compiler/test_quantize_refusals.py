"""Networks and options that `qcompile quantize` refuses, each with the whole message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import NodeProto, helper, numpy_helper

from qcompile.compiler.cli import main
from qcompile.compiler.quantize import Options, load_float, quantize
from sim_tests.compiler.test_quantize import save_network

Array = npt.NDArray[Any]
IMAGE = np.linspace(-1, 1, 2 * 144, dtype=np.float32).reshape(2, 4, 6, 6)


def one_layer(path: Path) -> None:
    """A convolution of one tap."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="layer")]
    save_network(path, nodes, w=np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1))


def save_with_shapes(
    path: Path, nodes: list[NodeProto], shapes: tuple[list[int], list[int]], **constants: Array
) -> None:
    """Nodes from `x` to `y` of these shapes."""
    values = [helper.make_tensor_value_info(n, 1, s) for n, s in zip("xy", shapes, strict=True)]
    initializers = [numpy_helper.from_array(one, name) for name, one in constants.items()]
    graph = helper.make_graph(nodes, "network", values[:1], values[1:], initializers)
    imports = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)


def said(
    folder: Path, capsys: pytest.CaptureFixture[str], *options: str, code: int = 1, x: Array = IMAGE
) -> str:
    """What the command says of net.onnx without writing anything; progress is left out."""
    np.savez(folder / "x.npz", x=x)
    arguments = ["quantize", "net.onnx", "--calibration", "x.npz", "-o", "int8.onnx", *options]
    assert main(arguments) == code
    assert not (folder / "int8.onnx").exists()
    lines = capsys.readouterr().err.splitlines()
    return "\n".join(line for line in lines if " s  " not in line)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


FORMS = "int8, codebook:N[,entropy]"
OTHERS = "give --weights too, or take one of the schemes ternary, binary, xnor"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--weights", "int4"], f"--weights int4 is not known\n  help: take one of: {FORMS}"),
        (
            ["--weights", "codebook:16,"],
            "--weights codebook:16, ends with a comma\n  help: give codebook:N[,entropy]",
        ),
        (
            ["--activations", "log:8,"],
            "--activations log:8, ends with a comma\n  help: give log:L[,entropy|,output]",
        ),
        (
            ["--int8-depthwise"],
            f"--int8-depthwise has no use in scheme affine with int8 weights\n  help: {OTHERS}",
        ),
    ],
)
def test_options_that_make_no_sense(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    one_layer(folder / "net.onnx")
    assert said(folder, capsys, *options, code=2) == message


def test_int8_depthwise_without_a_depthwise_layer_is_said(folder: Path) -> None:
    one_layer(folder / "net.onnx")
    options = Options(weights="codebook:4", int8_depthwise=True)
    result = quantize(load_float(folder / "net.onnx"), {"x": IMAGE}, options)
    assert result.notes == ("--int8-depthwise changed nothing: no layer is depthwise",)


def test_folders_are_called_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "net.onnx").mkdir()
    assert said(folder, capsys) == "net.onnx: is a folder\n  help: give a float ONNX model"
    (folder / "net.onnx").rmdir()
    one_layer(folder / "net.onnx")
    (folder / "given").mkdir()
    assert said(folder, capsys, "--calibration", "given") == (
        "given: is a folder\n"
        "  help: --calibration takes an npz file; write it with numpy.savez('inputs.npz', x=array)"
    )
    assert said(folder, capsys, "--ranges", "given").startswith("given: is a folder\n")


def test_nodes_of_one_name_are_named_by_place(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["t"], name="twice"),
        helper.make_node("Relu", ["t"], ["y"], name="twice"),
    ]
    save_network(folder / "net.onnx", nodes, w=weights)
    assert said(folder, capsys) == (
        "net.onnx: Conv (node 0) and Relu (node 1) have the same name 'twice'\n"
        "  help: give each node a name of its own, or none"
    )


def test_a_node_called_like_another_ones_result_is_no_trouble(folder: Path) -> None:
    weights = np.eye(4, dtype=np.float32).reshape(4, 4, 1, 1)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["t"], name="y"),
        helper.make_node("Conv", ["t", "w"], ["y"]),
    ]
    save_network(folder / "net.onnx", nodes, w=weights)
    network = load_float(folder / "net.onnx")
    assert [node.name for node in network.nodes] == ["y", "y:node"]
    assert quantize(network, {"x": IMAGE}).tensors[-1].sqnr_db > 35


def test_a_bias_behind_a_product_of_three_axes_asks_for_a_reshape(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["t"], name="product"),
        helper.make_node("Add", ["t", "b"], ["y"], name="sum"),
    ]
    constants = {"w": np.ones((8, 6), np.float32), "b": np.ones(6, np.float32)}
    save_with_shapes(folder / "net.onnx", nodes, ([1, 5, 8], [1, 5, 6]), **constants)
    assert said(folder, capsys, x=np.ones((2, 5, 8), np.float32)) == (
        "net.onnx: Add 'sum' adds a constant to the result of MatMul 'product', which has 3 axes, "
        "not 2\n"
        "  help: give MatMul 'product' an operand with two axes, by a Reshape in front of it"
    )


@pytest.mark.parametrize(
    ("node", "weights", "result"),
    [
        (helper.make_node("Conv", ["x", "w"], ["y"], name="one"), (3, 2, 3, 3, 3), [3, 2, 2, 2]),
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="one"), (2, 3, 3, 3, 3),
         [3, 6, 6, 6]),
        (helper.make_node("MaxPool", ["x"], ["y"], name="one", kernel_shape=[2, 2, 2]), None,
         [2, 3, 3, 3]),
        (helper.make_node("GlobalAveragePool", ["x"], ["y"], name="one"), None, [2, 1, 1, 1]),
    ],
)  # fmt: skip
def test_volumes_are_refused(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    node: NodeProto,
    weights: tuple[int, ...] | None,
    result: list[int],
) -> None:
    constants = {} if weights is None else {"w": np.ones(weights, np.float32)}
    save_with_shapes(folder / "net.onnx", [node], ([1, 2, 4, 4, 4], [1, *result]), **constants)
    assert said(folder, capsys, x=np.ones((2, 2, 4, 4, 4), np.float32)) == (
        f"net.onnx: {node.op_type} 'one' has 3 axes of space\n"
        "  help: only images and lines are computed"
    )


@pytest.mark.parametrize("kind", ["Identity", "Relu", "Flatten"])
def test_networks_without_a_layer_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    save_network(folder / "net.onnx", [helper.make_node(kind, ["x"], ["y"])])
    assert said(folder, capsys) == (
        "net.onnx: has no operator for the accelerator\n  help: the model needs at least one of:"
        " Add, AveragePool, Conv, ConvTranspose, Gemm, GlobalAveragePool, MatMul, MaxPool"
    )


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2]),
        helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2]),
        helper.make_node("GlobalAveragePool", ["x"], ["y"]),
        helper.make_node("Add", ["x", "x"], ["y"]),
    ],
)
def test_networks_of_one_operator_that_computes_are_compiled(folder: Path, node: NodeProto) -> None:
    save_network(folder / "net.onnx", [node])
    np.savez(folder / "x.npz", x=IMAGE)
    arguments = ["quantize", "net.onnx", "--calibration", "x.npz", "-o", "int8.onnx"]
    assert main(arguments) == 0
    assert main(["check", "int8.onnx", "--target", "ice40"]) == 0
