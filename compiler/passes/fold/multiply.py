"""Folds Conv, MatMul and Gemm, with a bias that is added behind them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from qcompile.compiler import ir_float, ir_quantized
from qcompile.compiler.ir import Int64Array, Op, Origin, Value
from qcompile.compiler.passes.fold.folder import Folder
from qcompile.compiler.passes.fold.groups import NotFoldable, Pending, Weight, quantization_of

BIAS_SCALE_TOLERANCE = 1e-6
"""Relative difference from input scale * weight scale up to which a bias scale is rounding.

ONNX Runtime's integer kernels never read the bias scale; beyond this the model means another bias.
"""


def fold_multiply(folder: Folder, op: ir_float.FloatConv | ir_float.FloatMatMul) -> None:
    """Codes times a dequantized constant, perhaps with a bias."""
    x = folder.code_operand(op.inputs[0])
    weight = folder.weight_operand(op.inputs[1], "weight")
    bias = folder.weight_operand(op.inputs[2], "bias") if len(op.inputs) > 2 else None
    if x is None or weight is None:
        return
    folder.pending[op.name] = Pending(
        op=op,
        inputs=(x,),
        finish=_conv if isinstance(op, ir_float.FloatConv) else _matmul,
        weight=weight,
        bias=bias,
        origins=op.origins,
    )


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


def add_bias(folder: Folder, op: ir_float.FloatAdd, source: str, bias: Weight) -> None:
    """The constant operand of an Add behind a layer becomes its bias."""
    pending = folder.pending[source]
    shape = folder.graph.values[source].shape
    if not one_per_channel(bias.codes.shape, shape):
        raise NotFoldable(
            f"adds a constant {list(bias.codes.shape)} to {list(shape)}",
            "add one value for each output channel",
        )
    origins = (*pending.origins, *op.origins)
    folder.pending[op.name] = replace(pending, bias=bias, origins=origins)


def one_per_channel(bias: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a bias adds one value to each channel: axis 1 of images, the last one of vectors."""
    channel = 1 if len(shape) == 4 else len(shape) - 1
    aligned = (1,) * (len(shape) - len(bias)) + bias
    return len(aligned) == len(shape) and all(
        d == 1 or (i == channel and d == shape[i]) for i, d in enumerate(aligned)
    )


def _bias(pending: Pending, weight_scale: npt.NDArray[np.float32]) -> Int64Array:
    """Bias codes at scale input * weight, one for each output channel."""
    channels = weight_scale.shape[0]
    if pending.bias is None:
        return np.zeros(channels, dtype=np.int64)
    codes = pending.bias.codes.reshape(-1).astype(np.int64)
    if pending.bias.codes.dtype.name != "int32" or codes.size not in (1, channels):
        raise NotFoldable(
            f"bias codes are {pending.bias.codes.dtype.name}{list(pending.bias.codes.shape)}",
            f"quantize the bias to int32[{channels}] with scale input * weight",
        )
    expected = np.float32(quantization_of(pending.inputs[0]).scale) * weight_scale
    ratio = pending.bias.scale.astype(np.float64) / expected
    wrong = (np.abs(ratio - 1) > BIAS_SCALE_TOLERANCE) & (codes != 0)
    if np.any(wrong):
        raise NotFoldable(
            f"bias scale is {ratio[wrong][0]:.6g} times input scale * weight scale",
            "quantize the bias with the product of input scale and weight scale",
        )
    return np.broadcast_to(codes, (channels,)).copy()


def _conv(pending: Pending, output: Value, origins: tuple[Origin, ...]) -> Op:
    op = pending.op
    assert isinstance(op, ir_float.FloatConv)
    assert pending.weight is not None, "fold_qdq gives every convolution its weight"
    weight, weight_scale = pending.weight.centred(0)
    low, high = pending.clamp(output)
    return ir_quantized.QuantizedConv(
        inputs=(pending.inputs[0].name,),
        outputs=(output.name,),
        origins=origins,
        weight=weight,
        weight_scale=weight_scale,
        bias=_bias(pending, weight_scale),
        strides=op.strides,
        dilations=op.dilations,
        pads=op.pads,
        group=op.group,
        low=low,
        high=high,
    )


def _matmul(pending: Pending, output: Value, origins: tuple[Origin, ...]) -> Op:
    op = pending.op
    assert isinstance(op, ir_float.FloatMatMul)
    assert pending.weight is not None, "fold_qdq gives every MatMul its weight"
    weight, weight_scale = pending.weight.centred(0 if op.transposed else 1)
    low, high = pending.clamp(output)
    return ir_quantized.QuantizedMatMul(
        inputs=(pending.inputs[0].name,),
        outputs=(output.name,),
        origins=origins,
        weight=weight.T if op.transposed else weight,
        weight_scale=weight_scale,
        bias=_bias(pending, weight_scale),
        low=low,
        high=high,
    )
