"""sink_moves: rearrangements move behind what treats every element alike, until they cancel.

Exporters put normalizations between a Transpose to channels-last and one back. A Select that only
rearranges codes may stand behind a Lookup or a Binary with a constant as well as in front of it,
with the constant rearranged; behind a fully connected layer that reads the whole tensor it is an
order of weights. Two Selects behind one another are one, and one that changes nothing disappears.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.names import fresh_name
from qcompile.compiler.passes.tidy import without_dead_ops

SUNK = ":sunk"
"""Suffix of a result in the order of the tensor before the rearrangement."""


def sink_moves(graph: ir.Graph) -> ir.Graph:
    """The graph with its rearrangements as late as they can be, and without idle ones."""
    if not any(isinstance(op, ir.Select) for op in graph.ops):
        return graph
    return without_dead_ops(_Sinker(graph).result())


class _Sinker:
    """One walk; `moved` holds values that are a rearrangement of another one: its name, index."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.values = dict(graph.values)
        self.uses = Counter([*graph.outputs, *(name for op in graph.ops for name in op.inputs)])
        self.constants = {op.name: op.data for op in graph.ops if isinstance(op, ir.Constant)}
        self.moved: dict[str, tuple[str, ir.Int32Array]] = {}
        self.ops: list[ir.Op] = []

    def result(self) -> ir.Graph:
        """Every operation, rewritten where its operand was rearranged."""
        for op in self.graph.ops:
            if not self._absorb(op):
                self.ops.append(op)
                self._note(op)
        return replace(self.graph, values=self.values, ops=tuple(self.ops))

    def _note(self, op: ir.Op) -> None:
        """Remember a Select that rearranges; one of a rearranged tensor reads that tensor."""
        if not isinstance(op, ir.Select) or len(op.inputs) != 1:
            return
        source, index = op.inputs[0], op.index
        if source in self.moved and index.min() >= 0:
            source, inner = self.moved[source]
            index = inner.reshape(-1)[index]
            self.ops[-1] = op = replace(op, inputs=(source,), index=index)
        if index.size == self.values[source].elements == np.unique(index[index >= 0]).size:
            self.moved[op.name] = source, index
        same = self.values[source].shape == index.shape
        if same and np.array_equal(index.reshape(-1), np.arange(index.size)):
            self.ops[-1] = ir.Reshape(
                inputs=(source,), outputs=op.outputs, origins=op.origins, shape=index.shape
            )

    def _absorb(self, op: ir.Op) -> bool:
        """Whether the operation was put in front of its operand's rearrangement."""
        moved = [name for name in op.inputs if name in self.moved and self.uses[name] == 1]
        if len(moved) != 1:
            return False
        source, index = self.moved[moved[0]]
        match op:
            case ir.Lookup():
                self._swap(op, replace(op, inputs=(source,)), index)
            case ir.Binary() if any(name in self.constants for name in op.inputs):
                self._swap_binary(op, moved[0], source, index)
            case ir.Conv() if self._reads_all(op):
                self.ops.append(self._reordered(op, source, index))
            case _:
                return False
        return True

    def _swap(self, op: ir.Op, inner: ir.Op, index: ir.Int32Array) -> None:
        """`inner` on the tensor as it was, and the rearrangement behind it."""
        shape = self.values[inner.inputs[0]].shape
        if inner.inputs[0] in self.constants:
            shape = self.values[inner.inputs[1]].shape
        name = fresh_name(op.name + SUNK, self.values)
        self.values[name] = replace(self.values[op.name], name=name, shape=shape)
        self.ops.append(replace(inner, outputs=(name,)))
        select = ir.Select(inputs=(name,), outputs=op.outputs, origins=op.origins, index=index)
        self.ops.append(select)
        self._note(select)

    def _swap_binary(self, op: ir.Binary, moved: str, source: str, index: ir.Int32Array) -> None:
        constant = next(name for name in op.inputs if name in self.constants)
        shape = self.values[source].shape
        data = np.empty(index.size, dtype=np.int8)
        data[index.reshape(-1)] = np.broadcast_to(self.constants[constant], index.shape).reshape(-1)
        data = _compact(data.reshape(shape))
        name = fresh_name(constant + SUNK, self.values)
        self.values[name] = replace(self.values[constant], name=name, shape=data.shape)
        self.constants[name] = data
        self.ops.append(ir.Constant(inputs=(), outputs=(name,), data=data))
        names = {moved: source, constant: name}
        self._swap(op, replace(op, inputs=tuple(names[i] for i in op.inputs)), index)

    def _reads_all(self, op: ir.Conv) -> bool:
        """Whether one window of the convolution covers its whole input."""
        shape = self.values[op.inputs[0]].shape
        return op.group == 1 and op.weight.shape[2:] == shape[2:] and not any(op.pads)

    def _reordered(self, op: ir.Conv, source: str, index: ir.Int32Array) -> ir.Conv:
        weight = np.empty_like(op.weight).reshape(op.weight.shape[0], -1)
        weight[:, index.reshape(-1)] = op.weight.reshape(op.weight.shape[0], -1)
        shape = self.values[source].shape[1:]
        return replace(op, inputs=(source,), weight=weight.reshape(-1, *shape))


def _compact(data: ir.Int8Array) -> ir.Int8Array:
    """Axes along which nothing changes are 1 long."""
    for axis in range(data.ndim):
        first = data.take([0], axis=axis)
        if np.array_equal(np.broadcast_to(first, data.shape), data):
            data = first
    return data
