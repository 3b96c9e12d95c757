"""Importers of elementwise operators of two operands, and of BatchNormalization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler import ir_float
from qcompile.compiler.frontend.node_reader import Imported, Importer, NodeReader, Refusal
from qcompile.compiler.frontend.operators import Operator
from qcompile.compiler.ir import Op, Reshape, Value

COMMUTATIVE = (ir_float.FloatAdd, ir_float.FloatMul)
NEUTRAL: dict[type[Op], float] = {
    ir_float.FloatAdd: 0.0,
    ir_float.FloatSub: 0.0,
    ir_float.FloatMul: 1.0,
    ir_float.FloatDiv: 1.0,
}
"""The second operand, or either one of Add and Mul, that changes nothing."""


def _quotient(a: Any, b: Any) -> npt.NDArray[Any]:
    """The quotient of whole numbers, none of them real in between, rounded towards 0."""
    down = np.floor_divide(a, b)
    return np.asarray(down + ((np.remainder(a, b) != 0) & (down < 0)), dtype=down.dtype)


WHOLE: dict[type[Op], Callable[[Any, Any], npt.NDArray[Any]]] = {
    ir_float.FloatAdd: np.add,
    ir_float.FloatSub: np.subtract,
    ir_float.FloatMul: np.multiply,
    ir_float.FloatDiv: _quotient,
}
"""Of whole numbers, as they are computed of shapes."""


def _elementwise(node: NodeReader, kind: type[Op]) -> Imported:
    whole = _of_shapes(node, kind)
    if whole is not None:
        return whole
    a, b = node.float_input(0), node.float_input(1)
    if node.opset < 7:
        raise Refusal("broadcasts by attributes", help="convert the model to opset 13")
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise _no_broadcast(a.shape, b.shape) from None
    value = Value(name=node.output, shape=tuple(shape), dtype="float32")
    for position, operand in ((1, a), (0, b)):
        if (
            (position == 1 or kind in COMMUTATIVE)
            and operand.shape == value.shape
            and _changes_nothing(node, position, NEUTRAL[kind])
        ):
            same = Reshape(
                inputs=(operand.name,),
                outputs=(node.output,),
                origins=(node.origin,),
                shape=operand.shape,
            )
            return same, value
    op = kind(inputs=(a.name, b.name), outputs=(node.output,), origins=(node.origin,))
    return op, value


def _of_shapes(node: NodeReader, kind: type[Op]) -> Imported | None:
    """The result for two constants of int64 or of int32, as shapes are; else None."""
    a, b = node.known(0), node.known(1)
    if a is None or b is None or not {a.dtype.name, b.dtype.name} <= {"int32", "int64"}:
        return None
    if a.dtype != b.dtype:
        raise Refusal(f"computes {a.dtype.name} with {b.dtype.name}", help="Cast one", broken=True)
    if kind is ir_float.FloatDiv and not b.all():
        raise Refusal("divides by 0", broken=True)
    try:
        np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise _no_broadcast(a.shape, b.shape) from None
    with np.errstate(over="ignore"):
        data = np.asarray(WHOLE[kind](a, b), dtype=a.dtype)
    op = ir_float.Constant(inputs=(), outputs=(node.output,), data=data)
    return op, Value(name=node.output, shape=tuple(data.shape), dtype=data.dtype.name)


def _no_broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> Refusal:
    return Refusal(f"shapes {list(a)} and {list(b)} do not broadcast", broken=True)


def _changes_nothing(node: NodeReader, position: int, neutral: float) -> bool:
    """Whether an operand is the one number that ONNX Runtime leaves out (NoopElimination)."""
    constant = node.known(position)
    return constant is not None and constant.size == 1 and float(constant.reshape(())) == neutral


def add(node: NodeReader) -> Imported:
    """Add: of two activations, or with a constant."""
    return _elementwise(node, ir_float.FloatAdd)


def subtract(node: NodeReader) -> Imported:
    """Sub, as Add."""
    return _elementwise(node, ir_float.FloatSub)


def multiply(node: NodeReader) -> Imported:
    """Mul, as Add."""
    return _elementwise(node, ir_float.FloatMul)


def divide(node: NodeReader) -> Imported:
    """Div, as Add."""
    return _elementwise(node, ir_float.FloatDiv)


def prelu(node: NodeReader) -> Imported:
    """PRelu, whose slope broadcasts to the input."""
    x, slope = node.float_input(0), node.float_input(1)
    try:
        fits = np.broadcast_shapes(x.shape, slope.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        raise Refusal(
            f"slope {list(slope.shape)} does not broadcast to {list(x.shape)}", broken=True
        )
    op = ir_float.Prelu(inputs=(x.name, slope.name), outputs=(node.output,), origins=(node.origin,))
    return op, Value(name=node.output, shape=x.shape, dtype="float32")


def batch_normalization(node: NodeReader) -> Imported:
    """BatchNormalization in inference: x * factor + offset, as ONNX Runtime orders it.

    factor = scale / sqrt(variance + epsilon), offset = bias - mean * factor, each step in float32.
    """
    x = node.float_input(0)
    node.attribute("momentum", 0.9)
    node.expect("training_mode", 0)
    node.expect("spatial", 1)
    epsilon = np.float32(node.attribute("epsilon", 1e-5))
    if len(x.shape) < 2:
        raise Refusal(f"input '{x.name}' {list(x.shape)} has no channels", broken=True)
    names = ("scale", "bias", "mean", "variance")
    scale, bias, mean, variance = (node.constant(i + 1, what) for i, what in enumerate(names))
    for array, what in zip((scale, bias, mean, variance), names, strict=True):
        if array is None or array.dtype != np.float32 or array.shape != (x.shape[1],):
            found = "missing" if array is None else f"{array.dtype.name}{list(array.shape)}"
            raise Refusal(f"{what} is {found}, not float32[{x.shape[1]}]", broken=True)
    assert scale is not None and bias is not None and mean is not None and variance is not None
    with np.errstate(all="ignore"):
        factor = np.float32(1) / np.sqrt(variance + epsilon) * scale
        offset = bias - mean * factor
    if not np.all(np.isfinite(factor) & np.isfinite(offset)):
        raise Refusal("variance + epsilon is not above 0", broken=True)
    return _affine(node, x, np.asarray(factor, np.float32), np.asarray(offset, np.float32))


def _affine(
    node: NodeReader, x: Value, factor: ir_float.FloatArray, offset: ir_float.FloatArray
) -> Imported:
    shape = (x.shape[1],) + (1,) * (len(x.shape) - 2)
    value = Value(name=node.output, shape=x.shape, dtype="float32")
    product = Value(name=f"{node.output}:product", shape=x.shape, dtype="float32")
    made: list[tuple[Op, Value]] = []
    for name, array in (("factor", factor), ("offset", offset)):
        data = array.reshape(shape)
        constant = ir_float.Constant(inputs=(), outputs=(f"{node.output}:{name}",), data=data)
        made.append((constant, Value(name=constant.name, shape=shape, dtype="float32")))
    names = [op.name for op, _ in made]
    origins = (node.origin,)
    multiply = ir_float.FloatMul(
        inputs=(x.name, names[0]), outputs=(product.name,), origins=origins
    )
    add = ir_float.FloatAdd(inputs=(product.name, names[1]), outputs=(value.name,), origins=origins)
    return [*made, (multiply, product), (add, value)]


def _arithmetic(read: Importer) -> Operator:
    return Operator(
        read=read,
        runs=("accelerator", "folded", "host"),
        remark="of two activations, shapes broadcast, or with a constant, which may have several "
        "numbers (at most 256 different ones where it is no layer's); behind Conv, MatMul or Gemm "
        "folded into the layer: [steps behind layers](#steps-behind-layers)",
    )


OPERATORS: dict[str, Operator] = {
    "Add": _arithmetic(add),
    "BatchNormalization": Operator(
        read=batch_normalization,
        runs=("accelerator", "folded", "host"),
        attributes={"epsilon": "", "momentum": "", "spatial": "1", "training_mode": "0"},
        remark="as Mul and Add: [steps behind layers](#steps-behind-layers)",
    ),
    "Div": _arithmetic(divide),
    "Mul": _arithmetic(multiply),
    "PRelu": Operator(
        read=prelu,
        runs=("accelerator", "host"),
        remark="a slope of at most 256 different numbers",
    ),
    "Sub": _arithmetic(subtract),
}
