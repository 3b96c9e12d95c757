"""The operations that the host computes, written as `qcompile.runtime.host_ops` reads them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

from qcompile.compiler import ir_float, ir_quantized
from qcompile.compiler.ir import Graph, Lookup, Op, Quantization, Reshape, Select, Value
from qcompile.compiler.passes.batch_axis import HostOp, host_op, host_shape, one_sample_a_time
from qcompile.compiler.passes.matmul_to_conv import ONNX_SHAPE

Attributes = dict[str, object]


def offset(source: str, result: str, amount: int, dtype: str) -> HostOp:
    """Codes moved by 128 where the accelerator's part begins or ends."""
    return host_op("Offset", (source,), result, {"offset": amount, "dtype": dtype})


def host_operations(graph: Graph, op: Op) -> list[HostOp]:
    """One operation of the quantized level, with its attributes as JSON values.

    It is several where it has to leave the batch's axis alone.
    """
    operator, attributes = OPERATIONS[type(op)]
    x, y = graph.values[op.inputs[0]], graph.values[op.name]
    if isinstance(op, ir_quantized.Dequantize) and x.log is not None:
        operator, attributes = "LogDequantize", _log_dequantize
    sources = tuple(_host_name(graph, name) for name in op.inputs)
    stated = attributes(op, x, y)
    if "axis" in stated or "permutation" in stated:
        names = (sources[0], _host_name(graph, y.name))
        return one_sample_a_time(operator, names, stated, (x.shape, y.shape))
    return [host_op(operator, sources, _host_name(graph, y.name), stated)]


def _host_name(graph: Graph, name: str) -> str:
    """A layer's result in its ONNX shape bears the layer's own name."""
    layer = name.removesuffix(ONNX_SHAPE)
    return layer if layer in graph.values else name


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


def _log_quantize(op: ir_quantized.LogQuantize, x: Value, y: Value) -> Attributes:
    assert y.log is not None, "the frontend gives it its format"
    return {"thresholds": [float(t) for t in y.log.thresholds]}


def _dequantize(op: ir_quantized.Dequantize, x: Value, y: Value) -> Attributes:
    q = _quantization(x)
    return {"scale": q.scale, "zero_point": q.zero_point}


def _log_dequantize(op: Op, x: Value, y: Value) -> Attributes:
    assert x.log is not None, "its codes are logarithmic"
    return {"values": [float(value) for value in x.log.values]}


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
    return {"index": index, "shape": list(host_shape(y.shape)), "fill": op.fill + moved}


def _arithmetic(op: ir_float.Arithmetic, x: Value, y: Value) -> Attributes:
    return {
        "function": op.function,
        "constant": [float(c) for c in op.constant.reshape(-1)],
        "shape": list(op.constant.shape),
        "constant_first": op.constant_first,
    }


def _float_product(op: ir_quantized.FloatProduct, x: Value, y: Value) -> Attributes:
    """The weights as base64 of little-endian int16, because JSON lists of them are long."""
    weight = np.ascontiguousarray(op.weight.astype("<i2"))
    return {
        "weight": base64.b64encode(weight.tobytes()).decode(),
        "outputs": int(op.weight.shape[1]),
        "zero_point": _quantization(x).zero_point,
        "scale": [float(scale) for scale in op.acc_scale],
        "bias": op.bias.tolist(),
    }


def _function(op: ir_float.Unary, x: Value, y: Value) -> Attributes:
    return {"name": op.function, **dict(op.parameters)}


OPERATIONS: dict[type[Op], tuple[str, Callable[[Any, Value, Value], Attributes]]] = {
    Lookup: ("Lookup", _lookup),
    Reshape: ("Reshape", lambda op, x, y: {"shape": list(host_shape(op.shape))}),
    Select: ("Select", _select),
    ir_float.ArgMax: ("ArgMax", _arg_max),
    ir_float.Arithmetic: ("Arithmetic", _arithmetic),
    ir_float.Cast: ("Cast", lambda op, x, y: {"dtype": op.dtype}),
    ir_float.Clip: ("Clip", lambda op, x, y: {"low": op.low, "high": op.high}),
    ir_float.Select: ("Select", _select),
    ir_float.Softmax: ("Softmax", lambda op, x, y: {"axis": op.axis}),
    ir_float.Transpose: ("Transpose", lambda op, x, y: {"permutation": list(op.permutation)}),
    ir_float.Unary: ("Function", _function),
    ir_quantized.Dequantize: ("DequantizeLinear", _dequantize),
    ir_quantized.FloatProduct: ("FloatProduct", _float_product),
    ir_quantized.LogQuantize: ("LogQuantize", _log_quantize),
    ir_quantized.Quantize: ("QuantizeLinear", _quantize),
    ir_quantized.QuantizedSoftmax: ("QLinearSoftmax", _softmax),
}
"""Name of the host's operation, and what gives its attributes."""
