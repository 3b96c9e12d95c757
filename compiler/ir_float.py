"""Operations of the float level: ONNX as it is written, with every attribute resolved.

QuantizeLinear and DequantizeLinear stand apart from the float operators between them; constants
are operations without inputs. `frontend` makes this level and `fold_qdq` consumes it. Shapes of
all values are known; auto_pad, default values and axes from the end are already worked out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from qcompile.compiler.ir import Int32Array, Op

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(Op):
    """An initializer or Constant node; `data` in its ONNX type and shape."""

    data: npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeLinear(Op):
    """Real to code. `scale` float32 and `zero_point` int64, both [] or [channels of `axis`].

    `states_zero_point`: the node has one, and not the default 0; `join_pairs` asks for it.
    """

    scale: FloatArray
    zero_point: npt.NDArray[np.int64]
    axis: int
    dtype: str
    states_zero_point: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DequantizeLinear(Op):
    """Code to real; parameters as in QuantizeLinear."""

    scale: FloatArray
    zero_point: npt.NDArray[np.int64]
    axis: int
    states_zero_point: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuantize(Op):
    """Real to a code of the output value's `log` format; `scale` [] is the value of code 1."""

    scale: FloatArray
    zero_point: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole(Op):
    """Code to code minus `zero_point` []: what ConvInteger and MatMulInteger multiply."""

    zero_point: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatConv(Op):
    """Inputs x [1, C, H, W], w [O, C / group, kh, kw], perhaps b [O]. Pads: t, l, b, r.

    `whole`: x is a Whole of codes, and so is the result, whatever their scale.
    """

    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    group: int
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatConvTranspose(FloatConv):
    """ConvTranspose: weight [C, O / group, kh, kw]; the value's shape is the output's size.

    Input i and tap k add to position i * stride + k * dilation - pad; `pads` end is not looked at.
    Output o is position o * down.
    """

    down: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatMatMul(Op):
    """alpha * a @ b + beta * c: a [..., M, K], b [..., K, N], perhaps c, as in Gemm.

    `whole` as in FloatConv.
    """

    alpha: float = 1.0
    beta: float = 1.0
    whole: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatAdd(Op):
    """Elementwise sum; shapes broadcast as numpy's, and one operand may be a constant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatSub(Op):
    """Elementwise difference, as FloatAdd."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatMul(Op):
    """Elementwise product, as FloatAdd."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatDiv(Op):
    """Elementwise quotient, as FloatAdd."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prelu(Op):
    """Inputs x and a constant slope that broadcasts to it: x >= 0 ? x : slope * x."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic(Op):
    """x and a constant: one of FloatAdd to Prelu once the constant is known, float32.

    `constant` broadcasts to x; `constant_first` is constant - x and constant / x.
    """

    function: Literal["Add", "Sub", "Mul", "Div", "Prelu"]
    constant: FloatArray
    constant_first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip(Op):
    """Clamp of real numbers, or of codes; None is no bound. A Relu is low = 0.

    `of_codes`: real bounds that stand for a Clip of the codes behind the next QuantizeLinear.
    """

    low: float | None
    high: float | None
    of_codes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unary(Op):
    """A function of one value, one of `golden.unary.FUNCTIONS`, with its constants by name."""

    function: str
    parameters: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatAveragePool(Op):
    """Mean over windows, each of `divisor` values.

    `whole_image` is a window as large as the image without pads: ONNX Runtime then rounds as in
    GlobalAveragePool, whichever of the two operators the model has.
    """

    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    divisor: int
    whole_image: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Transpose(Op):
    """Axes reordered, `numpy.transpose(x, permutation)`."""

    permutation: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Select(Op):
    """Values of one tensor in other places, as `ir.Select`; `fill` is a real number."""

    index: Int32Array
    fill: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Concat(Op):
    """Tensors one behind the other along `axis`, which is counted from the front."""

    axis: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgMax(Op):
    """int64 index of the largest value along `axis`, the first or the last of several."""

    axis: int
    keepdims: bool
    select_last_index: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax(Op):
    """Softmax along one axis."""

    axis: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast(Op):
    """ONNX Cast between number types."""

    dtype: str
