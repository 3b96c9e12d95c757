"""Operations of the quantized level: codes in, codes out, in the model's own integer types.

`fold_qdq` makes them of DequantizeLinear, operator, QuantizeLinear groups and `fuse_requant` turns
them into the integer level. Scales are still float32 and live in the values (`Value.quantization`)
and in `acc_scale`. `low` and `high` are a fused Relu or Clip, in codes of the output's type.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompile.compiler.golden.unary import UnaryOp
from qcompile.compiler.ir import Int8Array, Int16Array, Int64Array, Op

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedConv(Op):
    """Convolution; `weight` int16 [O, C / group, kh, kw], its zero point subtracted.

    `acc_scale` float32 [O] is the real value of 1 in the sums of products and in `bias`. `steps`
    are float operators on the sums' real values, with constants [] or [O].
    """

    weight: Int16Array
    acc_scale: FloatArray
    bias: Int64Array
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    group: int
    low: int
    high: int
    steps: tuple[UnaryOp, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedMatMul(Op):
    """Matrix product; `weight` int16 [K, N], its zero point subtracted; the rest as in Conv.

    The input is vectors of K as rows [..., R, K]; or as columns [..., K, R] with `columns`, and so
    is the result.
    """

    weight: Int16Array
    acc_scale: FloatArray
    bias: Int64Array
    columns: bool
    low: int
    high: int
    steps: tuple[UnaryOp, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatProduct(Op):
    """Matrix product of codes with a real result, rows [..., K] to [..., N], for the host.

    float32(sum of (x - zero point) * weight) * acc_scale; members as in QuantizedMatMul.
    """

    weight: Int16Array
    acc_scale: FloatArray
    bias: Int64Array


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedBinary(Op):
    """Elementwise function of two tensors, a table int8 [256, 256] as in `ir.Binary`."""

    table: Int8Array


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedAveragePool(Op):
    """Mean over windows of `divisor` codes; `whole_image` chooses GlobalAveragePool's rounding."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    divisor: int
    whole_image: bool
    low: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedSoftmax(Op):
    """Softmax of codes along one axis, as ONNX Runtime's QLinearSoftmax."""

    axis: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipSoftmax(Op):
    """Softmax of codes over the channels of an image, for the accelerator: see `ir.Softmax`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantize(Op):
    """Real to code at the model's edge, by the output value's quantization."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuantize(Op):
    """Real to code at the model's edge, by the output value's `log` format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dequantize(Op):
    """Code to real at the model's edge, by the input value's quantization."""
