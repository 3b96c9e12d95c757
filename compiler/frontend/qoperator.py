"""Importers of the QOperator form: operators that take codes with their scales and give codes.

QLinearConv and QLinearMatMul are ONNX's own; the others are ONNX Runtime's (com.microsoft).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompile.compiler import ir_float
from qcompile.compiler.frontend import arithmetic, binary, movement, pools, selection, unary
from qcompile.compiler.frontend.expansion import Expansion
from qcompile.compiler.frontend.node_reader import Imported, Importer, NodeReader, Refusal
from qcompile.compiler.frontend.operators import CODES, Operator, Place
from qcompile.compiler.ir import Value


def qlinear_conv(node: NodeReader) -> Imported:
    """QLinearConv: x, w, y with scale and zero point each, perhaps an int32 bias."""
    group = Expansion(node)
    x = group.operand((0, 1, 2), "x")
    w = group.operand((3, 4, 5), "w", channels=0)
    bias = group.bias(8, group.scale(1) * group.scale(4))
    return group.quantize(group.compute(arithmetic.conv, [x, w, *bias]), 6, 7)


def qlinear_matmul(node: NodeReader) -> Imported:
    """QLinearMatMul: a, b, y with scale and zero point each; b's may be one for each column."""
    group = Expansion(node)
    a = group.operand((0, 1, 2), "a")
    b = group.operand((3, 4, 5), "b", channels=len(node.value(3).shape) - 1)
    return group.quantize(group.compute(arithmetic.matmul, [a, b]), 6, 7)


def qgemm(node: NodeReader) -> Imported:
    """QGemm: alpha * A' * B' + C, C int32 of scale alpha * a * b; without y's scale the result
    stays float."""
    group = Expansion(node)
    transposed = bool(node.attribute("transB", 0))
    a = group.operand((0, 1, 2), "a")
    b = group.operand((3, 4, 5), "b", channels=0 if transposed else 1)
    alpha = np.float32(node.attribute("alpha", 1.0))
    bias = group.bias(6, alpha * group.scale(1) * group.scale(4))
    if node.name_of(7) is None:
        group.compute(arithmetic.gemm, [a, b, *bias], output=node.output)
        return group.steps
    real = group.compute(arithmetic.gemm, [a, b, *bias])
    return group.quantize(real, 7, 8, default=node.value(0).dtype)


def qlinear_add(node: NodeReader) -> Imported:
    """QLinearAdd: A and B with scale and zero point each, then C's."""
    return _elementwise(node, binary.add)


def qlinear_mul(node: NodeReader) -> Imported:
    """QLinearMul, as QLinearAdd."""
    return _elementwise(node, binary.multiply)


def _elementwise(node: NodeReader, importer: Importer) -> Imported:
    group = Expansion(node)
    operands = [group.operand((0, 1, 2), "a"), group.operand((3, 4, 5), "b")]
    return group.quantize(group.compute(importer, operands), 6, 7, default=node.value(0).dtype)


def qlinear_pool(node: NodeReader, importer: Importer) -> Imported:
    """A pool of codes; with channels_last the image is [1, height, width, channels]."""
    group = Expansion(node)
    dtype = node.value(0).dtype
    last = bool(node.attribute("channels_last", 0))
    x = group.operand((0, 1, 2), "x")
    if not last:
        return group.quantize(group.compute(importer, [x]), 3, 4, default=dtype)
    if len(x.shape) != 4:
        raise Refusal(f"channels_last=1 with {len(x.shape)} dimensions is not supported")
    first = _transposed(group, x, "nchw", (0, 3, 1, 2))
    real = group.compute(importer, [first])
    codes = group.codes(real, (3, 4), group.name("codes"), default=dtype)
    _transposed(group, codes, None, (0, 2, 3, 1))
    return group.steps


def _transposed(
    group: Expansion, x: Value, suffix: str | None, permutation: tuple[int, ...]
) -> Value:
    """Axes in another order; without a suffix the result is the node's."""
    name = group.node.output if suffix is None else group.name(suffix)
    op = ir_float.Transpose(
        inputs=(x.name,),
        outputs=(name,),
        origins=(group.node.origin,),
        permutation=permutation,
    )
    shape = tuple(x.shape[axis] for axis in permutation)
    return group.add(op, Value(name=name, shape=shape, dtype=x.dtype))


def qlinear_average_pool(node: NodeReader) -> Imported:
    """QLinearAveragePool."""
    return qlinear_pool(node, pools.average_pool)


def qlinear_global_average_pool(node: NodeReader) -> Imported:
    """QLinearGlobalAveragePool."""
    return qlinear_pool(node, pools.global_average_pool)


def qlinear_sigmoid(node: NodeReader) -> Imported:
    """QLinearSigmoid."""
    return _unary(node, unary.sigmoid)


def qlinear_leaky_relu(node: NodeReader) -> Imported:
    """QLinearLeakyRelu."""
    return _unary(node, unary.leaky_relu)


def _unary(node: NodeReader, importer: Importer) -> Imported:
    group = Expansion(node)
    real = group.compute(importer, [group.operand((0, 1, 2), "x")])
    return group.quantize(real, 3, 4, default=node.value(0).dtype)


def qlinear_softmax(node: NodeReader) -> Imported:
    """QLinearSoftmax; its attribute `opset` says which Softmax of ONNX it follows."""
    group = Expansion(node)
    x = group.operand((0, 1, 2), "x")
    opset = int(node.attribute("opset", 0)) or node.opset
    real = group.compute(arithmetic.softmax, [x], opset=opset)
    return group.quantize(real, 3, 4, default=node.value(0).dtype)


def qlinear_concat(node: NodeReader) -> Imported:
    """QLinearConcat: y's scale and zero point, then every operand with its own."""
    group = Expansion(node)
    count, rest = divmod(len(node.node.input) - 2, 3)
    if count < 1 or rest:
        raise Refusal("has no operands in groups of three", broken=True)
    operands = [group.operand((i, i + 1, i + 2), f"x{i // 3}") for i in range(2, 2 + 3 * count, 3)]
    return group.quantize(group.compute(selection.concat, operands), 0, 1)


def _quantized(
    read: Importer,
    like: Operator,
    remark: str = "",
    *,
    runs: tuple[Place, ...] = ("accelerator",),
    **attributes: str,
) -> Operator:
    """An entry whose attributes and agreement are those of the float operator."""
    attributes = {**like.attributes, **attributes}
    return replace(like, read=read, runs=runs, types=CODES, attributes=attributes, remark=remark)


_WEIGHTS = "constant weights, a scale for the tensor or one a channel"
_PAIR = "of two activations, shapes broadcast, or with a constant of at most 256 different numbers"

STANDARD: dict[str, Operator] = {
    "QLinearConv": _quantized(
        qlinear_conv,
        arithmetic.OPERATORS["Conv"],
        f"lines and images; {_WEIGHTS}; bias int32 of the scale of the sums",
    ),
    "QLinearMatMul": _quantized(
        qlinear_matmul,
        arithmetic.OPERATORS["MatMul"],
        f"a constant on either side; {_WEIGHTS}",
    ),
}
"""Operators of the standard domain."""

MICROSOFT: dict[str, Operator] = {
    "DequantizeLinear": movement.DEQUANTIZE_LINEAR,
    **unary.CONTRIBUTED,
    "QGemm": _quantized(
        qgemm,
        arithmetic.OPERATORS["Gemm"],
        f"{_WEIGHTS}; on the host where its result leaves the network as real numbers",
        runs=("accelerator", "host"),
    ),
    "QLinearAdd": _quantized(
        qlinear_add, binary.OPERATORS["Add"], _PAIR, runs=("accelerator", "host")
    ),
    "QLinearAveragePool": _quantized(
        qlinear_average_pool,
        pools.OPERATORS["AveragePool"],
        "as AveragePool",
        channels_last="1 for images only",
    ),
    "QLinearConcat": _quantized(
        qlinear_concat,
        selection.OPERATORS["Concat"],
        "as Concat",
        runs=("accelerator", "host"),
    ),
    "QLinearGlobalAveragePool": _quantized(
        qlinear_global_average_pool,
        pools.OPERATORS["GlobalAveragePool"],
        "lines and images",
        channels_last="1 for images only",
    ),
    "QLinearLeakyRelu": _quantized(
        qlinear_leaky_relu, unary.OPERATORS["LeakyRelu"], runs=("accelerator", "host")
    ),
    "QLinearMul": _quantized(
        qlinear_mul, binary.OPERATORS["Mul"], _PAIR, runs=("accelerator", "host")
    ),
    "QLinearSigmoid": _quantized(
        qlinear_sigmoid, unary.OPERATORS["Sigmoid"], runs=("accelerator", "host")
    ),
    "QLinearSoftmax": replace(
        _quantized(
            qlinear_softmax,
            arithmetic.OPERATORS["Softmax"],
            "behind the last layer; with `--softmax chip` as Softmax",
            runs=("host",),
            opset="",
        ),
        agreement="equal",
    ),
    "QuantizeLinear": movement.QUANTIZE_LINEAR,
}
"""Operators of com.microsoft."""
