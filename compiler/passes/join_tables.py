"""join_tables: a function of two values that are made of one code is a function of that code.

HardSwish and SiLU come as a product of a tensor and a table of it: behind this pass they are a
table too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.passes.tidy import without_dead_ops

CODES = np.arange(-128, 128, dtype=np.int8)


def join_tables(graph: ir.Graph) -> ir.Graph:
    """The graph without functions of two values of one origin, and what only they used."""
    origin: dict[str, tuple[str, ir.Int8Array]] = {}
    ops: list[ir.Op] = []
    for op in graph.ops:
        if isinstance(op, ir.Binary):
            op = _joined(op, origin) or op
        ops.append(op)
        if isinstance(op, ir.Lookup):
            source, table = origin.get(op.inputs[0], (op.inputs[0], CODES))
            origin[op.name] = source, op.table[table.astype(np.int64) + 128]
    if not any(a is not b for a, b in zip(ops, graph.ops, strict=True)):
        return graph
    return without_dead_ops(replace(graph, ops=tuple(ops)))


def _joined(op: ir.Binary, origin: dict[str, tuple[str, ir.Int8Array]]) -> ir.Lookup | None:
    (a, of_a), (b, of_b) = (origin.get(name, (name, CODES)) for name in op.inputs)
    if a != b:
        return None
    table = op.table[of_a.astype(np.int64) + 128, of_b.astype(np.int64) + 128]
    return ir.Lookup(inputs=(a,), outputs=op.outputs, origins=op.origins, table=table)
