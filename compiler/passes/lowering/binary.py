"""Functions of two operands that are not two tensors of one shape.

A constant that is one code makes the function a table; one that is a code for each channel makes
it a depthwise layer of one tap, where whole numbers exist with which that has the same code for all
256 inputs of every channel. An operand that broadcasts is enlarged by copies first.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.passes.lowering.affine import affine
from qcompile.compiler.passes.lowering.fuse import fuse_add, fuse_lookup
from qcompile.compiler.passes.lowering.layer import operator_of, shape3
from qcompile.compiler.passes.lowering.select import select
from qcompile.compiler.passes.lowering.state import Lowering


def binary(state: Lowering, op: ir.Binary) -> None:
    """The layers of a Binary. UnsupportedError where it has no exact form."""
    constants = {c.name: c.data for c in state.graph.ops if isinstance(c, ir.Constant)}
    known = [name in constants for name in op.inputs]
    if all(known):
        raise UnsupportedError(f"'{op.name}': both operands of this {operator_of(op)} are constant")
    if any(known):
        _with_constant(state, op, known.index(True), constants[op.inputs[known.index(True)]])
        return
    shape = state.graph.values[op.name].shape
    sources = [
        state.source(name)
        if state.graph.values[name].shape == shape
        else _enlarged(state, op, operand)
        for operand, name in enumerate(op.inputs)
    ]
    fuse_add(state, op, sources)


def _enlarged(state: Lowering, op: ir.Binary, operand: int) -> str:
    """A tensor of the output's shape that holds a broadcast operand."""
    name = op.inputs[operand]
    shape = state.graph.values[op.name].shape
    value = state.graph.values[name]
    numbers = np.arange(value.elements, dtype=np.int32).reshape(value.shape)
    enlarged = f"{op.name}:operand{operand}"
    move = ir.Select(
        inputs=(name,),
        outputs=(enlarged,),
        origins=op.origins,
        index=np.broadcast_to(numbers, shape),
    )
    values = {**state.graph.values, enlarged: replace(state.graph.values[op.name], name=enlarged)}
    begin = len(state.layers)
    select(replace(state, graph=replace(state.graph, values=values)), move)
    state.layers[begin:] = [replace(layer, inner=True) for layer in state.layers[begin:]]
    state.uses[enlarged] += 1
    return enlarged


def _with_constant(state: Lowering, op: ir.Binary, operand: int, data: ir.Int8Array) -> None:
    other = op.inputs[1 - operand]
    shape = shape3(state.graph, op.name)
    codes = np.broadcast_to(data, state.graph.values[op.name].shape).reshape(shape)
    context = [
        f"operand '{other}' {list(state.graph.values[other].shape)}",
        f"constant '{op.inputs[operand]}' {list(data.shape)}",
    ]
    table = op.table if operand else op.table.T
    alike = state.graph.values[other].shape == state.graph.values[op.name].shape
    if alike and bool((codes == codes[:, :1, :1]).all()):
        functions = table[:, codes[:, 0, 0].astype(np.int64) + 128].T
        if bool((functions == functions[0]).all()):
            lookup = ir.Lookup(
                inputs=(other,), outputs=op.outputs, origins=op.origins, table=functions[0]
            )
            fuse_lookup(state, lookup)
            return
        layer = affine(state, op, state.source(other), functions)
        if layer is not None:
            state.layers.append(layer)
            return
        problem = "with a constant for each channel has no exact form as one weight a channel"
    else:
        problem = "with a constant that changes between pixels has no hardware form"
    raise UnsupportedError(
        f"'{op.name}': {operator_of(op)} {problem}",
        context=context,
        help="use one constant for the tensor, or put it into the layer before",
    )
