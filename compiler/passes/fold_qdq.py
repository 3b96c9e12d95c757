"""Turn groups of DequantizeLinear, float operators and QuantizeLinear into quantized operators.

A float value is one of four things: *codes* seen through a DequantizeLinear, a dequantized
constant (`Weight`), a computation that waits for its QuantizeLinear (`Pending`), or a real float32
tensor at the model's edges. Moves (Reshape, Transpose) act on the codes. A QuantizeLinear with the
parameters of the codes that it is given disappears. Relu and Clip become bounds of the codes, and
a chain of functions of one value becomes a table.

Float tensors remain only where the host computes: inputs before the first QuantizeLinear, outputs
behind the last DequantizeLinear, a Softmax that is not quantized. A float computation anywhere
else is a problem of the model, reported with the node that makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from qcompile.compiler import ir_float
from qcompile.compiler.diagnostics import Problems
from qcompile.compiler.ir import Graph, MaxPool, Op, Reshape
from qcompile.compiler.passes.fold.code_clips import clips_before_quantize
from qcompile.compiler.passes.fold.elementwise import fold_elementwise, fold_unary
from qcompile.compiler.passes.fold.folder import (
    NOT_QUANTIZED,
    Folder,
    name_moved_codes,
    spread_quantization,
)
from qcompile.compiler.passes.fold.groups import NotFoldable
from qcompile.compiler.passes.fold.moves import fold_arg_max, fold_concat, fold_move
from qcompile.compiler.passes.fold.multiply import fold_cast, fold_multiply, fold_whole
from qcompile.compiler.passes.fold.pools import fold_average_pool
from qcompile.compiler.passes.fold.quantization import (
    fold_dequantize,
    fold_log_quantize,
    fold_quantize,
    fold_softmax,
)
from qcompile.compiler.passes.fold.transposed import fold_transposed
from qcompile.compiler.passes.tidy import without_dead_ops

FOLDS: dict[type[Op], Callable[[Folder, Any], None]] = {
    MaxPool: fold_move,
    ir_float.ArgMax: fold_arg_max,
    ir_float.Cast: fold_cast,
    ir_float.Clip: fold_unary,
    ir_float.Concat: fold_concat,
    ir_float.DequantizeLinear: fold_dequantize,
    ir_float.FloatAdd: fold_elementwise,
    ir_float.FloatDiv: fold_elementwise,
    ir_float.FloatMul: fold_elementwise,
    ir_float.FloatSub: fold_elementwise,
    ir_float.Prelu: fold_elementwise,
    ir_float.FloatAveragePool: fold_average_pool,
    ir_float.FloatConv: fold_multiply,
    ir_float.FloatConvTranspose: fold_transposed,
    ir_float.FloatMatMul: fold_multiply,
    ir_float.LogQuantize: fold_log_quantize,
    ir_float.QuantizeLinear: fold_quantize,
    ir_float.Select: fold_move,
    ir_float.Softmax: fold_softmax,
    ir_float.Transpose: fold_move,
    ir_float.Unary: fold_unary,
    ir_float.Whole: fold_whole,
    Reshape: fold_move,
}
"""What folds each operation of the float level; a Constant is remembered."""


def fold_qdq(graph: Graph, problems: Problems) -> Graph:
    """The quantized level of a float-level graph; problems are added, not raised."""
    folder = Folder(clips_before_quantize(graph), problems)
    for op in folder.graph.ops:
        _visit(folder, op)
    return _result(folder)


def _visit(folder: Folder, op: Op) -> None:
    """Fold one operation; an operand of a refused one is skipped without another message."""
    if isinstance(op, ir_float.Constant):
        folder.constants[op.name] = op.data
        return
    try:
        if type(op) not in FOLDS:
            raise NotFoldable("is not known", NOT_QUANTIZED)
        FOLDS[type(op)](folder, op)
    except NotFoldable as refusal:
        folder.report(op, refusal)


def _result(folder: Folder) -> Graph:
    """The new graph, without operations that no output needs."""
    name_moved_codes(folder)
    for name in folder.graph.outputs:
        _make_output(folder, name)
    spread_quantization(folder)
    outputs = tuple(name for name in folder.graph.outputs if name in folder.values)
    graph = Graph(
        name=folder.graph.name,
        inputs=folder.graph.inputs,
        outputs=outputs,
        values=folder.values,
        ops=tuple(folder.ops),
    )
    return without_dead_ops(graph)


def _make_output(folder: Folder, name: str) -> None:
    if name in folder.values:
        return
    if name in folder.alias:  # the same codes under the output's name
        code = folder.values[folder.alias[name]]
        folder.values[name] = replace(code, name=name)
        folder.ops.append(Reshape(inputs=(code.name,), outputs=(name,), shape=code.shape))
        return
    try:
        folder.real(name)
    except NotFoldable as refusal:
        folder.problems.unsupported(f"output '{name}': {refusal.message}", help=refusal.help)
    if name not in folder.values and not folder.problems.any:
        folder.problems.unsupported(
            f"output '{name}' is a constant", help="remove it from the model's outputs"
        )
