"""Folds what moves values and computes nothing: it acts on codes, or on a constant's codes."""

from __future__ import annotations

from dataclasses import replace

from qcompile.compiler import ir_float
from qcompile.compiler.ir import Reshape
from qcompile.compiler.passes.fold.folder import Folder
from qcompile.compiler.passes.fold.groups import Move, NotFoldable, Weight


def fold_move(folder: Folder, op: Move) -> None:
    """Reshape and Transpose."""
    source = op.inputs[0]
    if source in folder.weights:
        folder.weights[op.name] = moved_weight(folder.weights[source], op)
    elif source in folder.codes:
        folder.move_codes(op)
    elif source in folder.pending:
        folder.refuse_float_result(source)
    else:
        folder.keep(op)


def moved_weight(weight: Weight, op: Reshape | ir_float.Transpose) -> Weight:
    """A constant in another shape or order of axes, with its scales along the same axis."""
    if isinstance(op, ir_float.Transpose):
        axis = op.permutation.index(weight.axis) if weight.scale.ndim else 0
        return replace(weight, codes=weight.codes.transpose(op.permutation), axis=axis)
    if weight.scale.ndim and op.shape != weight.codes.shape:
        raise NotFoldable("reshapes a constant with several scales", "store it in its final shape")
    return replace(weight, codes=weight.codes.reshape(op.shape))
