"""The intermediate representation: a graph of frozen operations over named, typed values.

Three levels share these classes. `frontend` makes the *float* level (QuantizeLinear and
DequantizeLinear still apart), `fold_qdq` and `fuse_requant` turn it into the *integer* level, in
which the accelerator's part of the graph holds only the operations of this file's second half:
integer codes in, integer codes out, rounding as `golden.numerics` defines it. Operations before
and after the accelerator's part run on the host (`Model.prologue`, `Model.epilogue`).

Activation codes of the integer level are int8 always: a uint8 tensor's codes and zero point are
moved by -128 where it enters the accelerator's part, and back where it leaves.
Layout of shapes is ONNX's: [1, channels, height, width] or [1, features].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from qcompile.compiler.log_format import LogFormat

Int64Array = npt.NDArray[np.int64]
Int32Array = npt.NDArray[np.int32]
Int16Array = npt.NDArray[np.int16]
Int8Array = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an operation comes from: an ONNX node's name, operator and index in the file."""

    node: str
    operator: str
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """Affine quantization of a tensor: real = scale * (code - zero_point), scale a float32."""

    scale: float
    zero_point: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A named tensor: shape, numpy dtype name, and its quantization where it has one.

    `name` is the ONNX tensor's name (of the QuantizeLinear output for codes), so that layers can
    be compared with ONNX Runtime's tensors by name. Codes of a tensor with a `log` format are
    the format's, 0 to levels - 1, and its scale is the value of code 1.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    quantization: Quantization | None = None
    log: LogFormat | None = None

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """Base of all operations. `inputs` and `outputs` name values of the graph."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    origins: tuple[Origin, ...] = ()

    @property
    def name(self) -> str:
        """The first output's name, by which reports call the operation."""
        return self.outputs[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Operations in topological order over values; inputs and outputs by name."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: dict[str, Value]
    ops: tuple[Op, ...]


# ------------------------------------------------------------------ integer level, accelerator


FRACTION_BITS = 7
"""Of accumulators whose bias has a fraction: steps fine enough for 256 thresholds (fit_requant)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requant:
    """Accumulator to int8 code, per output channel, as `golden.numerics.requantize` defines it.

    Attributes
    ----------
    mode : "exact", "shift" or "log"
        `exact`: code = RNE(RNE24(|acc| * mantissa) * 2**-shift) with acc's sign, + zero_point.
        `shift`: code = RNE(acc * 2**-shift) + zero_point; mantissa is all ones (1).
        `log`: code is the number of thresholds that acc has reached, clamped; `limits` has those
        of the last codes. Mantissa, shift and zero_point are 0.
    mantissa : int64 [channels]
        24-bit mantissa of the float32 scale, in [2**23, 2**24); 0 where the channel is constant.
    shift : int64 [channels]
        Right shift, 0..63.
    zero_point, low, high : int
        Of the output's int8 codes; low and high include a fused Relu or Clip.
    zero_point_inside : bool
        Ties go to the even *code* (Add, AveragePool) and not to the even multiple of the scale.
    fraction : int
        Bits of an accumulator's fraction, 0 or `FRACTION_BITS`: it is the sum of products, shifted
        left by so many, and the bias, and is multiplied as it is, without `exact`'s first rounding.
    log : LogFormat or None
        Mode `log`: of the codes.
    limits : int64 [classes, channels] or None
        Mode `log`: `golden.log_domain.limits` of each channel.
    """

    mode: Literal["exact", "shift", "log"]
    mantissa: Int64Array
    shift: Int64Array
    zero_point: int
    low: int = -128
    high: int = 127
    zero_point_inside: bool = False
    fraction: int = 0
    log: LogFormat | None = None
    limits: Int64Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv(Op):
    """2-D convolution of int8 codes: requant(sum((w) * (x - input_zero_point)) + bias).

    `weight` is int16 [out, in / group, kh, kw] with its zero point already subtracted, so
    -255..255; `bias` int64 [out]; `pads` top, left, bottom, right (padding is the input's zero
    point). MatMul and Gemm are the 1x1 case on [1, features, 1, 1]; depthwise is
    group == in == out. Input and output values are 4-D.

    With a `log` format of the input x is what its codes stand for, `golden.log_domain.multiples`.
    Their fraction stays in the sum of logarithmic outputs, and the bias gets as much; for linear
    ones the sum is rounded, halves up, to as much as `requant` says, before the bias.
    """

    KIND: ClassVar[str] = "conv"
    weight: Int16Array
    bias: Int64Array
    input_zero_point: int
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    group: int
    requant: Requant
    log: LogFormat | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragePool(Op):
    """Sum over a window of int8 codes, then requant, per channel.

    acc = weight * sum(x - input_zero_point) over in-bounds taps; `pads` only where every window has
    the same divisor (so that padding with the zero point is exact). `weight`, 1..127, is there for
    divisors whose reciprocal a mantissa or a shift holds badly. `log` as in `Conv`.
    """

    KIND: ClassVar[str] = "average_pool"
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    input_zero_point: int
    requant: Requant
    weight: int = 1
    log: LogFormat | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary(Op):
    """Elementwise function of two tensors (Add, Sub, Mul): code = table[a + 128, b + 128].

    `table` int8 [256, 256] is made by ONNX Runtime's float rule for all operand pairs, with the
    output's clamp applied; the hardware's two constant tables are proved against it. Shapes
    broadcast as numpy's do.
    """

    KIND: ClassVar[str] = "binary"
    table: Int8Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(Op):
    """A constant operand of a Binary: int8 codes [1, ...], the same for every sample."""

    KIND: ClassVar[str] = "constant"
    data: Int8Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup(Op):
    """Unary function of an int8 code: code = table[x + 128]; `table` int8 [256]."""

    KIND: ClassVar[str] = "lookup"
    table: Int8Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax(Op):
    """Shares of up to 1,024 codes along `axis`, in the log domain: `golden.log_functions.softmax`.

    Result codes are shares - 128, of which `steps` (256 at most) are the whole. `powers` and `logs`
    are int64 [256], tables of how far a code is below the largest one, -255 first. `mode` is the
    network's requantization, in which its layers write their shifts.
    """

    KIND: ClassVar[str] = "softmax"
    mode: Literal["exact", "shift"]
    axis: int
    steps: int
    powers: Int64Array
    logs: Int64Array


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool(Op):
    """Largest code of a window; `pads` top, left, bottom, right never win. 4-D values."""

    KIND: ClassVar[str] = "max_pool"
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Select(Op):
    """Codes in other places: Transpose, Slice, Concat, Pad, nearest Resize, DepthToSpace, ...

    For each sample the inputs' codes, row-major and one input after the other, make one list;
    output element i is entry `index[i]` of it, or `fill` where index is -1. `index` int32 has the
    output's shape, with its leading 1. `joins_parts`: the inputs are parts of one layer's result,
    so that the accelerator puts them together.
    """

    KIND: ClassVar[str] = "select"
    index: Int32Array
    fill: int = 0
    joins_parts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshape(Op):
    """Same codes in another shape (Reshape, Flatten, Squeeze, Unsqueeze), row-major as ONNX."""

    KIND: ClassVar[str] = "reshape"
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What the frontend and the integer passes make of a file.

    `prologue` runs on the host before the accelerator's `graph`, `epilogue` after it: lists of
    plain dicts (operation name, inputs, outputs, attributes as JSON values) that
    `runtime.host_ops` executes with numpy alone, in the same form in which the manifest records
    them. `inputs`/`outputs` are the ONNX model's own.
    """

    name: str
    path: str
    sha256: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    prologue: tuple[dict[str, object], ...]
    graph: Graph
    epilogue: tuple[dict[str, object], ...]
    notes: tuple[str, ...] = field(default=())
    external: tuple[str, ...] = field(default=())
