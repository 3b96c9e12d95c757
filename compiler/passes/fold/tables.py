"""Elementwise groups as tables of all operand codes.

A group of functions of one tensor is a table of 256 codes, one of two tensors a table of 65,536
pairs. Constants that are no single number divide the elements of one tensor into classes, at most
256, that have the same constants: the class is the second operand, a constant tensor.

ONNX Runtime computes Add and Mul of codes by the rules of QLinearAdd and QLinearMul, where nothing
but Q and DQ stands around them; everything else in float32, operator by operator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np

from qcompile.compiler import ir_float, ir_quantized
from qcompile.compiler.golden.float_rules import (
    ScalarOperand,
    add_table,
    code_range,
    dequantize_linear,
    multiply_table,
    quantize_to_int8,
)
from qcompile.compiler.golden.unary import unary_function
from qcompile.compiler.ir import Constant, Int8Array, Lookup, Op, Origin, Quantization, Value
from qcompile.compiler.passes.fold.groups import (
    FloatArray,
    Made,
    NotFoldable,
    Pending,
    Weight,
    quantization_of,
)
from qcompile.runtime.float_functions import ARITHMETIC

Function = Literal["Add", "Sub", "Mul", "Div", "Prelu"]

ELEMENTWISE: dict[type[Op], Function] = {
    ir_float.FloatAdd: "Add",
    ir_float.FloatDiv: "Div",
    ir_float.FloatMul: "Mul",
    ir_float.FloatSub: "Sub",
    ir_float.Prelu: "Prelu",
}

CLASSES = ":classes"
"""Suffix of the constant operand that tells the class of each element."""

CODES = 256
LARGEST_RATIO = 2.0**20
"""Of an Add's operand scale to its result's: far beyond it ONNX Runtime's int32 sums overflow."""


def finish_table(pending: Pending, output: Value, origins: tuple[Origin, ...]) -> Made:
    """A Lookup, or a binary operation of two tensors or of a tensor and a constant."""
    exact = _integer_table(pending, output)
    if exact is not None:
        return _integer_operation(pending, exact, output, origins)
    if len(pending.inputs) == 1:
        constants = [array for array in _constants(pending) if array.size > 1]
        if constants:
            return _by_class(pending, output, origins)
        x = pending.inputs[0]
        values = _evaluate(pending, {x.name: _grid(x)})
        return _lookup(pending, quantized(values, output), output, origins)
    if len(pending.inputs) > 2 or any(array.size > 1 for array in _constants(pending)):
        raise NotFoldable(
            "combines more than two tensors before the next QuantizeLinear",
            "add QuantizeLinear and DequantizeLinear between the operators",
        )
    a, b = list(pending.inputs)
    grids = {a.name: _grid(a)[:, np.newaxis], b.name: _grid(b)[np.newaxis, :]}
    table = np.broadcast_to(quantized(_evaluate(pending, grids), output), (CODES, CODES))
    return _binary((a.name, b.name), table, output, origins)


def _grid(value: Value) -> FloatArray:
    """The real numbers of all codes, float32 [256]."""
    first, last = code_range(value.dtype)
    if value.log is not None:
        codes = np.arange(first, last + 1).clip(0, value.log.levels - 1)
        return np.asarray(value.log.values[codes])
    return dequantize_linear(np.arange(first, last + 1), quantization_of(value))


def quantized(values: FloatArray, output: Value) -> Int8Array:
    """The codes of real numbers, as `output`'s, of uint8 ones less 128."""
    if output.log is not None:
        return output.log.codes(values).astype(np.int8)
    return quantize_to_int8(values, quantization_of(output), output.dtype)


def _lookup(
    pending: Pending, table: Int8Array, output: Value, origins: tuple[Origin, ...]
) -> Lookup:
    names = (pending.inputs[0].name,)
    return Lookup(inputs=names, outputs=(output.name,), origins=origins, table=table)


def _binary(
    names: tuple[str, str], table: Int8Array, output: Value, origins: tuple[Origin, ...]
) -> ir_quantized.QuantizedBinary:
    return ir_quantized.QuantizedBinary(
        inputs=names, outputs=(output.name,), origins=origins, table=np.ascontiguousarray(table)
    )


# ------------------------------------------------------------------ the float rule


def _evaluate(operand: Pending | Weight, values: Mapping[str, FloatArray]) -> FloatArray:
    """The group's real numbers for real numbers of its inputs, operator by operator."""
    if isinstance(operand, Weight):
        return operand.real()
    if operand.op is None:
        x = values[operand.inputs[0].name]
    else:
        a, b = (_evaluate(part, values) for part in operand.operands)
        with np.errstate(all="ignore"):
            x = np.asarray(ARITHMETIC[ELEMENTWISE[type(operand.op)]](a, b), dtype=np.float32)
    for function in operand.after:
        with np.errstate(all="ignore"):
            x = np.asarray(unary_function(function)(x), dtype=np.float32)
    return x


def _constants(operand: Pending | Weight) -> Iterator[FloatArray]:
    """All constants of a group, in the order in which `_replaced` meets them."""
    if isinstance(operand, Weight):
        yield operand.real()
        return
    for part in operand.operands:
        yield from _constants(part)
    for function in operand.after:
        if isinstance(function, ir_float.Arithmetic):
            yield function.constant


def _replaced(operand: Pending | Weight, constants: Iterator[FloatArray]) -> Pending | Weight:
    """The group with other constants."""
    if isinstance(operand, Weight):
        one = np.ones((), dtype=np.float32)
        zero = np.zeros((), dtype=np.int64)
        return Weight(codes=next(constants), scale=one, zero_point=zero, axis=0)
    operands = tuple(_replaced(part, constants) for part in operand.operands)
    after = tuple(
        replace(function, constant=next(constants))
        if isinstance(function, ir_float.Arithmetic)
        else function
        for function in operand.after
    )
    return replace(operand, operands=operands, after=after)


def _by_class(
    pending: Pending, output: Value, origins: tuple[Origin, ...]
) -> list[tuple[Op, Value]]:
    """A table whose second operand is the class of the element."""
    constants = list(_constants(pending))
    rank = len(output.shape)
    arrays = [array.reshape((1,) * (rank - array.ndim) + array.shape) for array in constants]
    shape = np.broadcast_shapes(*(array.shape for array in arrays))
    rows = np.stack([np.broadcast_to(array, shape).reshape(-1) for array in arrays], axis=1)
    classes, index = np.unique(rows, axis=0, return_inverse=True)
    if len(classes) > CODES:
        raise NotFoldable(
            f"its constants have {len(classes)} different values",
            f"use constants with at most {CODES} different values, or fold them into a layer",
        )
    x = pending.inputs[0]
    group = _replaced(pending, iter(classes.T.astype(np.float32)))
    values = _evaluate(group, {x.name: _grid(x)[:, np.newaxis]})
    table = np.zeros((CODES, CODES), dtype=np.int8)
    table[:, : len(classes)] = quantized(values, output)
    codes = (index.reshape(shape) - CODES // 2).astype(np.int8)
    return _with_constant(x, codes, table, output, origins)


def _with_constant(
    x: Value, codes: Int8Array, table: Int8Array, output: Value, origins: tuple[Origin, ...]
) -> list[tuple[Op, Value]]:
    name = output.name + CLASSES
    constant = Constant(inputs=(), outputs=(name,), origins=origins, data=codes)
    value = Value(name=name, shape=codes.shape, dtype="int8")
    return [(constant, value), (_binary((x.name, name), table, output, origins), output)]


# ------------------------------------------------------------------ the rules of integer operators


def _integer_table(pending: Pending, output: Value) -> Int8Array | None:
    """QLinearAdd's or QLinearMul's table of both operands; None where ONNX Runtime uses neither.

    A Clip that the QuantizeLinear does not make redundant keeps ONNX Runtime in float; one of the
    codes behind the QuantizeLinear does not.
    """
    if not isinstance(pending.op, ir_float.FloatAdd | ir_float.FloatMul):
        return None
    if any(value.log is not None for value in (*pending.inputs, output)):
        return None  # ONNX Runtime has real numbers
    dtypes = {_code_type(operand) for operand in pending.operands}
    if dtypes != {output.dtype}:
        return None
    real = tuple(f for f in pending.after if not (isinstance(f, ir_float.Clip) and f.of_codes))
    if not all(isinstance(f, ir_float.Clip) for f in real):
        return None
    if replace(pending, after=real).clamp(output) != code_range(output.dtype):
        return None
    low, high = pending.clamp(output)
    moved = 128 if output.dtype == "uint8" else 0
    a, b = (_quantization(operand) for operand in pending.operands)
    y = quantization_of(output)
    if isinstance(pending.op, ir_float.FloatMul):
        table = multiply_table(a, b, y, dtype=output.dtype)
    else:
        ratio = max(a.scale, b.scale) / y.scale
        if ratio >= LARGEST_RATIO:
            raise NotFoldable(
                f"adds an operand whose scale is {ratio:.3g} times the result's",
                "ONNX Runtime's integers overflow there; quantize the result again",
            )
        table = add_table(a, b, y, dtype=output.dtype, scalar=_scalar_operand(pending))
    return np.clip(table, low - moved, high - moved).astype(np.int8)


def _code_type(operand: Pending | Weight) -> str | None:
    """The type of codes that are an operand as they are; None behind a function."""
    if isinstance(operand, Weight):
        return str(operand.codes.dtype.name)
    plain = operand.op is None and not operand.after and not operand.moves
    return operand.inputs[0].dtype if plain else None


def _quantization(operand: Pending | Weight) -> Quantization:
    if isinstance(operand, Weight):
        return Quantization(scale=float(operand.scale), zero_point=int(operand.zero_point))
    return quantization_of(operand.inputs[0])


def _scalar_operand(pending: Pending) -> ScalarOperand | None:
    """Which operand is one number over ONNX Runtime's innermost loop of a broadcast."""
    shapes = [
        operand.codes.shape if isinstance(operand, Weight) else operand.inputs[0].shape
        for operand in pending.operands
    ]
    rank = max(len(shape) for shape in shapes)
    a, b = ((1,) * (rank - len(shape)) + shape for shape in shapes)
    for m, n in zip(reversed(a), reversed(b), strict=True):
        if m != n:
            return "a" if m == 1 else "b"
        if m != 1:
            return None
    return "b"


def _integer_operation(
    pending: Pending, table: Int8Array, output: Value, origins: tuple[Origin, ...]
) -> Made:
    first, second = pending.operands
    if isinstance(first, Weight):  # elementwise._with_constant gives the constant last
        raise AssertionError("the constant operand comes last")
    x = first.inputs[0]
    if isinstance(second, Pending):
        other = second.inputs[0]
        if other.name == x.name and isinstance(pending.op, ir_float.FloatMul):
            return _lookup(pending, np.diagonal(table).copy(), output, origins)
        return _binary((x.name, other.name), table, output, origins)
    codes = second.codes.astype(np.int64) - (128 if second.codes.dtype == np.uint8 else 0)
    if codes.size == 1:
        column = table[:, int(codes.reshape(())) + CODES // 2]
        return _lookup(pending, np.ascontiguousarray(column), output, origins)
    shape = (1,) * (len(output.shape) - codes.ndim) + codes.shape
    return _with_constant(x, codes.reshape(shape).astype(np.int8), table, output, origins)
