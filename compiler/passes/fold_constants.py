"""fold_constants: what is made of constants alone is a constant, computed by golden."""

from __future__ import annotations

from dataclasses import replace

from qcompile.compiler import ir
from qcompile.compiler.golden.interpreter import run_op
from qcompile.compiler.passes.tidy import without_dead_ops


def fold_constants(graph: ir.Graph) -> ir.Graph:
    """The graph without operations all of whose operands are constant, but for its outputs."""
    known: dict[str, ir.Int8Array] = {}
    ops: list[ir.Op] = []
    for op in graph.ops:
        if isinstance(op, ir.Constant):
            known[op.name] = op.data
        elif op.name not in graph.outputs and all(name in known for name in op.inputs):
            data = run_op(op, [known[name] for name in op.inputs])
            known[op.name] = data = data.reshape(graph.values[op.name].shape)
            op = ir.Constant(inputs=(), outputs=op.outputs, origins=op.origins, data=data)
        ops.append(op)
    if all(a is b for a, b in zip(ops, graph.ops, strict=True)):
        return graph
    return without_dead_ops(replace(graph, ops=tuple(ops)))
