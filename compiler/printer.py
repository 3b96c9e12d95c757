"""Prints graphs: one line a value made, readable in a terminal and stable enough to compare."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from qcompile.compiler.ir import Graph, Op, Quantization, Requant, Value


def print_graph(graph: Graph) -> str:
    """The graph as text: inputs, one line for each operation, outputs."""
    lines = [f"graph '{graph.name}'"]
    lines += [f"  input  {_value(graph.values[name])}" for name in graph.inputs]
    for op in graph.ops:
        results = ", ".join(_value(graph.values[name]) for name in op.outputs)
        operands = ", ".join(f"'{name}'" for name in op.inputs)
        lines.append(f"  {results} = {type(op).__name__}({operands}){_details(op)}")
    lines += [f"  output '{name}'" for name in graph.outputs]
    return "\n".join(lines)


def _value(value: Value) -> str:
    shape = ",".join(str(d) for d in value.shape)
    text = f"'{value.name}' {value.dtype}[{shape}]"
    return text + _quantization(value.quantization)


def _quantization(quantization: Quantization | None) -> str:
    if quantization is None:
        return ""
    return f" scale {quantization.scale:.9g} zero {quantization.zero_point}"


def _details(op: Op) -> str:
    own = [field.name for field in fields(op) if field.name not in ("inputs", "outputs", "origins")]
    stated = {name: getattr(op, name) for name in own}
    parts = [f"{name}={_detail(value)}" for name, value in stated.items() if value is not None]
    return f" {{{', '.join(parts)}}}" if parts else ""


def _detail(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, Requant) and value.log is not None and value.limits is not None:
        return f"log limits {_array(value.limits)} of {value.log.levels} levels"
    if isinstance(value, Requant):
        kind = "inside" if value.zero_point_inside else "outside"
        return (
            f"{value.mode} mantissa {_array(value.mantissa)} shift {_array(value.shift)} "
            f"zero {value.zero_point} {kind} clamp {value.low}..{value.high}"
        )
    return str(value)


def _array(array: np.ndarray[Any, Any]) -> str:
    shape = ",".join(str(d) for d in array.shape)
    if array.size == 0:
        return f"{array.dtype}[{shape}]"
    low, high = array.min(), array.max()
    span = f"{low}" if low == high else f"{low}..{high}"
    return f"{array.dtype}[{shape}]({span})"
