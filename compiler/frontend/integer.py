"""Importers of ConvInteger and MatMulInteger: sums of products of codes, as int32.

They belong to networks that are quantized at run time; with constant scales behind them (Cast, Mul
by a constant, perhaps Add, QuantizeLinear) they are layers like others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler import ir_float
from qcompile.compiler.frontend import arithmetic
from qcompile.compiler.frontend.expansion import Expansion
from qcompile.compiler.frontend.node_reader import Imported, Importer, NodeReader, Refusal
from qcompile.compiler.frontend.operators import CODES, Operator
from qcompile.compiler.ir import Op, Value


def conv_integer(node: NodeReader) -> Imported:
    """ConvInteger: x, w and their zero points; w's may be one for each output channel."""
    return _product(node, arithmetic.conv, channels=0)


def matmul_integer(node: NodeReader) -> Imported:
    """MatMulInteger: A, B and their zero points; B's may be one for each column."""
    return _product(node, arithmetic.matmul, channels=len(node.value(1).shape) - 1)


def _product(node: NodeReader, importer: Importer, *, channels: int) -> Imported:
    group = Expansion(node)
    operands = [_whole(group, 0, 2), _weight(group, 1, 3, channels)]
    before = len(group.steps)
    group.compute(importer, operands, output=node.output)
    group.steps[before:] = [_with_whole_result(step) for step in group.steps[before:]]
    return group.steps


def _with_whole_result(step: tuple[Op, Value]) -> tuple[Op, Value]:
    op, value = step
    if isinstance(op, ir_float.FloatConv | ir_float.FloatMatMul):
        op = replace(op, whole=True)
    return op, replace(value, dtype="int32")


def _codes(group: Expansion, position: int) -> Value:
    x = group.node.value(position)
    if x.dtype not in CODES:
        raise Refusal(f"input '{x.name}' has type {x.dtype}", help="only int8 and uint8 are codes")
    return x


def _zero_point(group: Expansion, x: Value, position: int) -> npt.NDArray[Any]:
    zero = group.node.constant(position, "zero point")
    if zero is None:
        zero = np.zeros((), dtype=x.dtype)
    if zero.dtype.name != x.dtype:
        raise Refusal(f"zero point is {zero.dtype.name}, codes are {x.dtype}", broken=True)
    return zero


def _whole(group: Expansion, position: int, zero_at: int) -> Value:
    """The activation, whose scale the node does not know."""
    x = _codes(group, position)
    zero = _zero_point(group, x, zero_at)
    if zero.size != 1:
        raise Refusal(
            f"zero point of '{x.name}' holds {zero.size} numbers",
            help="use one zero point a tensor for activations",
        )
    op = ir_float.Whole(
        inputs=(x.name,),
        outputs=(group.name("x"),),
        origins=(group.node.origin,),
        zero_point=zero.reshape(()).astype(np.int64),
    )
    return group.add(op, Value(name=op.name, shape=x.shape, dtype="float32"))


def _weight(group: Expansion, position: int, zero_at: int, channels: int) -> Value:
    """The weight, dequantized with the scale 1."""
    w = _codes(group, position)
    if not w.shape:
        raise Refusal(f"weight '{w.name}' is a single number", broken=True)
    zero = _zero_point(group, w, zero_at).reshape(-1)
    if zero.size not in (1, w.shape[channels]):
        raise Refusal(
            f"zero point of '{w.name}' {list(w.shape)} holds {zero.size} numbers", broken=True
        )
    count = () if zero.size == 1 else (zero.size,)
    op = ir_float.DequantizeLinear(
        inputs=(w.name,),
        outputs=(group.name("w"),),
        origins=(group.node.origin,),
        scale=np.ones(count, dtype=np.float32),
        zero_point=zero.reshape(count).astype(np.int64),
        axis=channels if count else 0,
    )
    return group.add(op, Value(name=op.name, shape=w.shape, dtype="float32"))


_REMARK = (
    "with Cast, Mul by a constant (perhaps Add) and QuantizeLinear behind, else refused; one zero "
    "point for the activation"
)

OPERATORS: dict[str, Operator] = {
    "ConvInteger": Operator(
        read=conv_integer,
        runs=("accelerator",),
        agreement="1 step",
        types=CODES,
        attributes=arithmetic.CONV_ATTRIBUTES,
        remark=_REMARK,
    ),
    "MatMulInteger": Operator(
        read=matmul_integer,
        runs=("accelerator",),
        agreement="1 step",
        types=CODES,
        remark=_REMARK,
    ),
}
