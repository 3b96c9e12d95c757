"""What fold_qdq knows about a float value, and how a finished group becomes a quantized op."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler import ir_float, ir_quantized
from qcompile.compiler.golden.float_rules import UnaryFunction, code_range, lookup_table
from qcompile.compiler.golden.float_rules import quantize_linear as quantize_codes
from qcompile.compiler.ir import Int64Array, Lookup, Op, Origin, Quantization, Reshape, Value

FloatArray = npt.NDArray[np.float32]

BIAS_SCALE_TOLERANCE = 1e-6
"""Relative difference from input scale * weight scale up to which a bias scale is rounding.

ONNX Runtime's integer kernels never read the bias scale; beyond this the model means another bias.
"""


class NotFoldable(Exception):
    """A group that cannot become an integer operation: the message's end, and the way out."""

    def __init__(self, message: str, help: str) -> None:
        super().__init__(message)
        self.message = message
        self.help = help


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A dequantized constant: codes, and scale and zero point, [] or along `axis`."""

    codes: npt.NDArray[Any]
    scale: FloatArray
    zero_point: Int64Array
    axis: int

    def centred(self, channel_axis: int) -> tuple[npt.NDArray[np.int16], FloatArray]:
        """Codes minus zero point, and one scale for each position along `channel_axis`."""
        if self.codes.dtype.name not in ("int8", "uint8"):
            raise NotFoldable(
                f"weight codes are {self.codes.dtype.name}", "quantize weights to int8 or uint8"
            )
        if self.scale.ndim and self.axis != channel_axis:
            raise NotFoldable(
                f"weight scales run along axis {self.axis}",
                f"quantize weights per tensor or per output channel (axis {channel_axis})",
            )
        shape = [1] * self.codes.ndim
        if self.scale.ndim:
            shape[self.axis] = -1
        centred = self.codes.astype(np.int64) - self.zero_point.reshape(shape)
        channels = self.codes.shape[channel_axis]
        return centred.astype(np.int16), np.broadcast_to(self.scale, (channels,)).copy()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A float computation on codes that waits for the QuantizeLinear which ends its group.

    `op` is the float operator, None for the codes themselves; `inputs` are code values.
    """

    op: Op | None
    inputs: tuple[Value, ...]
    weight: Weight | None = None
    bias: Weight | None = None
    clips: tuple[ir_float.Clip, ...] = ()
    origins: tuple[Origin, ...] = ()

    def clipped(self, clip: ir_float.Clip) -> Pending:
        """The same with one more clamp behind it."""
        origins = (*self.origins, *clip.origins)
        return replace(self, clips=(*self.clips, clip), origins=origins)


def per_tensor(op: ir_float.DequantizeLinear | ir_float.QuantizeLinear) -> Quantization:
    """The one scale and zero point of an activation."""
    if op.scale.ndim:
        raise NotFoldable(
            f"quantizes an activation with {op.scale.size} scales",
            "use one scale a tensor for activations",
        )
    return Quantization(scale=float(op.scale), zero_point=int(op.zero_point))


def one_per_channel(bias: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether a bias adds one value to each channel: axis 1 of images, the last one of vectors."""
    channel = 1 if len(shape) == 4 else len(shape) - 1
    aligned = (1,) * (len(shape) - len(bias)) + bias
    return len(aligned) == len(shape) and all(
        d == 1 or (i == channel and d == shape[i]) for i, d in enumerate(aligned)
    )


def moved_weight(weight: Weight, op: Reshape | ir_float.Transpose) -> Weight:
    """A constant in another shape or order of axes, with its scales along the same axis."""
    if isinstance(op, ir_float.Transpose):
        axis = op.permutation.index(weight.axis) if weight.scale.ndim else 0
        return replace(weight, codes=weight.codes.transpose(op.permutation), axis=axis)
    if weight.scale.ndim and op.shape != weight.codes.shape:
        raise NotFoldable("reshapes a constant with several scales", "store it in its final shape")
    return replace(weight, codes=weight.codes.reshape(op.shape))


def quantization_of(value: Value) -> Quantization:
    """A code value's quantization, which fold_qdq has made sure of."""
    if value.quantization is None:
        raise NotFoldable(f"'{value.name}' has no scale", "add DequantizeLinear behind it")
    return value.quantization


def clamp_codes(clips: tuple[ir_float.Clip, ...], output: Value) -> tuple[int, int]:
    """Lowest and highest code that clamps leave: clamping before or after rounding is the same."""
    low, high = code_range(output.dtype)
    for clip in clips:
        for bound, raises in ((clip.low, True), (clip.high, False)):
            if bound is None:
                continue
            real = np.asarray(bound, dtype=np.float32)
            code = int(quantize_codes(real, quantization_of(output), output.dtype))
            change = max if raises else min
            low, high = change(low, code), change(high, code)
    return low, high


def finish(pending: Pending, output: Value, origin: tuple[Origin, ...]) -> Op:
    """The quantized operation of a group whose result is the code value `output`."""
    origins = (*pending.origins, *origin)
    match pending.op:
        case None:
            return _lookup(pending, output, origins)
        case ir_float.FloatConv():
            return _conv(pending, pending.op, output, origins)
        case ir_float.FloatMatMul():
            return _matmul(pending, pending.op, output, origins)
        case ir_float.FloatAdd():
            return _add(pending, output, origins)
        case ir_float.FloatAveragePool():
            return _average_pool(pending, pending.op, output, origins)
        case _:
            raise NotFoldable("cannot be quantized", "use QuantizeLinear behind another operator")


def _lookup(pending: Pending, output: Value, origins: tuple[Origin, ...]) -> Op:
    x = pending.inputs[0]
    table = lookup_table(
        tuple(_clip_function(clip) for clip in pending.clips),
        quantization_of(x),
        quantization_of(output),
        dtype=x.dtype,
        output_dtype=output.dtype,
    )
    return Lookup(inputs=(x.name,), outputs=(output.name,), origins=origins, table=table)


def _clip_function(clip: ir_float.Clip) -> UnaryFunction:
    low = -np.inf if clip.low is None else clip.low
    high = np.inf if clip.high is None else clip.high
    return lambda x: np.minimum(np.maximum(x, np.float32(low)), np.float32(high))


def _bias(pending: Pending, weight_scale: FloatArray) -> Int64Array:
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


def _conv(
    pending: Pending, op: ir_float.FloatConv, output: Value, origins: tuple[Origin, ...]
) -> Op:
    assert pending.weight is not None, "fold_qdq gives every convolution its weight"
    weight, weight_scale = pending.weight.centred(0)
    low, high = clamp_codes(pending.clips, output)
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


def _matmul(
    pending: Pending, op: ir_float.FloatMatMul, output: Value, origins: tuple[Origin, ...]
) -> Op:
    assert pending.weight is not None, "fold_qdq gives every MatMul its weight"
    weight, weight_scale = pending.weight.centred(0 if op.transposed else 1)
    low, high = clamp_codes(pending.clips, output)
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


def _add(pending: Pending, output: Value, origins: tuple[Origin, ...]) -> Op:
    a, b = pending.inputs
    if a.shape != b.shape:
        raise NotFoldable(
            f"adds shapes {list(a.shape)} and {list(b.shape)}", "add tensors of one shape"
        )
    if not a.dtype == b.dtype == output.dtype:
        raise NotFoldable(
            f"mixes {a.dtype}, {b.dtype} and {output.dtype}",
            "quantize both operands and the result to one type",
        )
    low, high = clamp_codes(pending.clips, output)
    return ir_quantized.QuantizedAdd(
        inputs=(a.name, b.name), outputs=(output.name,), origins=origins, low=low, high=high
    )


def _average_pool(
    pending: Pending, op: ir_float.FloatAveragePool, output: Value, origins: tuple[Origin, ...]
) -> Op:
    low, high = clamp_codes(pending.clips, output)
    return ir_quantized.QuantizedAveragePool(
        inputs=(pending.inputs[0].name,),
        outputs=(output.name,),
        origins=origins,
        kernel=op.kernel,
        strides=op.strides,
        pads=op.pads,
        divisor=op.divisor,
        whole_image=op.whole_image,
        low=low,
        high=high,
    )
