"""Which codes a tensor can hold: fewer than its type has, behind a clamp of narrow codes."""

from __future__ import annotations

from collections.abc import Mapping

from qcompile.compiler import ir, ir_quantized
from qcompile.compiler.golden.float_rules import code_range

Range = tuple[int, int]


def code_ranges(graph: ir.Graph) -> dict[str, Range]:
    """Lowest and highest code of every value, in codes of its own type (quantized level)."""
    ranges = {name: _codes(graph.values[name]) for name in graph.inputs}
    for op in graph.ops:
        ranges[op.name] = _range(op, graph.values[op.name], ranges)
    return ranges


def _codes(value: ir.Value) -> Range:
    return code_range(value.dtype) if value.log is None else (0, value.log.levels - 1)


def _range(op: ir.Op, value: ir.Value, ranges: Mapping[str, Range]) -> Range:
    moved = 128 if value.dtype == "uint8" else 0
    inputs = [ranges[name] for name in op.inputs]
    match op:
        case ir_quantized.QuantizedConv() | ir_quantized.QuantizedAveragePool():
            return op.low, op.high
        case ir.Lookup():
            return int(op.table.min()) + moved, int(op.table.max()) + moved
        case ir.Reshape() | ir.MaxPool():
            return inputs[0]
        case ir.Select():
            fill = [op.fill + moved] if (op.index < 0).any() else []
            ends = [*(end for pair in inputs for end in pair), *fill]
            return min(ends), max(ends)
        case _:
            return _codes(value)
