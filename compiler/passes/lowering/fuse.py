"""Add and Lookup: they join the layer that makes their input, or become a layer that copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.add_tables import AddTables, solve_add_tables
from qcompile.compiler.passes.lowering.layer import copy_layer, shape3
from qcompile.compiler.passes.lowering.state import Lowering

Sum = tuple[AddTables, ir.Int8Array | None]
"""Proved tables for the adder, and a table that clamps where the adder's own range is wider."""


def fuse_add(state: Lowering, op: ir.Binary, source: Sequence[str], sum_: Sum) -> None:
    """The Add joins the later of its producers; the other operand becomes the residual.

    `source` are the operands' tensors, of the output's shape.
    """
    tables, clamp = sum_
    candidates = [
        (index, operand)
        for operand in (0, 1)
        if (index := state.producer(source[operand])) is not None
        and state.layers[index].residual is None
        and index == len(state.layers) - 1
    ]
    if candidates and source[0] != source[1]:
        index, operand = max(candidates)
    else:
        _copy(state, op, source[0])
        index, operand = len(state.layers) - 1, 0
    if operand == 1:
        tables = replace(tables, a=tables.b, b=tables.a)
    _join(state, index, op)
    state.layers[index] = replace(
        state.layers[index], residual=source[1 - operand], add_tables=tables, table=clamp
    )


def fuse_lookup(state: Lowering, op: ir.Lookup) -> None:
    """The table joins the layer that makes its input."""
    source = state.source(op.inputs[0])
    index = state.producer(source)
    if index is None:
        _copy(state, op, source)
        index = len(state.layers) - 1
    _join(state, index, op)
    state.layers[index] = replace(state.layers[index], table=op.table)


def _copy(state: Lowering, op: ir.Op, source: str) -> None:
    shape = shape3(state.graph, op.outputs[0])
    state.layers.append(copy_layer(op, state.mode, source, (shape, shape), log=state.log))


def _join(state: Lowering, index: int, op: ir.Op) -> None:
    layer = state.layers[index]
    origins = layer.origins if layer.output == op.outputs[0] else layer.origins + op.origins
    state.layers[index] = replace(layer, name=op.name, output=op.outputs[0], origins=origins)


def add_form(table: ir.Int8Array) -> Sum | None:
    """How the adder makes all pairs of a table; None where it cannot."""
    tables = solve_add_tables(table)
    if not tables.differing.size:
        return tables, None
    low, high = int(table.min()), int(table.max())
    tables = solve_add_tables(table, low=low, high=high)
    if tables.differing.size:
        return None
    return tables, np.clip(np.arange(-128, 128), low, high).astype(np.int8)
