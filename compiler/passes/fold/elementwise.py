"""Folds functions of one value, and elementwise operators of two."""

from __future__ import annotations

import numpy as np

from qcompile.compiler import ir_float
from qcompile.compiler.golden.unary import UnaryOp
from qcompile.compiler.ir import Lookup, Op, Value
from qcompile.compiler.passes.fold.folder import Folder
from qcompile.compiler.passes.fold.groups import FloatArray, NotFoldable, Pending, Weight
from qcompile.compiler.passes.fold.multiply import add_bias, takes_bias
from qcompile.compiler.passes.fold.tables import ELEMENTWISE, finish_table
from qcompile.runtime.float_functions import ARITHMETIC

LARGEST_GROUP = 1000
"""Operators of two values between two sets of codes, for all of which they are computed."""

Elementwise = (
    ir_float.FloatAdd | ir_float.FloatSub | ir_float.FloatMul | ir_float.FloatDiv | ir_float.Prelu
)


def fold_unary(folder: Folder, op: UnaryOp) -> None:
    """A function of one value joins the group before it, or begins one on codes."""
    source = op.inputs[0]
    if source in folder.codes:
        code = folder.values[folder.codes[source]]
        folder.pending[op.name] = _group(code).followed_by(op)
    elif source in folder.pending:
        pending = folder.pending[source]
        if pending.moves and isinstance(op, ir_float.Arithmetic) and op.constant.size > 1:
            raise NotFoldable(
                f"reads the float result of {pending.origins[-1].operator}",
                "add QuantizeLinear and DequantizeLinear in front of it",
            )
        folder.pending[op.name] = pending.followed_by(op)
    elif isinstance(op, ir_float.Clip) and folder.is_code(source):
        _clip_codes(folder, op)
    else:
        folder.keep(op)


def _group(code: Value) -> Pending:
    return Pending(op=None, inputs=(code,), finish=finish_table)


def _clip_codes(folder: Folder, op: ir_float.Clip) -> None:
    """A Clip between codes that does not follow their QuantizeLinear."""
    source = folder.values[folder.alias.get(op.inputs[0], op.inputs[0])]
    info = np.iinfo(source.dtype)
    codes = np.arange(info.min, info.max + 1)
    clipped = np.clip(codes, op.low, op.high) - (128 if source.dtype == "uint8" else 0)
    folder.values[op.name] = Value(
        name=op.name,
        shape=source.shape,
        dtype=source.dtype,
        quantization=source.quantization,
    )
    folder.ops.append(
        Lookup(
            inputs=(source.name,),
            outputs=op.outputs,
            origins=op.origins,
            table=clipped.astype(np.int8),
        )
    )


def fold_elementwise(folder: Folder, op: Elementwise) -> None:
    """Two tensors of codes, a tensor and a constant, or a layer and its bias."""
    first, second = (_constant(folder, name) for name in op.inputs)
    if first is not None and second is not None:
        result = ARITHMETIC[ELEMENTWISE[type(op)]](_real(first), _real(second))
        folder.constants[op.name] = np.asarray(result, dtype=np.float32)
    elif second is not None:
        _with_constant(folder, op, op.inputs, second, constant_first=False)
    elif first is not None:
        _with_constant(folder, op, op.inputs[::-1], first, constant_first=True)
    else:
        _with_tensor(folder, op)


def _constant(folder: Folder, name: str) -> Weight | FloatArray | None:
    return folder.weights.get(name, folder.constants.get(name))


def _real(constant: Weight | FloatArray) -> FloatArray:
    return constant.real() if isinstance(constant, Weight) else constant


def _with_constant(
    folder: Folder,
    op: Elementwise,
    names: tuple[str, ...],
    constant: Weight | FloatArray,
    *,
    constant_first: bool,
) -> None:
    source, constant_name = names
    x = folder.graph.values[source]
    if isinstance(op, ir_float.FloatAdd) and takes_bias(folder, source):
        return add_bias(folder, op, source, constant_name)
    if source in folder.codes and _has_integer_operator(op, constant):
        code = folder.values[folder.codes[source]]
        return _join(folder, op, (_group(code), folder.weights[constant_name]))
    real = _real(constant)
    if isinstance(op, ir_float.Prelu) and constant_first:
        raise NotFoldable("has a slope that is computed at run time", "use a constant slope")
    if np.broadcast_shapes(x.shape, real.shape) != x.shape:
        raise NotFoldable(
            f"broadcasts {list(x.shape)} to the shape of a constant {list(real.shape)}",
            "use a constant that broadcasts to the activation",
        )
    step = ir_float.Arithmetic(
        inputs=(source,),
        outputs=op.outputs,
        origins=op.origins,
        function=ELEMENTWISE[type(op)],
        constant=real.reshape(()) if real.size == 1 else real,
        constant_first=constant_first,
    )
    return fold_unary(folder, step)


def _has_integer_operator(op: Op, constant: Weight | FloatArray) -> bool:
    """Whether ONNX Runtime computes on the constant's codes (QLinearAdd, QLinearMul)."""
    return (
        isinstance(constant, Weight)
        and isinstance(op, ir_float.FloatAdd | ir_float.FloatMul)
        and constant.codes.dtype.name in ("int8", "uint8")
        and not constant.scale.ndim
    )


def _with_tensor(folder: Folder, op: Elementwise) -> None:
    if isinstance(op, ir_float.Prelu):
        raise NotFoldable("has a slope that is computed at run time", "use a constant slope")
    operands = [_operand(folder, name) for name in op.inputs]
    known = tuple(operand for operand in operands if operand is not None)
    if len(known) == len(operands):
        _join(folder, op, known)


def _operand(folder: Folder, name: str) -> Pending | None:
    """A float value as an operand: codes, or functions of codes; None where it was refused."""
    pending = folder.pending.get(name)
    if pending is not None and name not in folder.codes:
        if (pending.op is None or type(pending.op) in ELEMENTWISE) and not pending.moves:
            return pending
        folder.refuse_float_result(name)
    code = folder.code_operand(name)
    return None if code is None else _group(code)


def _join(folder: Folder, op: Elementwise, operands: tuple[Pending | Weight, ...]) -> None:
    """A group of two operands, on all codes that they read."""
    groups = [operand for operand in operands if isinstance(operand, Pending)]
    inputs = {value.name: value for group in groups for value in group.inputs}
    origins = dict.fromkeys(origin for group in groups for origin in group.origins)
    size = 1 + sum(group.size for group in groups)
    if size > LARGEST_GROUP:
        raise NotFoldable(
            f"ends a computation of {size:,} operators, those that are used twice counted twice",
            "add QuantizeLinear and DequantizeLinear between the operators",
        )
    folder.pending[op.name] = Pending(
        op=op,
        inputs=tuple(inputs.values()),
        finish=finish_table,
        operands=operands,
        origins=(*op.origins, *origins),
        size=size,
    )
