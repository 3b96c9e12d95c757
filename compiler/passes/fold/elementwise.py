"""Folds functions of one value, and sums of two tensors."""

from __future__ import annotations

from qcompile.compiler import ir_float, ir_quantized
from qcompile.compiler.golden.float_rules import lookup_table
from qcompile.compiler.golden.unary import unary_function
from qcompile.compiler.ir import Lookup, Op, Origin, Value
from qcompile.compiler.passes.fold.folder import Folder
from qcompile.compiler.passes.fold.groups import NotFoldable, Pending, quantization_of
from qcompile.compiler.passes.fold.multiply import add_bias, takes_bias


def fold_unary(folder: Folder, op: ir_float.Clip | ir_float.Unary) -> None:
    """A function of one value joins the group before it, or begins one on codes."""
    source = op.inputs[0]
    if source in folder.codes:
        code = folder.values[folder.codes[source]]
        base = Pending(op=None, inputs=(code,), finish=finish_lookup)
        folder.pending[op.name] = base.followed_by(op)
    elif source in folder.pending:
        folder.pending[op.name] = folder.pending[source].followed_by(op)
    else:
        folder.keep(op)


def finish_lookup(pending: Pending, output: Value, origins: tuple[Origin, ...]) -> Op:
    """A chain of functions of one value is a table of 256 codes."""
    x = pending.inputs[0]
    table = lookup_table(
        tuple(unary_function(function) for function in pending.after),
        quantization_of(x),
        quantization_of(output),
        dtype=x.dtype,
        output_dtype=output.dtype,
    )
    return Lookup(inputs=(x.name,), outputs=(output.name,), origins=origins, table=table)


def fold_add(folder: Folder, op: ir_float.FloatAdd) -> None:
    """A sum of two tensors of codes, or a layer's bias."""
    first, second = op.inputs
    if first in folder.weights or first in folder.constants:
        first, second = second, first
    if second not in folder.weights and second not in folder.constants:
        folder.wait(op, first, second, finish=_add)
    elif takes_bias(folder, first):
        add_bias(folder, op, first, second)
    else:
        raise NotFoldable(
            "adds a constant to something that is no Conv, MatMul or Gemm without bias",
            "fold the constant into the bias of the layer before",
        )


def _add(pending: Pending, output: Value, origins: tuple[Origin, ...]) -> Op:
    a, b = pending.inputs
    if a.shape != b.shape:
        raise NotFoldable(
            f"adds shapes {list(a.shape)} and {list(b.shape)}", "add tensors of one shape"
        )
    if not a.dtype == b.dtype == output.dtype:
        raise NotFoldable(
            f"mixes {a.dtype}, {b.dtype} and {output.dtype}",
            "quantize both operands and the result to one type",
        )
    low, high = pending.clamp(output)
    return ir_quantized.QuantizedAdd(
        inputs=(a.name, b.name), outputs=(output.name,), origins=origins, low=low, high=high
    )
