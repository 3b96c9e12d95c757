"""Helpers that several passes share: they keep a graph free of what nobody uses."""

from __future__ import annotations

from dataclasses import replace

from qcompile.compiler.ir import Graph, Op


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
