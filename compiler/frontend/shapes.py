"""Shapes from ONNX's own inference: used behind refused nodes, to go on and find more problems."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import helper, shape_inference

from qcompile.compiler.ir import Value


def inferred_values(proto: onnx.ModelProto, inputs: tuple[Value, ...]) -> Mapping[str, Value]:
    """Values with fully known shapes, by name; empty where inference fails."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    resolved = {value.name: value.shape for value in inputs}
    for info in copy.graph.input:
        for dim, size in zip(
            info.type.tensor_type.shape.dim, resolved.get(info.name, ()), strict=False
        ):
            dim.dim_value = size
    try:
        inferred = shape_inference.infer_shapes(copy).graph
    except (shape_inference.InferenceError, ValueError, RuntimeError):
        return {}
    values = {}
    for info in (*inferred.value_info, *inferred.output):
        dims = info.type.tensor_type.shape.dim
        shape = tuple(dim.dim_value for dim in dims)
        dtype = _dtype_name(info.type.tensor_type.elem_type)
        if dtype is not None and shape and all(d > 0 for d in shape):
            values[info.name] = Value(name=info.name, shape=shape, dtype=dtype)
    return values


def _dtype_name(code: int) -> str | None:
    """numpy's name of an ONNX type; None where there is no such type."""
    try:
        return str(helper.tensor_dtype_to_np_dtype(code).name)
    except (KeyError, ValueError):
        return None
