"""Evaluates operators whose operands are all constants, as the file's author could have done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler import ir_float
from qcompile.compiler.golden.float_rules import code_range
from qcompile.compiler.golden.unary import unary_function
from qcompile.compiler.ir import Op, Reshape
from qcompile.runtime.float_functions import ARITHMETIC

_ARITHMETIC = {
    ir_float.FloatAdd: ARITHMETIC["Add"],
    ir_float.FloatDiv: ARITHMETIC["Div"],
    ir_float.FloatMul: ARITHMETIC["Mul"],
    ir_float.FloatSub: ARITHMETIC["Sub"],
}


def fold_constant(op: Op, constants: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any] | None:
    """The result of an operator on constants, or None where it is kept.

    DequantizeLinear is kept always: a weight's codes and scales are what later passes need.
    """
    if not op.inputs or any(name not in constants for name in op.inputs):
        return None
    x = constants[op.inputs[0]]
    if isinstance(op, Reshape):
        return x.reshape(op.shape)
    if isinstance(op, ir_float.Transpose):
        return x.transpose(op.permutation)
    if isinstance(op, ir_float.Select):
        entries = np.append(x.reshape(-1), np.asarray(op.fill).astype(x.dtype))  # -1: the last
        return entries[op.index]
    if isinstance(op, ir_float.Concat):
        return np.concatenate([constants[name] for name in op.inputs], axis=op.axis)
    if isinstance(op, ir_float.Cast):
        with np.errstate(invalid="ignore"):
            return x.astype(op.dtype)
    if isinstance(op, ir_float.QuantizeLinear):
        return quantize_constant(x, op)
    if isinstance(op, ir_float.Clip | ir_float.Unary):
        return np.asarray(unary_function(op)(x), dtype=x.dtype)
    function = _ARITHMETIC.get(type(op))
    if function is not None:
        with np.errstate(all="ignore"):
            return np.asarray(function(x, constants[op.inputs[1]]), dtype=np.float32)
    return None


def dequantize_constant(
    codes: npt.NDArray[Any], op: ir_float.DequantizeLinear
) -> npt.NDArray[np.float32]:
    """Real numbers of constant codes, with one scale or one for each position along an axis."""
    scale, zero_point = _along_axis(op, codes.ndim)
    return (codes.astype(np.int64) - zero_point).astype(np.float32) * scale


def quantize_constant(x: npt.NDArray[Any], op: ir_float.QuantizeLinear) -> npt.NDArray[Any]:
    """Codes of a real constant, with one scale or one for each position along an axis."""
    scale, zero_point = _along_axis(op, x.ndim)
    low, high = code_range(op.dtype)
    whole = np.rint(np.clip(x / scale, low - zero_point, high - zero_point))
    return (whole.astype(np.int64) + zero_point).astype(op.dtype)


def _along_axis(
    op: ir_float.QuantizeLinear | ir_float.DequantizeLinear, rank: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Scale and zero point in a shape that broadcasts to a tensor of `rank` dimensions."""
    shape = [1] * rank
    if op.scale.ndim:
        shape[op.axis] = -1
    return op.scale.reshape(shape), op.zero_point.reshape(shape)
