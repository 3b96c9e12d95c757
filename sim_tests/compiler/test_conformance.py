"""Golden numerics against the ONNX project's own operator tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

from qcompile.compiler.golden import float_rules, numerics
from qcompile.compiler.golden.interpreter import accumulate
from qcompile.compiler.ir import Conv, Quantization, Requant

Array = npt.NDArray[Any]


def load_case(shared: Path, name: str) -> tuple[onnx.NodeProto, list[Array], Array]:
    """The operator, its inputs and its expected output."""
    folder = shared / "conformance" / "onnx_node" / name
    node = onnx.load(folder / "model.onnx").graph.node[0]
    data = folder / "test_data_set_0"

    def read(file: str) -> Array:
        tensor = onnx.TensorProto()
        tensor.ParseFromString((data / file).read_bytes())
        return numpy_helper.to_array(tensor)

    count = len(list(data.glob("input_*.pb")))
    return node, [read(f"input_{i}.pb") for i in range(count)], read("output_0.pb")


def requant_of(scale: Array, zero_point: int) -> Requant:
    mantissa, shift = numerics.scale_to_mantissa(np.atleast_1d(scale).astype(np.float32))
    return Requant(mode="exact", mantissa=mantissa, shift=shift, zero_point=zero_point)


@pytest.mark.parametrize("rank", ["2D", "3D"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_matrix_products_follow_onnx(shared: Path, rank: str, dtype: str) -> None:
    _, inputs, expected = load_case(shared, f"test_qlinearmatmul_{rank}_{dtype}_float32")
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = inputs
    acc = (a.astype(np.int64) - int(a_zero.item())) @ (b.astype(np.int64) - int(b_zero.item()))
    moved = 128 if dtype == "uint8" else 0
    scale = numerics.combined_scale(a_scale.item(), np.atleast_1d(b_scale), y_scale.item())
    requant = requant_of(np.repeat(scale, acc.shape[-1]), int(y_zero.item()) - moved)
    assert np.array_equal(numerics.requantize(acc, requant).astype(np.int64) + moved, expected)


def test_convolution_follows_onnx(shared: Path) -> None:
    _, inputs, expected = load_case(shared, "test_qlinearconv")
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = inputs
    scale = numerics.combined_scale(x_scale.item(), np.atleast_1d(w_scale), y_scale.item())
    conv = Conv(
        inputs=("x",),
        outputs=("y",),
        weight=(w.astype(np.int64) - np.reshape(w_zero, (-1, 1, 1, 1))).astype(np.int16),
        bias=np.zeros(1, np.int64),
        input_zero_point=int(x_zero.item()) - 128,
        strides=(1, 1),
        dilations=(1, 1),
        pads=(0, 0, 0, 0),
        group=1,
        requant=requant_of(scale, int(y_zero.item()) - 128),
    )
    acc = accumulate(conv, (x.astype(np.int64) - 128).astype(np.int8))
    codes = numerics.requantize(acc, conv.requant, axis=1)
    assert np.array_equal(codes.astype(np.int64) + 128, expected)


def test_quantization_follows_onnx(shared: Path) -> None:
    _, (x, scale, zero), expected = load_case(shared, "test_quantizelinear")
    q = Quantization(scale=float(scale.item()), zero_point=int(zero.item()))
    assert np.array_equal(float_rules.quantize_linear(x, q, expected.dtype.name), expected)


def test_dequantization_follows_onnx(shared: Path) -> None:
    _, (x, scale, zero), expected = load_case(shared, "test_dequantizelinear")
    q = Quantization(scale=float(scale.item()), zero_point=int(zero.item()))
    assert np.array_equal(float_rules.dequantize_linear(x, q), expected)


@pytest.mark.parametrize("padding", ["with", "without"])
def test_integer_convolution_follows_onnx(shared: Path, padding: str) -> None:
    node, inputs, expected = load_case(shared, f"test_convinteger_{padding}_padding")
    x, w, x_zero = inputs
    pads = next((list(a.ints) for a in node.attribute if a.name == "pads"), [0, 0, 0, 0])
    conv = Conv(
        inputs=("x",),
        outputs=("y",),
        weight=w.astype(np.int16),
        bias=np.zeros(w.shape[0], np.int64),
        input_zero_point=int(x_zero.item()) - 128,
        strides=(1, 1),
        dilations=(1, 1),
        pads=(pads[0], pads[1], pads[2], pads[3]),
        group=1,
        requant=requant_of(np.ones(1), 0),
    )
    acc = accumulate(conv, (x.astype(np.int64) - 128).astype(np.int8))
    assert np.array_equal(acc, expected)
