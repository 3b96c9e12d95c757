"""Folds what moves values, or takes the largest: it acts on codes, or on a constant's codes.

A move of a float result joins the group that makes it: the group's QuantizeLinear acts in front of
the move, which gives the same codes in the same places. A Concat makes all its operands end in its
own QuantizeLinear.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from qcompile.compiler import ir_float
from qcompile.compiler.golden.float_rules import (
    dequantize_linear,
    quantize_linear,
)
from qcompile.compiler.golden.unary import unary_function
from qcompile.compiler.ir import Constant, Int32Array, MaxPool, Op, Origin, Reshape, Select, Value
from qcompile.compiler.passes.fold.folder import NOT_QUANTIZED, Folder
from qcompile.compiler.passes.fold.groups import (
    CodeMove,
    FloatArray,
    Move,
    NotFoldable,
    Pending,
    Weight,
    quantization_of,
)
from qcompile.compiler.passes.fold.tables import finish_table, quantized

Shape = tuple[int, ...]

UNMOVED = ":unmoved"
"""Suffix of a group's codes in front of the moves that follow it."""

CODES = ("int8", "uint8")

PART = ":part"
"""Suffix, with a number, of a Concat's operand that gets the scale of the result."""


def fold_move(folder: Folder, op: Move) -> None:
    """Reshape, Transpose, selections and MaxPool."""
    source = op.inputs[0]
    if source in folder.weights:
        folder.weights[op.name] = moved_weight(folder.weights[source], op)
    elif source in folder.codes and _keeps_codes(op, folder.values[folder.codes[source]]):
        code = folder.values[folder.codes[source]]
        folder.move_codes(code_move(op, code), [code])
    elif _is_real(folder, source) or _keeps_softmax(folder, op):
        folder.keep(_kept(folder, op))
    else:
        pending = _as_pending(folder, source)
        if pending is not None:
            moves = (*pending.moves, (op, folder.graph.values[op.name].shape))
            origins = (*pending.origins, *op.origins)
            folder.pending[op.name] = replace(pending, moves=moves, origins=origins)


def _is_real(folder: Folder, name: str) -> bool:
    """Whether a tensor exists outside groups: the model's own, or what the host computes."""
    return name not in folder.codes and folder.alias.get(name, name) in folder.values


def _keeps_softmax(folder: Folder, op: Move) -> bool:
    """Whether a move leaves the Softmax before it in float, as in ONNX Runtime."""
    pending = folder.pending.get(op.inputs[0])
    is_softmax = pending is not None and isinstance(pending.op, ir_float.Softmax)
    return is_softmax and not isinstance(op, Reshape | ir_float.Transpose)


def _as_pending(folder: Folder, name: str) -> Pending | None:
    """A float value as a group that waits; None where its maker was refused already."""
    if name in folder.codes:
        code = folder.values[folder.codes[name]]
        return Pending(op=None, inputs=(code,), finish=finish_table)
    return folder.pending.get(name)


def _keeps_codes(op: Move, codes: Value) -> bool:
    """Whether all that a move fills in is the real number of one of the codes."""
    if not isinstance(op, ir_float.Select) or np.all(op.index >= 0):
        return True
    quantization = quantization_of(codes)
    fill = np.asarray(op.fill, dtype=np.float32)
    if codes.log is not None:
        return bool(codes.log.rounded(fill) == fill)
    return bool(
        dequantize_linear(quantize_linear(fill, quantization, codes.dtype), quantization) == fill
    )


def code_move(op: Move, codes: Value) -> CodeMove:
    """The same move of codes."""
    if not isinstance(op, ir_float.Select):
        return op
    fill = np.asarray(op.fill, dtype=np.float32)
    if codes.log is not None:
        code = int(codes.log.codes(fill))
    else:
        code = int(quantize_linear(fill, quantization_of(codes), codes.dtype))
    return _select(op, code - _offset(codes.dtype) if np.any(op.index < 0) else 0)


def _kept(folder: Folder, op: Move) -> Op:
    """A move of a real tensor; one of codes without a scale fills with a code."""
    if isinstance(op, MaxPool) and folder.graph.values[op.name].dtype not in CODES:
        raise NotFoldable(f"operand '{op.inputs[0]}' is not a quantized activation", NOT_QUANTIZED)
    dtype = folder.graph.values[op.name].dtype
    if isinstance(op, ir_float.Select) and dtype in CODES:
        return _select(op, int(op.fill) - _offset(dtype) if np.any(op.index < 0) else 0)
    if isinstance(op, ir_float.Select) and not np.isfinite(op.fill):  # JSON has no such number
        raise NotFoldable(f"fills a float tensor with {op.fill}", "pad with a finite number")
    return op


def _select(op: ir_float.Select, fill: int) -> Select:
    return Select(
        inputs=op.inputs, outputs=op.outputs, origins=op.origins, index=op.index, fill=fill
    )


def _offset(dtype: str) -> int:
    return 128 if dtype == "uint8" else 0


def moved_weight(weight: Weight, op: Move) -> Weight:
    """A constant in another shape or order of axes, with its scales along the same axis."""
    if isinstance(op, ir_float.Transpose):
        axis = op.permutation.index(weight.axis) if weight.scale.ndim else 0
        return replace(weight, codes=weight.codes.transpose(op.permutation), axis=axis)
    if isinstance(op, ir_float.Select | MaxPool):
        raise NotFoldable("selects from a quantized constant", "store the result as a constant")
    axis = 0
    if weight.scale.ndim:
        axis = _kept_axis(weight.codes.shape, op.shape, weight.axis)
    return replace(weight, codes=weight.codes.reshape(op.shape), axis=axis)


def _kept_axis(before: Shape, after: Shape, axis: int) -> int:
    """Where a Reshape leaves an axis with all that is in front of it; refusal if it does not."""
    ahead = int(np.prod(before[:axis]))
    for place, size in enumerate(after):
        if size == before[axis] and int(np.prod(after[:place])) == ahead:
            return place
    raise NotFoldable("reshapes a constant with several scales", "store it in its final shape")


def fold_arg_max(folder: Folder, op: ir_float.ArgMax) -> None:
    """The largest code is the largest number."""
    source = op.inputs[0]
    if source not in folder.codes:
        if not _is_real(folder, source):
            folder.code_operand(source)
        folder.keep(op)
        return
    folder.values[op.name] = folder.graph.values[op.name]
    folder.ops.append(replace(op, inputs=(folder.codes[source],)))


# ------------------------------------------------------------------ groups with moves behind them


def finish_group(
    folder: Folder, pending: Pending, output: Value, origins: tuple[Origin, ...]
) -> None:
    """Append what a group becomes where it makes the codes `output`."""
    for made, value in group_operations(folder, pending, output, origins):
        folder.values[value.name] = value
        folder.ops.append(made)


def group_operations(
    folder: Folder, pending: Pending, output: Value, origins: tuple[Origin, ...]
) -> list[tuple[Op, Value]]:
    """What a group and the moves behind it become, with the values: the last one is `output`."""
    if not pending.moves:
        made = pending.finish(pending, output, origins)
        return made if isinstance(made, list) else [(made, output)]
    chain: list[tuple[Op, Value]] = []
    if is_output(pending, output):
        source = pending.inputs[0]
    else:
        shape = pending.inputs[0].shape
        if pending.op is not None:
            shape = folder.graph.values[pending.op.name].shape
        source = replace(output, name=output.name + UNMOVED, shape=shape)
        chain = group_operations(folder, replace(pending, moves=()), source, origins)
    for number, (move, shape) in enumerate(pending.moves, start=1):
        last = number == len(pending.moves)
        name = output.name if last else f"{output.name}{UNMOVED}{number}"
        moved = replace(output, name=name, shape=shape)
        step = replace(code_move(move, moved), inputs=(source.name,), outputs=(name,))
        chain.append((step, moved))
        source = moved
    return chain


def is_output(pending: Pending, output: Value) -> bool:
    """Whether a group is codes that have the output's parameters already, perhaps elsewhere."""
    code = pending.inputs[0]
    return (
        pending.op is None
        and not pending.after
        and code.dtype == output.dtype
        and code.quantization == output.quantization
        and code.log == output.log
    )


# ------------------------------------------------------------------ Concat


def fold_concat(folder: Folder, op: ir_float.Concat) -> None:
    """Tensors of codes, or float results, behind one another; each gets the result's scale."""
    reals = {name: _real_constant(folder, name) for name in op.inputs}
    constants = {name: real for name, real in reals.items() if real is not None}
    if len(constants) == len(set(op.inputs)):
        folder.constants[op.name] = np.concatenate(
            [constants[name] for name in op.inputs], axis=op.axis
        )
        return
    shapes = [folder.graph.values[name].shape for name in op.inputs]
    if all(_is_real(folder, name) for name in op.inputs):
        whole = ir_float.Select(
            inputs=op.inputs,
            outputs=op.outputs,
            origins=op.origins,
            index=concat_index(shapes, op.axis),
        )
        folder.keep(_kept(folder, whole))
        return
    parts = [constants.get(name, _as_pending(folder, name)) for name in op.inputs]
    known = tuple(part for part in parts if part is not None)
    if len(known) < len(parts):
        _refuse_real(folder, op)
        return
    groups = [part for part in known if isinstance(part, Pending)]
    first = groups[0].inputs[0]
    if all(name in folder.codes for name in op.inputs) and all(
        is_output(group, first) for group in groups
    ):
        index = concat_index(shapes, op.axis)
        select = Select(inputs=op.inputs, outputs=op.outputs, origins=op.origins, index=index)
        folder.move_codes(select, [group.inputs[0] for group in groups])
        return
    folder.pending[op.name] = Pending(
        op=op,
        inputs=tuple(value for group in groups for value in group.inputs),
        finish=partial(_concat, folder, known, shapes),
        origins=op.origins,
    )


def _real_constant(folder: Folder, name: str) -> FloatArray | None:
    """The real numbers of a constant operand; None where it is none."""
    if name in folder.weights:
        return folder.weights[name].real()
    constant = folder.constants.get(name)
    return constant if constant is not None and constant.dtype == np.float32 else None


def _refuse_real(folder: Folder, op: ir_float.Concat) -> None:
    """Some operand is no group: refused unless its maker was refused already."""
    for name in op.inputs:
        if _is_real(folder, name) or name in folder.constants:
            folder.code_operand(name)


def _concat(
    folder: Folder,
    parts: tuple[Pending | FloatArray, ...],
    shapes: list[Shape],
    pending: Pending,
    output: Value,
    origins: tuple[Origin, ...],
) -> list[tuple[Op, Value]]:
    """Operands with other parameters are requantized one by one, as by QLinearConcat."""
    op = pending.op
    assert isinstance(op, ir_float.Concat)
    chain: list[tuple[Op, Value]] = []
    names: list[str] = []
    for number, (part, shape) in enumerate(zip(parts, shapes, strict=True)):
        for function in pending.after:
            if isinstance(function, ir_float.Arithmetic) and function.constant.size > 1:
                raise NotFoldable(
                    f"{function.origins[0].operator} reads the float result of Concat",
                    "add QuantizeLinear and DequantizeLinear behind the Concat",
                )
            if isinstance(part, Pending):
                part = part.followed_by(function)
            else:
                part = np.asarray(unary_function(function)(part), np.float32)
        if not isinstance(part, Pending):
            value = replace(output, name=f"{output.name}{PART}{number}", shape=shape)
            data = quantized(part, output)
            constant = Constant(inputs=(), outputs=(value.name,), origins=op.origins, data=data)
            chain.append((constant, value))
            names.append(value.name)
            continue
        if is_output(part, output) and not part.moves:
            names.append(part.inputs[0].name)
            continue
        value = replace(output, name=f"{output.name}{PART}{number}", shape=shape)
        chain += group_operations(folder, part, value, part.origins or op.origins)
        names.append(value.name)
    select = Select(
        inputs=tuple(names),
        outputs=(output.name,),
        origins=origins,
        index=concat_index(shapes, op.axis),
    )
    return [*chain, (select, output)]


def concat_index(shapes: list[Shape], axis: int) -> Int32Array:
    """Index of a Select that puts tensors behind one another along an axis."""
    offset = 0
    numbered = []
    for shape in shapes:
        size = int(np.prod(shape))
        numbered.append(np.arange(offset, offset + size, dtype=np.int32).reshape(shape))
        offset += size
    return np.concatenate(numbered, axis=axis)
