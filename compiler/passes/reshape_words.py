"""reshape_words: a Reshape that changes channels is a Select, whose layers copy the codes.

Words hold the channels of one pixel, so only a Reshape that keeps the number of channels, and of
pixels, leaves every code where it is. Others move codes: behind this pass they are Selects.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompile.compiler import ir

RANKS = (2, 3, 4)
"""Tensors of other dimensions have no form in memory; `lower` refuses them."""


def reshape_words(graph: ir.Graph) -> ir.Graph:
    """The graph without a Reshape that moves codes in memory."""
    ops = tuple(_moving(graph, op) for op in graph.ops)
    if all(a is b for a, b in zip(ops, graph.ops, strict=True)):
        return graph
    return replace(graph, ops=ops)


def _moving(graph: ir.Graph, op: ir.Op) -> ir.Op:
    """The operation; a Select where it is a Reshape to another number of channels."""
    if not isinstance(op, ir.Reshape):
        return op
    before = graph.values[op.inputs[0]].shape
    if {len(before), len(op.shape)}.difference(RANKS) or before[1] == op.shape[1]:
        return op
    index = np.arange(graph.values[op.name].elements, dtype=np.int32).reshape(op.shape)
    return ir.Select(inputs=op.inputs, outputs=op.outputs, origins=op.origins, index=index)
