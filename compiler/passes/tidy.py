"""Helpers that several passes share: they keep a graph free of what nobody uses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompile.compiler import ir_float
from qcompile.compiler.ir import Graph, Op, Origin, Reshape, Select
from qcompile.compiler.ir_float import Transpose


def without_dead_ops(graph: Graph) -> Graph:
    """The graph without operations and values that no output depends on."""
    needed = set(graph.outputs)
    kept: list[Op] = []
    for op in reversed(graph.ops):
        if needed.intersection(op.outputs):
            kept.append(op)
            needed.update(op.inputs)
    names = needed.union(graph.inputs)
    return replace(
        graph,
        ops=tuple(reversed(kept)),
        values={name: value for name, value in graph.values.items() if name in names},
    )


def without_idle_moves(graph: Graph) -> Graph:
    """Chains of Reshape become one, and those that change nothing disappear.

    A Transpose that only moves axes of length 1 is a Reshape, and so is a Select that keeps the
    order. Graph outputs keep their names, and a chain the origins of its first move that has some.
    """
    first: dict[str, tuple[Origin, ...]] = {}
    base: dict[str, str] = {}  # result of a Reshape chain to the value at its start
    alias: dict[str, str] = {}
    ops: list[Op] = []
    for old in graph.ops:
        op = replace(old, inputs=tuple(alias.get(name, name) for name in old.inputs))
        shape = graph.values[op.name].shape
        if not _is_reshape(graph, op):
            ops.append(op)
            continue
        source = base.get(op.inputs[0], op.inputs[0])
        base[op.name] = source
        origins = first[op.name] = first.get(op.inputs[0], ()) or op.origins
        if graph.values[source].shape == shape and op.name not in graph.outputs:
            alias[op.name] = source
            continue
        ops.append(Reshape(inputs=(source,), outputs=op.outputs, origins=origins, shape=shape))
    return without_dead_ops(replace(graph, ops=tuple(ops)))


def _is_reshape(graph: Graph, op: Op) -> bool:
    if isinstance(op, Reshape):
        return True
    if isinstance(op, Select | ir_float.Select):
        x = graph.values[op.inputs[0]]
        order = np.arange(x.elements)
        return len(op.inputs) == 1 and np.array_equal(op.index.reshape(-1), order)
    if not isinstance(op, Transpose):
        return False
    shape = graph.values[op.inputs[0]].shape
    moved = [axis for axis in op.permutation if shape[axis] != 1]
    return moved == sorted(moved)
