"""Folds Conv, MatMul and Gemm, with a bias that is added behind them.

A bias of int32 codes whose scale is that of the sums is taken as it is. Real numbers (a float
constant, other codes, a bias times Gemm's beta) become whole multiples of that scale by float32
division and rounding to even: what ONNX Runtime does with a float constant. Where it leaves the
operator in float instead, the result is an island.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompile.compiler import ir_float, ir_quantized
from qcompile.compiler.ir import Int64Array, MaxPool, Op, Origin, Quantization, Reshape, Value
from qcompile.compiler.passes.fold.folder import Folder
from qcompile.compiler.passes.fold.groups import (
    Finish,
    FloatArray,
    NotFoldable,
    Pending,
    Weight,
    quantization_of,
)
from qcompile.compiler.passes.fold.layer_steps import split_steps

BIAS_SCALE_TOLERANCE = 1e-6
"""Relative difference from input scale * weight scale up to which a bias scale is rounding.

ONNX Runtime's integer kernels never read the bias scale; beyond this the model means another bias.
"""

BIAS_LIMIT = 2.0**31
"""Whole steps of the sums, which ONNX Runtime adds up in int32."""

PRODUCT = ":product"
"""Suffix of a real product in front of its bias."""

Bias = Weight | FloatArray

FLOAT_MOVES = (
    *(Reshape, MaxPool),
    *(ir_float.Transpose, ir_float.Select, ir_float.Concat),
)
PASSED_BY_DEQUANTIZE = frozenset(
    {
        *("Expand", "Flatten", "Identity", "MaxPool", "Pad", "Reshape", "Slice"),
        *("Squeeze", "Transpose", "Unsqueeze"),
    }
)
"""Moves in front of a Conv that leave it a QLinearConv in ONNX Runtime 1.31.1, as its optimized
models show; behind the others (Concat, DepthToSpace, Gather, Resize, Tile, ...) it is a Conv."""


def fold_multiply(
    folder: Folder,
    op: ir_float.FloatConv | ir_float.FloatMatMul,
    finish_conv: Finish | None = None,
) -> None:
    """Codes times a dequantized constant, perhaps with a bias; a Conv ends by `finish_conv`."""
    data, constant, *biases = op.inputs
    columns = isinstance(op, ir_float.FloatMatMul) and data in folder.weights
    if columns:
        data, constant = constant, data
    x = folder.code_operand(data)
    weight = folder.weight_operand(constant, "weight")
    if x is None or weight is None:
        return
    if isinstance(op, ir_float.FloatConv):
        finish = finish_conv or finish_convolution
    else:
        finish = _columns_product if columns else _rows_product
    pending = Pending(
        op=op,
        inputs=(x,),
        finish=finish,
        weight=weight,
        origins=op.origins,
        as_float=_float_product if finish is _rows_product and not op.whole and not x.log else None,
        in_float=isinstance(op, ir_float.FloatConv) and _stays_in_float(folder, data),
    )
    for name in biases:
        shape = folder.graph.values[name].shape
        pending = _with_bias(
            folder, pending, name, (*shape, 1, 1) if isinstance(op, ir_float.FloatConv) else shape
        )
    folder.pending[op.name] = pending


def _stays_in_float(folder: Folder, name: str) -> bool:
    """Whether ONNX Runtime leaves a Conv of this value in float: behind moves of real numbers.

    It takes DequantizeLinear through some moves, so that the Conv reads codes all the same.
    """
    while isinstance(op := folder.makers.get(name), FLOAT_MOVES):
        made_for_layer = op.origins[0].operator == "Conv"  # a line as an image, own pads
        if not made_for_layer and op.origins[0].operator not in PASSED_BY_DEQUANTIZE:
            return True
        name = op.inputs[0]
    return False


def fold_whole(folder: Folder, op: ir_float.Whole) -> None:
    """Codes whose scale is not told here: 1, where nothing tells it."""
    zero_point = int(op.zero_point)
    code = folder.alias.get(op.inputs[0], op.inputs[0])
    if code in folder.constants:
        raise NotFoldable("multiplies two constants", "store the result as a constant")
    if code not in folder.values:
        return
    known = folder.values[code].quantization
    scale = 1.0 if known is None else known.scale
    folder.set_quantization(code, Quantization(scale=scale, zero_point=zero_point))
    folder.codes[op.name] = code


def fold_cast(folder: Folder, op: ir_float.Cast) -> None:
    """A Cast of sums of whole numbers to float32 changes nothing; others are the host's."""
    pending = folder.pending.get(op.inputs[0])
    if (
        pending is not None
        and isinstance(pending.op, ir_float.FloatConv | ir_float.FloatMatMul)
        and pending.op.whole
        and op.dtype == "float32"
    ):
        folder.pending[op.name] = replace(
            pending,
            origins=(*pending.origins, *op.origins),
            as_float=_float_product if pending.finish is _rows_product else None,
        )
    else:
        folder.keep(op)


def bias_operand(folder: Folder, name: str) -> Bias | None:
    """A constant, dequantized or real; None where its maker was refused already."""
    if name in folder.constants and folder.constants[name].dtype == np.float32:
        values = folder.constants[name]
        if not np.all(np.isfinite(values)):
            raise NotFoldable(f"bias '{name}' is not finite", "train or export the model again")
        return values
    return folder.weight_operand(name, "bias")


def takes_bias(folder: Folder, name: str) -> bool:
    """Whether a constant that is added to the float value `name` can be its layer's bias."""
    pending = folder.pending.get(name)
    return (
        pending is not None
        and pending.weight is not None
        and pending.bias is None
        and not pending.after
        and not pending.moves
    )


def add_bias(folder: Folder, op: ir_float.FloatAdd, source: str, constant: str) -> None:
    """The constant operand of an Add behind a layer becomes its bias."""
    pending = _with_bias(
        folder, folder.pending[source], constant, folder.graph.values[constant].shape
    )
    origins = (*pending.origins, *op.origins)
    folder.pending[op.name] = replace(pending, origins=origins)


def _channel_axis(pending: Pending, rank: int) -> int:
    """The axis of a layer's result along which each weight row makes its values."""
    if isinstance(pending.op, ir_float.FloatMatMul):
        return rank - (2 if pending.finish is _columns_product else 1)
    return 1


def _with_bias(folder: Folder, pending: Pending, name: str, bias: tuple[int, ...]) -> Pending:
    """A layer with a constant, of shape `bias` beside the result's, that has a value a channel."""
    assert pending.op is not None, "a layer has an operator"
    shape = folder.graph.values[pending.op.name].shape
    channel = _channel_axis(pending, len(shape))
    aligned = (1,) * (len(shape) - len(bias)) + bias
    if len(aligned) != len(shape) or any(
        d != 1 and (i != channel or d != shape[i]) for i, d in enumerate(aligned)
    ):
        raise NotFoldable(
            f"adds a constant {list(bias)} to {list(shape)}",
            "add one value for each output channel",
        )
    return replace(pending, bias=bias_operand(folder, name))


def _factors(pending: Pending) -> tuple[float, float]:
    """Gemm's alpha and beta, 1 of other operators."""
    if isinstance(pending.op, ir_float.FloatMatMul):
        return pending.op.alpha, pending.op.beta
    return 1.0, 1.0


def _bias(pending: Pending, acc_scale: FloatArray, output: Value) -> Int64Array:
    """Bias in units of `acc_scale`, one for each output channel."""
    channels, bias = acc_scale.shape[0], pending.bias
    if bias is None:
        return np.zeros(channels, dtype=np.int64)
    alpha, beta = _factors(pending)
    if isinstance(bias, Weight) and bias.codes.dtype.name == "int32":
        codes = bias.codes.reshape(-1).astype(np.int64)
        ratio = bias.scale.astype(np.float64) * (beta / acc_scale)
        wrong = (np.abs(ratio - 1) > BIAS_SCALE_TOLERANCE) & (codes != 0)
        if not np.any(wrong):
            return np.broadcast_to(codes, (channels,)).copy()
        if alpha == beta == 1:
            raise NotFoldable(
                f"bias scale is {ratio[wrong][0]:.6g} times input scale * weight scale",
                "quantize the bias with the product of input scale and weight scale",
            )
    real = bias.real() if isinstance(bias, Weight) else bias
    with np.errstate(over="ignore"):
        exact = np.float32(beta) * real.reshape(-1) / acc_scale
    largest = float(np.max(np.abs(exact)))
    if not largest < BIAS_LIMIT:
        raise NotFoldable(
            f"bias reaches {largest:.6g} times input scale * weight scale, beyond 32 bits",
            "check the bias: a dead channel should have the bias 0",
        )
    whole = np.rint(exact)
    if isinstance(bias, Weight) or real.ndim != 1 or not alpha == beta == 1:
        _refuse_coarse_bias(np.abs(exact - whole) * acc_scale, output)
    return np.broadcast_to(whole.astype(np.int64), (channels,)).copy()


def _refuse_coarse_bias(error: FloatArray, output: Value) -> None:
    """What ONNX Runtime does not round may move a result by a step, so half a step of error."""
    steps = float(np.max(error)) / output.quantization.scale if output.quantization else 0.0
    if steps > 0.5:
        raise NotFoldable(
            f"its sums are too coarse for the bias: rounding it moves results by {steps:.3g} steps",
            "quantize the bias to int32 with scale input * weight",
        )


def _input_scale(pending: Pending) -> np.float32:
    """The real value of 1 in the input's codes; whole numbers are their own."""
    if isinstance(pending.op, ir_float.FloatConv | ir_float.FloatMatMul) and pending.op.whole:
        return np.float32(1)
    return np.float32(quantization_of(pending.inputs[0]).scale)


def finish_convolution(
    pending: Pending, output: Value, origins: tuple[Origin, ...]
) -> ir_quantized.QuantizedConv:
    """The convolution of a group whose weight is [O, C / group, kh, kw]."""
    op = pending.op
    assert isinstance(op, ir_float.FloatConv)
    assert pending.weight is not None, "fold_qdq gives every convolution its weight"
    weight, weight_scale = pending.weight.centred(0)
    pending, steps = split_steps(pending, output.shape, _channel_axis(pending, len(output.shape)))
    acc_scale = _input_scale(pending) * weight_scale
    low, high = pending.clamp(output)
    return ir_quantized.QuantizedConv(
        inputs=(pending.inputs[0].name,),
        outputs=(output.name,),
        origins=origins,
        weight=weight,
        acc_scale=acc_scale,
        bias=_bias(pending, acc_scale, output),
        strides=op.strides,
        dilations=op.dilations,
        pads=op.pads,
        group=op.group,
        low=low,
        high=high,
        steps=steps,
    )


def _rows_product(pending: Pending, output: Value, origins: tuple[Origin, ...]) -> Op:
    return _product(pending, output, origins, columns=False)


def _columns_product(pending: Pending, output: Value, origins: tuple[Origin, ...]) -> Op:
    return _product(pending, output, origins, columns=True)


def _float_product(pending: Pending, output: Value) -> list[tuple[Op, Value]]:
    """A product whose result is real, as ONNX Runtime's MatMulIntegerToFloat and QGemm.

    A bias of int32 codes joins the sums, one of real numbers their real value.
    """
    bias = pending.bias
    if isinstance(bias, np.ndarray):
        product = replace(output, name=output.name + PRODUCT)
        scaled = np.asarray(np.float32(_factors(pending)[1]) * bias, dtype=np.float32)
        made = _float_product(replace(pending, bias=None), product)
        add = ir_float.Arithmetic(
            inputs=(product.name,), outputs=(output.name,), function="Add", constant=scaled
        )
        return [*made, (add, output)]
    layer = _product(pending, replace(output, dtype="int8"), pending.origins, columns=False)
    product_op = ir_quantized.FloatProduct(
        inputs=layer.inputs,
        outputs=(output.name,),
        origins=layer.origins,
        weight=layer.weight,
        acc_scale=layer.acc_scale,
        bias=layer.bias,
    )
    return [(product_op, output)]


def _product(
    pending: Pending, output: Value, origins: tuple[Origin, ...], *, columns: bool
) -> ir_quantized.QuantizedMatMul:
    op = pending.op
    assert isinstance(op, ir_float.FloatMatMul)
    assert pending.weight is not None, "fold_qdq gives every MatMul its weight"
    shape = pending.weight.codes.shape
    if any(d != 1 for d in shape[:-2]):
        raise NotFoldable(
            f"weight {list(shape)} holds several matrices", "multiply by one matrix a time"
        )
    weight, weight_scale = pending.weight.centred(len(shape) - (2 if columns else 1))
    weight = weight.reshape(shape[-2:])
    pending, steps = split_steps(pending, output.shape, _channel_axis(pending, len(output.shape)))
    # ONNX Runtime's QGemm multiplies alpha and the scales in this order, in float32.
    scale = np.float32(op.alpha) * _input_scale(pending)
    acc_scale = np.abs(scale) * weight_scale
    sign = np.int16(-1 if op.alpha < 0 else 1)
    low, high = pending.clamp(output)
    return ir_quantized.QuantizedMatMul(
        inputs=(pending.inputs[0].name,),
        outputs=(output.name,),
        origins=origins,
        weight=sign * (weight.T if columns else weight),
        acc_scale=acc_scale,
        bias=_bias(pending, acc_scale, output),
        columns=columns,
        low=low,
        high=high,
        steps=steps,
    )
