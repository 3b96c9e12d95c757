"""The operations that the host computes, written as `qcompile.runtime.host_ops` reads them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qcompile.compiler import ir_float, ir_quantized
from qcompile.compiler.ir import Graph, Lookup, Op, Quantization, Reshape, Select, Value
from qcompile.compiler.passes.matmul_to_conv import ONNX_SHAPE

HostOp = dict[str, object]
Attributes = dict[str, object]


def offset(source: str, result: str, amount: int, dtype: str) -> HostOp:
    """Codes moved by 128 where the accelerator's part begins or ends."""
    return _host("Offset", (source,), result, {"offset": amount, "dtype": dtype})


def host_operation(graph: Graph, op: Op) -> HostOp:
    """One operation of the quantized level, with its attributes as JSON values."""
    name, attributes = OPERATIONS[type(op)]
    x, y = graph.values[op.inputs[0]], graph.values[op.name]
    return _host(name, op.inputs, y.name, attributes(op, x, y))


def _host(operator: str, sources: tuple[str, ...], result: str, attributes: Attributes) -> HostOp:
    """A layer's result in its ONNX shape bears the layer's own name."""
    return {
        "op": operator,
        "inputs": [name.removesuffix(ONNX_SHAPE) for name in sources],
        "outputs": [result.removesuffix(ONNX_SHAPE)],
        "attributes": attributes,
    }


def _quantization(value: Value) -> Quantization:
    assert value.quantization is not None, f"fold_qdq gives '{value.name}' its scale"
    return value.quantization


def _arg_max(op: ir_float.ArgMax, x: Value, y: Value) -> Attributes:
    return {
        "axis": op.axis,
        "keepdims": op.keepdims,
        "select_last_index": op.select_last_index,
    }


def _quantize(op: ir_quantized.Quantize, x: Value, y: Value) -> Attributes:
    q = _quantization(y)
    return {"scale": q.scale, "zero_point": q.zero_point, "dtype": y.dtype}


def _dequantize(op: ir_quantized.Dequantize, x: Value, y: Value) -> Attributes:
    q = _quantization(x)
    return {"scale": q.scale, "zero_point": q.zero_point}


def _lookup(op: Lookup, x: Value, y: Value) -> Attributes:
    table = [int(code) + (128 if y.dtype == "uint8" else 0) for code in op.table]
    return {"table": table, "dtype": y.dtype}


def _softmax(op: ir_quantized.QuantizedSoftmax, x: Value, y: Value) -> Attributes:
    q = _quantization(y)
    return {
        "axis": op.axis,
        "x_scale": _quantization(x).scale,
        "y_scale": q.scale,
        "y_zero_point": q.zero_point,
        "dtype": y.dtype,
    }


def _select(op: Select | ir_float.Select, x: Value, y: Value) -> Attributes:
    moved = 128 if isinstance(op, Select) and y.dtype == "uint8" else 0
    index = op.index.reshape(-1).tolist()
    return {"index": index, "shape": list(y.shape), "fill": op.fill + moved}


def _transpose(op: ir_float.Transpose, x: Value, y: Value) -> Attributes:
    """The first axis has length 1 before and after; it is the batch and stays where it is.

    Where the permutation moves it, another axis of length 1 takes its place.
    """
    first = op.permutation[0]
    rest = (first if axis == 0 else axis for axis in op.permutation[1:])
    return {"permutation": [0, *rest]}


OPERATIONS: dict[type[Op], tuple[str, Callable[[Any, Value, Value], Attributes]]] = {
    Lookup: ("Lookup", _lookup),
    Reshape: ("Reshape", lambda op, x, y: {"shape": list(op.shape)}),
    Select: ("Select", _select),
    ir_float.ArgMax: ("ArgMax", _arg_max),
    ir_float.Cast: ("Cast", lambda op, x, y: {"dtype": op.dtype}),
    ir_float.Clip: ("Clip", lambda op, x, y: {"low": op.low, "high": op.high}),
    ir_float.Select: ("Select", _select),
    ir_float.Softmax: ("Softmax", lambda op, x, y: {"axis": op.axis}),
    ir_float.Transpose: ("Transpose", _transpose),
    ir_quantized.Dequantize: ("DequantizeLinear", _dequantize),
    ir_quantized.Quantize: ("QuantizeLinear", _quantize),
    ir_quantized.QuantizedSoftmax: ("QLinearSoftmax", _softmax),
}
"""Name of the host's operation, and what gives its attributes."""
