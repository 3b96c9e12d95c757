"""Importers of operators that move or convert values: shapes, order of axes, quantization."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from qcompile.compiler import ir_float
from qcompile.compiler.frontend.node_reader import (
    Imported,
    Importer,
    NodeReader,
    Refusal,
    resolved_axis,
)
from qcompile.compiler.frontend.operators import CODES, REAL, REAL_OR_CODES, Operator
from qcompile.compiler.frontend.parameters import ScaleAndZero, read_parameters
from qcompile.compiler.ir import Reshape, Value


def _reshaped(node: NodeReader, shape: tuple[int, ...]) -> Imported:
    x = node.value(0)
    if math.prod(shape) != x.elements:
        raise Refusal(f"shape {list(shape)} does not hold {x.elements} elements", broken=True)
    op = Reshape(inputs=(x.name,), outputs=(node.output,), origins=(node.origin,), shape=shape)
    return op, Value(name=node.output, shape=shape, dtype=x.dtype)


def identity(node: NodeReader) -> Imported:
    """Identity, a Reshape to the same shape."""
    return _reshaped(node, node.value(0).shape)


def dropout(node: NodeReader) -> Imported:
    """Dropout outside training, which changes nothing; the mask is a second output."""
    for unused in ("ratio", "seed"):
        node.attribute(unused)  # speak of training alone
    training = node.constant(2, "training_mode")
    if training is not None and training.any():
        raise Refusal("training_mode=1 is not supported", help="export the model for inference")
    return _reshaped(node, node.float_input(0).shape)


def reshape(node: NodeReader) -> Imported:
    """Reshape with a constant shape, in which 0 copies a dimension and -1 is worked out."""
    x = node.value(0)
    target = node.integers(1, "shape")
    allow_zero = bool(node.attribute("allowzero", 0))
    if target is None:
        raise Refusal("has no shape", broken=True)
    if not allow_zero:
        if any(d == 0 and i >= len(x.shape) for i, d in enumerate(target)):
            raise Refusal(f"shape {list(target)} copies a missing dimension", broken=True)
        target = tuple(x.shape[i] if d == 0 else d for i, d in enumerate(target))
    if target.count(-1) > 1 or any(d < -1 for d in target):
        raise Refusal(f"shape {list(target)} is not valid", broken=True)
    known = math.prod(d for d in target if d != -1)
    if -1 in target and known > 0:
        target = tuple(x.elements // known if d == -1 else d for d in target)
    return _reshaped(node, target)


def flatten(node: NodeReader) -> Imported:
    """Flatten to a matrix: the axis is one of the input's, or their number."""
    x = node.value(0)
    stated, rank = int(node.attribute("axis", 1)), len(x.shape)
    axis = rank if stated == rank else resolved_axis(stated, rank)
    return _reshaped(node, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def squeeze(node: NodeReader) -> Imported:
    """Squeeze: axes by attribute before opset 13, by input since."""
    x = node.value(0)
    axes = node.attribute("axes", kind=list) if node.opset < 13 else node.integers(1, "axes")
    if axes is None:
        return _reshaped(node, tuple(d for d in x.shape if d != 1))
    dropped = {resolved_axis(axis, len(x.shape)) for axis in axes}
    if any(x.shape[axis] != 1 for axis in dropped):
        raise Refusal(f"axes={sorted(dropped)} of {list(x.shape)} are not all 1", broken=True)
    return _reshaped(node, tuple(d for i, d in enumerate(x.shape) if i not in dropped))


def unsqueeze(node: NodeReader) -> Imported:
    """Unsqueeze: axes by attribute before opset 13, by input since."""
    x = node.value(0)
    axes = node.attribute("axes", kind=list) if node.opset < 13 else node.integers(1, "axes")
    if axes is None:
        raise Refusal("has no axes", broken=True)
    rank = len(x.shape) + len(axes)
    places = {resolved_axis(axis, rank) for axis in axes}
    rest = iter(x.shape)
    if len(places) != len(axes):
        raise Refusal(f"axes={list(axes)} repeat", broken=True)
    return _reshaped(node, tuple(1 if i in places else next(rest) for i in range(rank)))


def transpose(node: NodeReader) -> Imported:
    """Transpose."""
    x = node.value(0)
    permutation = tuple(int(p) for p in node.attribute("perm", list(reversed(range(len(x.shape))))))
    if sorted(permutation) != list(range(len(x.shape))):
        raise Refusal(f"perm={list(permutation)} does not fit {list(x.shape)}", broken=True)
    op = ir_float.Transpose(
        inputs=(x.name,), outputs=(node.output,), origins=(node.origin,), permutation=permutation
    )
    shape = tuple(x.shape[p] for p in permutation)
    return op, Value(name=node.output, shape=shape, dtype=x.dtype)


def cast(node: NodeReader) -> Imported:
    """Cast between number types."""
    x = node.value(0)
    target = int(node.attribute("to", 0))
    node.attribute("saturate")  # speaks of float8 only, which is refused here
    dtype = _dtype_name(target)
    if dtype not in ("float32", "int8", "uint8", "int32", "int64"):
        raise Refusal(f"to={dtype} is not supported", help="cast to float32, int8 or uint8")
    op = ir_float.Cast(
        inputs=(x.name,), outputs=(node.output,), origins=(node.origin,), dtype=dtype
    )
    return op, Value(name=node.output, shape=x.shape, dtype=dtype)


def quantize_linear(node: NodeReader) -> Imported:
    """QuantizeLinear to int8 or uint8, per tensor or per axis."""
    x = node.value(0)
    node.attribute("saturate")  # speaks of float8 only, which is refused below
    node.expect("precision", 0)
    scale, zero_point, axis = _quantization(node, x)
    stated = _dtype_name(int(node.attribute("output_dtype", 0)) or onnx.TensorProto.UINT8)
    given = node.constant(2, "zero point")
    dtype = stated if given is None else given.dtype.name
    if dtype not in ("int8", "uint8"):
        raise Refusal(f"makes {dtype} codes", help="quantize activations to int8 or uint8")
    if x.dtype != "float32":
        raise Refusal(f"input '{x.name}' has type {x.dtype}", help="only float32 is supported")
    op = ir_float.QuantizeLinear(
        inputs=(x.name,),
        outputs=(node.output,),
        origins=(node.origin,),
        scale=scale,
        zero_point=zero_point,
        axis=axis,
        dtype=dtype,
        states_zero_point=given is not None,
    )
    return op, Value(name=node.output, shape=x.shape, dtype=dtype)


def dequantize_linear(node: NodeReader) -> Imported:
    """DequantizeLinear of int8, uint8 or int32 codes, per tensor or per axis."""
    x = node.value(0)
    node.expect("output_dtype", 0)
    scale, zero_point, axis = _quantization(node, x)
    given = node.constant(2, "zero point")
    if x.dtype not in ("int8", "uint8", "int32"):
        raise Refusal(f"input '{x.name}' has type {x.dtype}", help="only int8, uint8 and int32")
    if given is not None and given.dtype.name != x.dtype:
        raise Refusal(f"zero point is {given.dtype.name}, input is {x.dtype}", broken=True)
    if x.dtype == "int32" and np.any(zero_point != 0):
        raise Refusal("int32 codes have a zero point that is not 0", broken=True)
    op = ir_float.DequantizeLinear(
        inputs=(x.name,),
        outputs=(node.output,),
        origins=(node.origin,),
        scale=scale,
        zero_point=zero_point,
        axis=axis,
        states_zero_point=given is not None,
    )
    return op, Value(name=node.output, shape=x.shape, dtype="float32")


def _quantization(node: NodeReader, x: Value) -> ScaleAndZero:
    node.expect("block_size", 0, help="use one scale a tensor or a channel")
    return read_parameters(node, x, (1, 2))


def _dtype_name(code: int) -> str:
    try:
        return str(helper.tensor_dtype_to_np_dtype(code).name)
    except (KeyError, ValueError):
        raise Refusal(f"type {code} is unknown", broken=True) from None


def constant(node: NodeReader) -> Imported:
    """A Constant node that holds numbers."""
    data = _constant_data(node)
    op = ir_float.Constant(inputs=(), outputs=(node.output,), data=data)
    return op, Value(name=node.output, shape=tuple(data.shape), dtype=data.dtype.name)


def shape(node: NodeReader) -> Imported:
    """Shape: dimensions from `start` to `end`, which are known: inputs run one by one."""
    dims = node.value(0).shape
    start = int(node.attribute("start", 0)) if node.opset >= 15 else 0
    end = int(node.attribute("end", len(dims))) if node.opset >= 15 else len(dims)
    data = np.asarray(dims[slice(start, end)], dtype=np.int64)
    op = ir_float.Constant(inputs=(), outputs=(node.output,), data=data)
    return op, Value(name=node.output, shape=tuple(data.shape), dtype="int64")


def _constant_data(node: NodeReader) -> npt.NDArray[Any]:
    tensor = node.tensor("value")
    if tensor is not None:
        return tensor
    for name, dtype, kind in (
        ("value_float", np.float32, float),
        ("value_floats", np.float32, list),
        ("value_int", np.int64, int),
        ("value_ints", np.int64, list),
    ):
        value = node.attribute(name, kind=kind, of=float if dtype is np.float32 else int)
        if value is not None:
            return np.asarray(value, dtype=dtype)
    raise Refusal("holds no number or tensor", help="only numeric constants are supported")


def _shape(read: Importer, remark: str = "", **attributes: str) -> Operator:
    return Operator(
        read=read,
        runs=("accelerator", "folded", "host"),
        types=REAL_OR_CODES,
        attributes=attributes,
        remark=remark,
    )


CHANNELS_MOVE = "to other channels between layers: [moves](#moves)"

QUANTIZE_LINEAR = Operator(
    read=quantize_linear,
    runs=("folded", "host"),
    attributes={
        "axis": "",
        "block_size": "0",
        "output_dtype": "int8, uint8",
        "precision": "0",
        "saturate": "",
    },
    remark="to int8 or uint8; activations with one scale and any zero point; a table where codes "
    "become others",
)
DEQUANTIZE_LINEAR = Operator(
    read=dequantize_linear,
    runs=("folded", "host"),
    types=(*CODES, "int32"),
    attributes={"axis": "", "block_size": "0", "output_dtype": "0"},
    remark="as QuantizeLinear; a scale for each channel of a weight; int32 only for biases",
)

OPERATORS: dict[str, Operator] = {
    "Cast": Operator(
        read=cast,
        runs=("folded", "host"),
        types=REAL_OR_CODES,
        attributes={"saturate": "", "to": "float32, int8, uint8, int32, int64"},
        remark="between layers only behind ConvInteger and MatMulInteger, and to the same type",
    ),
    "Constant": Operator(
        read=constant,
        runs=("folded",),
        types=(),
        attributes=dict.fromkeys(
            ("value", "value_float", "value_floats", "value_int", "value_ints"), ""
        ),
    ),
    "DequantizeLinear": DEQUANTIZE_LINEAR,
    "Flatten": _shape(flatten, CHANNELS_MOVE, axis=""),
    "Dropout": replace(
        _shape(dropout, "outside training, without the mask", ratio="", seed=""),
        runs=("folded", "host"),
        types=REAL,
    ),
    "Identity": replace(_shape(identity), runs=("folded", "host")),
    "QuantizeLinear": QUANTIZE_LINEAR,
    "Reshape": _shape(reshape, f"a constant shape; {CHANNELS_MOVE}", allowzero=""),
    "Shape": Operator(
        read=shape,
        runs=("folded",),
        types=REAL_OR_CODES,
        attributes={"end": "since opset 15", "start": "since opset 15"},
        remark="what is computed of a shape is a constant",
    ),
    "Squeeze": _shape(squeeze, f"constant axes; {CHANNELS_MOVE}", axes="before opset 13"),
    "Transpose": Operator(
        read=transpose,
        runs=("accelerator", "host"),
        types=REAL_OR_CODES,
        attributes={"perm": ""},
        remark="[moves](#moves)",
    ),
    "Unsqueeze": replace(
        _shape(unsqueeze, f"constant axes; {CHANNELS_MOVE}", axes="before opset 13"),
        runs=("folded", "host"),
    ),
}
