"""The ONNX project's own operator tests as models: each one passes, or is refused by its message.

A test becomes a model whose operands are constants but for the first. Where the first axis is not
1 it is the batch: its rows are samples, and matrices that differ between rows make a model each. A
MaxPool of another input stands beside the operator, since a model needs one for the accelerator.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.pipeline import load_model
from sim_tests.compiler.test_conformance import Array, load_case

PASSING = (
    "test_dequantizelinear",
    "test_qlinearconv",
    "test_qlinearmatmul_2D_int8_float32",
    "test_qlinearmatmul_2D_uint8_float32",
    "test_qlinearmatmul_3D_int8_float32",
    "test_qlinearmatmul_3D_uint8_float32",
    "test_quantizelinear",
)

UNSCALED = (
    "is the unscaled result of {} (node 0)\n  help: quantize statically (onnxruntime "
    "quantize_static): behind the operator a Cast to float32, a Mul by a constant and a "
    "QuantizeLinear"
)
ONE_SCALE = "\n  help: use one scale a tensor for activations"
BLOCKS = "\n  help: use one scale a tensor or a channel"
CODES = "\n  help: quantize activations to int8 or uint8"

REFUSED = {
    "test_convinteger_with_padding": f"output 'y': 'y' {UNSCALED.format('ConvInteger')}",
    "test_convinteger_without_padding": f"output 'y': 'y' {UNSCALED.format('ConvInteger')}",
    "test_dequantizelinear_axis": (
        "DequantizeLinear (node 0): quantizes an activation with 3 scales\n"
        f"  input 'x' uint8[1,3,3,2]{ONE_SCALE}"
    ),
    "test_dequantizelinear_blocked": (
        "DequantizeLinear (node 0): block_size=2 is not supported\n  input 'x' uint8[1,4,3,2]; "
        f"constant 'x_scale' float32[1,2,3,2]; constant 'x_zero_point' uint8[1,2,3,2]{BLOCKS}"
    ),
    "test_dequantizelinear_int16": (
        "DequantizeLinear (node 0): input 'x' has type int16\n  input 'x' int16[1]; "
        "constant 'x_scale' float32[]; constant 'x_zero_point' int16[]"
        "\n  help: only int8, uint8 and int32"
    ),
    "test_dequantizelinear_uint16": (
        "DequantizeLinear (node 0): input 'x' has type uint16\n  input 'x' uint16[1]; "
        "constant 'x_scale' float32[]; constant 'x_zero_point' uint16[]"
        "\n  help: only int8, uint8 and int32"
    ),
    "test_matmulinteger": f"output 'Y': 'Y' {UNSCALED.format('MatMulInteger')}",
    "test_quantizelinear_axis": (
        "QuantizeLinear (node 0): quantizes an activation with 3 scales\n"
        f"  input 'x' float32[1,3,3,2]{ONE_SCALE}"
    ),
    "test_quantizelinear_blocked_asymmetric": (
        "QuantizeLinear (node 0): block_size=2 is not supported\n  input 'x' float32[1,4]; "
        f"constant 'y_scale' float32[3,2]; constant 'y_zero_point' uint8[3,2]{BLOCKS}"
    ),
    "test_quantizelinear_blocked_symmetric": (
        "QuantizeLinear (node 0): block_size=2 is not supported\n  input 'x' float32[1,4]; "
        f"constant 'y_scale' float32[3,2]{BLOCKS}"
    ),
    "test_quantizelinear_int16": (
        "QuantizeLinear (node 0): makes int16 codes\n  input 'x' float32[1]; "
        f"constant 'y_scale' float32[]; constant 'y_zero_point' int16[]{CODES}"
    ),
    "test_quantizelinear_uint16": (
        "QuantizeLinear (node 0): makes uint16 codes\n  input 'x' float32[1]; "
        f"constant 'y_scale' float32[]; constant 'y_zero_point' uint16[]{CODES}"
    ),
}


def operator_model(name: str, node: onnx.NodeProto, operands: list[Array], opset: int) -> bytes:
    """The operator with all operands but the first as constants, and a MaxPool beside it."""
    x = operands[0]
    dtype = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        [node, helper.make_node("MaxPool", ["beside"], ["pooled"], kernel_shape=[1, 1])],
        name,
        [
            helper.make_tensor_value_info(node.input[0], dtype, [1, *x.shape[1:]]),
            helper.make_tensor_value_info("beside", TensorProto.INT8, [1, 1, 2, 2]),
        ],
        [
            helper.make_tensor_value_info(node.output[0], TensorProto.UNDEFINED, None),
            helper.make_tensor_value_info("pooled", TensorProto.INT8, [1, 1, 2, 2]),
        ],
        [
            numpy_helper.from_array(np.array(operand, order="C"), constant)
            for constant, operand in zip(node.input[1:], operands[1:], strict=True)
        ],
    )
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


def rows(operands: list[Array], expected: Array) -> list[tuple[list[Array], Array]]:
    """The test, or one for each row where the other matrix differs between rows."""
    x, *constants = operands
    if x.ndim < 3 or x.shape[0] == 1:
        return [(operands, expected)]
    return [
        ([x[i : i + 1], *(c[i] if c.ndim == x.ndim else c for c in constants)], expected[i : i + 1])
        for i in range(len(x))
    ]


def folder_of(shared: Path) -> Path:
    return shared / "conformance" / "onnx_node"


def test_every_operator_test_is_listed(shared: Path) -> None:
    assert {path.name for path in folder_of(shared).iterdir()} == {*PASSING, *REFUSED}


def save_models(shared: Path, folder: Path, name: str) -> list[tuple[Path, Array, Array]]:
    """Models of a test, with their input and expected output."""
    node, operands, expected = load_case(shared, name)
    opset = max(10, onnx.load(folder_of(shared) / name / "model.onnx").opset_import[0].version)
    saved = []
    for number, (row, result) in enumerate(rows(operands, expected)):
        path = folder / f"{number}.onnx"
        path.write_bytes(operator_model(name, node, row, opset))
        saved.append((path, row[0], result))
    return saved


@pytest.mark.parametrize("name", PASSING)
def test_operator_gives_the_result_that_onnx_expects(
    shared: Path, tmp_path: Path, name: str
) -> None:
    for path, x, expected in save_models(shared, tmp_path, name):
        model = load_model(path)
        beside = np.zeros((len(x), 1, 2, 2), np.int8)
        got = run_model(model, {model.inputs[0].name: x, "beside": beside})
        result = got[model.outputs[0].name]
        assert result.dtype == expected.dtype
        assert np.array_equal(result, expected)


@pytest.mark.parametrize("name", REFUSED)
def test_operator_is_refused_by_a_message(shared: Path, tmp_path: Path, name: str) -> None:
    for path, _, _ in save_models(shared, tmp_path, name):
        with pytest.raises(UnsupportedError, match=rf"^0\.onnx: {re.escape(REFUSED[name])}$"):
            load_model(path)
