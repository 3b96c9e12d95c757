"""Functions of two tensors on the array of shifts: a table of a code and a residual code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.layers import Layer
from qcompile.compiler.passes.lowering.layer import copy_layer, operator_of, shape3
from qcompile.compiler.passes.lowering.state import Lowering

RESIDUAL_CODES = 16
CODES = np.arange(256)
SIGNED = (CODES + 128) % 256
"""Rows of an `ir.Binary`'s table, which begins with code -128, in the order of bytes."""


def fuse_pairs(state: Lowering, op: ir.Binary) -> None:
    """The function joins the layer that makes its linear operand, or the last one, or a copy.

    The other operand becomes the residual, whose codes are logarithmic.
    """
    names = [state.source(name) for name in op.inputs]
    shapes = [shape3(state.graph, name) for name in (*op.inputs, *op.outputs)]
    if shapes[0] != shapes[2] or shapes[1] != shapes[2]:
        raise _refusal(op, "its operands have other shapes than the result")
    if state.graph.values[op.name].log is None:
        raise _refusal(op, "its result is linear")
    linear = [i for i, name in enumerate(op.inputs) if state.graph.values[name].log is None]
    if len(linear) > 1:
        raise _refusal(op, "both operands are linear")
    makers = [
        operand
        for operand in (linear or (0, 1))
        if (index := state.producer(names[operand])) == len(state.layers) - 1
        and index is not None
        and state.layers[index].residual is None
        and names[0] != names[1]
    ]
    if linear and not makers:
        raise _refusal(op, f"'{op.inputs[linear[0]]}' is linear and not of the layer before")
    operand = makers[0] if makers else 0
    if not makers:
        copy = copy_layer(op, state.mode, names[0], (shapes[0], shapes[0]), log=state.log)
        state.layers.append(copy)
    table = op.table if operand == 0 else op.table.T
    pairs = table[SIGNED][:, 128 : 128 + RESIDUAL_CODES].T
    layer = state.layers[-1]
    origins = layer.origins if layer.output == op.name else layer.origins + op.origins
    state.layers[-1] = replace(
        layer,
        name=op.name,
        output=op.name,
        origins=origins,
        residual=names[1 - operand],
        pairs=np.ascontiguousarray(pairs),
    )


def with_pairs(layers: Sequence[Layer]) -> list[Layer]:
    """Where one layer has a table of pairs all with a residual operand have: the larger code."""
    if all(layer.pairs is None for layer in layers):
        return list(layers)
    larger = np.maximum(CODES % RESIDUAL_CODES, np.arange(RESIDUAL_CODES)[:, np.newaxis])
    table = larger.astype(np.int8)
    lacking = [layer.residual is not None and layer.pairs is None for layer in layers]
    return [
        replace(layer, pairs=table) if lacks else layer
        for layer, lacks in zip(layers, lacking, strict=True)
    ]


def _refusal(op: ir.Binary, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"'{op.name}': {operator_of(op)} has no layer form on an array of shifts: {why}",
        help="quantize the model without --activations log",
    )
