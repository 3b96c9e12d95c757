"""Make one selection of every chain of moves between two layers of the accelerator.

Reshape, Transpose and Select compute nothing, so any tree of them takes entries of the layers'
results that it starts from. The tree becomes one Select of these, a Reshape where the order stays,
or nothing at all. Shapes inside a chain need not keep the batch as their first axis: they vanish.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from qcompile.compiler.ir import Graph, Int32Array, Op, Origin, Reshape, Select
from qcompile.compiler.ir_float import Transpose
from qcompile.compiler.passes.tidy import without_dead_ops


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entries:
    """What a value holds: entries of other values behind one another, -1 for `fill`.

    `origins` are those of the last move that was more than a Reshape, or of the first Reshape;
    empty where there was no move.
    """

    sources: tuple[str, ...]
    index: Int32Array
    fill: int
    origins: tuple[Origin, ...] = ()

    @property
    def fills(self) -> bool:
        """Whether `fill` occurs."""
        return bool(np.any(self.index < 0))


def gather_moves(graph: Graph) -> Graph:
    """The graph with one Select, Reshape or nothing for each chain of moves."""
    moved: dict[str, _Entries] = {}
    alias: dict[str, str] = {}
    ops: list[Op] = []
    for op in graph.ops:
        if not isinstance(op, Reshape | Transpose | Select):
            ops.append(replace(op, inputs=tuple(alias.get(name, name) for name in op.inputs)))
            continue
        entries = _without_unused(graph, _entries(graph, moved, op))
        moved[op.name] = entries
        made = _operation(graph, op, entries)
        if made is None:
            alias[op.name] = entries.sources[0]
        else:
            ops.append(made)
    return without_dead_ops(replace(graph, ops=tuple(ops)))


def _entries(graph: Graph, moved: dict[str, _Entries], op: Op) -> _Entries:
    """An operation's result in terms of values that no move makes."""
    shape = graph.values[op.inputs[0]].shape
    if isinstance(op, Reshape):
        base = _of(graph, moved, op.inputs[0])
        return base if base.origins else replace(base, origins=op.origins)
    if isinstance(op, Transpose):
        base = _of(graph, moved, op.inputs[0])
        index = base.index.reshape(shape).transpose(op.permutation).reshape(-1)
        return replace(base, index=index, origins=op.origins)
    assert isinstance(op, Select)
    operands = [_of(graph, moved, name) for name in op.inputs]
    fills = {operand.fill for operand in operands if operand.fills}
    if np.any(op.index < 0):
        fills.add(op.fill)
    if len(fills) > 1:  # one Select has one fill: what its operands fill in stays theirs
        operands = [_itself(graph, name) for name in op.inputs]
        fills = {op.fill}
    joined = _joined(graph, operands)
    listed = np.append(joined.index, np.int32(-1))
    index = listed[op.index.reshape(-1)]
    return replace(joined, index=index, fill=fills.pop() if fills else 0, origins=op.origins)


def _of(graph: Graph, moved: dict[str, _Entries], name: str) -> _Entries:
    return moved[name] if name in moved else _itself(graph, name)


def _itself(graph: Graph, name: str) -> _Entries:
    index = np.arange(graph.values[name].elements, dtype=np.int32)
    return _Entries(sources=(name,), index=index, fill=0)


def _joined(graph: Graph, operands: list[_Entries]) -> _Entries:
    """Operands behind one another, over the list of all their sources."""
    sources: list[str] = []
    parts: list[Int32Array] = []
    for operand in operands:
        offset = sum(graph.values[name].elements for name in sources)
        parts.append(np.where(operand.index < 0, -1, operand.index + offset).astype(np.int32))
        sources.extend(operand.sources)
    return _Entries(sources=tuple(sources), index=np.concatenate(parts), fill=0)


def _without_unused(graph: Graph, entries: _Entries) -> _Entries:
    """The same with each source once, and only those that are read."""
    sources: list[str] = []
    starts: dict[str, int] = {}
    index = np.full_like(entries.index, -1)
    first = total = 0
    for name in entries.sources:
        size = graph.values[name].elements
        inside = (entries.index >= first) & (entries.index < first + size)
        if name not in starts and (np.any(inside) or len(entries.sources) == 1):
            starts[name] = total
            sources.append(name)
            total += size
        if np.any(inside):
            index[inside] = entries.index[inside] - first + starts[name]
        first += size
    return replace(entries, sources=tuple(sources) or entries.sources[:1], index=index)


def _operation(graph: Graph, op: Op, entries: _Entries) -> Op | None:
    """The one operation that makes the value; None where its source is the same."""
    shape = graph.values[op.name].shape
    source = graph.values[entries.sources[0]]
    same = (
        len(entries.sources) == 1
        and source.elements == math.prod(shape)
        and np.array_equal(entries.index, np.arange(source.elements))
    )
    if not same:
        return Select(
            inputs=entries.sources,
            outputs=op.outputs,
            origins=entries.origins or op.origins,
            index=entries.index.reshape(shape),
            fill=entries.fill if entries.fills else 0,
            joins_parts=isinstance(op, Select) and op.joins_parts,
        )
    if source.shape == shape and op.name not in graph.outputs:
        return None
    origins = entries.origins or op.origins
    return Reshape(inputs=(source.name,), outputs=op.outputs, origins=origins, shape=shape)
