"""Padding in front of a layer becomes the layer's own pads: the padded image needs no memory.

Convolutions and means pad with the zero point, a maximum with what never wins: the lowest code.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompile.compiler.ir import Graph, MaxPool, Op, Select, Value
from qcompile.compiler.ir_quantized import QuantizedAveragePool, QuantizedConv
from qcompile.compiler.passes.tidy import without_dead_ops

Pads = tuple[int, int, int, int]


def merge_pads(graph: Graph) -> Graph:
    """The graph with as many pads in its layers as they take: less than a kernel on each side."""
    selections = {op.name: op for op in graph.ops if isinstance(op, Select)}
    ops = tuple(_merged(graph, op, selections) for op in graph.ops)
    return without_dead_ops(replace(graph, ops=ops))


def _merged(graph: Graph, op: Op, selections: dict[str, Select]) -> Op:
    selection = selections.get(op.inputs[0]) if op.inputs else None
    if selection is None:
        return op
    source = selection.inputs[0]
    fill = _zero_point(graph.values[source])
    match op:
        case QuantizedConv():
            spans = [
                d * (k - 1) + 1 for d, k in zip(op.dilations, op.weight.shape[2:], strict=True)
            ]
        case QuantizedAveragePool(whole_image=False):
            spans = list(op.kernel)
        case MaxPool(dilations=(1, 1)):  # others may have windows that see pads alone
            spans, fill = list(op.kernel), -128
        case _:
            return op
    pads = _pads(graph, selection)
    if pads is None or selection.fill != fill:
        return op
    top, left, bottom, right = (a + b for a, b in zip(op.pads, pads, strict=True))
    if max(top, bottom) >= spans[0] or max(left, right) >= spans[1]:
        return op
    return replace(op, inputs=(source, *op.inputs[1:]), pads=(top, left, bottom, right))


def _pads(graph: Graph, op: Select) -> Pads | None:
    """Rows and columns filled around an image; None where a selection does another thing."""
    x, y = graph.values[op.inputs[0]], graph.values[op.name]
    if len(op.inputs) > 1 or len(x.shape) != 4 or len(y.shape) != 4:
        return None
    inside = op.index >= 0
    top = int(np.argmax(inside.any(axis=(0, 1, 3))))
    left = int(np.argmax(inside.any(axis=(0, 1, 2))))
    pads = (top, left, y.shape[2] - x.shape[2] - top, y.shape[3] - x.shape[3] - left)
    if x.shape[:2] != y.shape[:2] or min(pads) < 0:
        return None
    around = ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3]))
    order = np.arange(x.elements).reshape(x.shape)
    same = np.array_equal(np.pad(order, around, constant_values=-1), op.index)
    return pads if same else None


def _zero_point(value: Value) -> int | None:
    """Of the int8 codes."""
    if value.quantization is None:
        return None
    return value.quantization.zero_point - (128 if value.dtype == "uint8" else 0)
