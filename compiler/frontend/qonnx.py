"""Importers of QONNX's quantizers: Quant (IntQuant) and BipolarQuant, as Brevitas exports them.

They have real numbers in and out. Of a constant they make codes at once; elsewhere they are a Clip,
QuantizeLinear and DequantizeLinear, as qonnx's own conversion to QCDQ writes them. The codes of a
node with the result `y` are called `y:codes`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompile.compiler import ir_float
from qcompile.compiler.frontend.node_reader import Imported, NodeReader, Refusal
from qcompile.compiler.frontend.operators import Operator
from qcompile.compiler.frontend.parameters import read_scale
from qcompile.compiler.golden.float_rules import code_range
from qcompile.compiler.ir import Op, Value

DOMAINS = ("finn.custom_op.general", "onnx.brevitas", "qonnx.custom_op.general")
CODES = ":codes"
CLIPPED = ":clipped"
SIGN = ":sign"
MAX_BITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantizer:
    """What a node quantizes to.

    Attributes
    ----------
    scale : float32, [] or [channels] along `axis`
    zero_point : int
    low, high : int
        Range of the codes.
    dtype : "int8" or "uint8"
    axis : int
    """

    scale: npt.NDArray[np.float32]
    zero_point: int
    low: int
    high: int
    dtype: str
    axis: int

    def codes(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.integer]:
        """Codes of a constant: x / scale + zero point, clamped, rounded to even."""
        shape = [1] * x.ndim
        if self.scale.ndim:
            shape[self.axis] = -1
        ratio = x / self.scale.reshape(shape) + np.float32(self.zero_point)
        return np.asarray(np.rint(np.clip(ratio, self.low, self.high)), dtype=self.dtype)


def code_bounds(bits: int, *, signed: bool, narrow: bool) -> tuple[int, int]:
    """Lowest and highest code; narrow leaves out the lowest signed or the highest unsigned one."""
    if signed:
        return -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1
    return 0, 2**bits - 1 - narrow


def quant(node: NodeReader) -> Imported:
    """Quant and IntQuant of 1 to 8 bits with rounding to even."""
    x = node.float_input(0)
    signed, narrow = (_flag(node, name) for name in ("signed", "narrow"))
    mode = str(node.attribute("rounding_mode", "ROUND"))
    if mode.upper() != "ROUND":
        raise Refusal(f"rounding_mode={mode} is not supported", help="train with ROUND")
    scale, axis = quantizer_scale(node, x)
    bits = whole_number(node, 3, "bit width")
    if not 1 <= bits <= MAX_BITS:
        raise Refusal(
            f"quantizes to {bits} bits", help=f"use bit widths of 1 to {MAX_BITS} for all tensors"
        )
    if bits == 1 and signed:
        return _bipolar(node, x, scale, axis)  # qonnx takes it for BipolarQuant, too
    low, high = code_bounds(bits, signed=signed, narrow=narrow)
    zero_point = whole_number(node, 2, "zero point")
    dtype = "int8" if signed else "uint8"
    if not code_range(dtype)[0] <= zero_point <= code_range(dtype)[1]:
        raise Refusal(f"zero point {zero_point} is no {dtype}", broken=True)
    quantizer = Quantizer(
        scale=scale, zero_point=zero_point, low=low, high=high, dtype=dtype, axis=axis
    )
    return _quantized(node, x, quantizer)


def bipolar_quant(node: NodeReader) -> Imported:
    """BipolarQuant: scale where the input is not negative, else -scale."""
    x = node.float_input(0)
    scale, axis = quantizer_scale(node, x)
    return _bipolar(node, x, scale, axis)


def _bipolar(node: NodeReader, x: Value, scale: npt.NDArray[np.float32], axis: int) -> Imported:
    quantizer = Quantizer(scale=scale, zero_point=0, low=-1, high=1, dtype="int8", axis=axis)
    data = node.known(0)
    if data is not None:
        return _constant(node, x, np.where(data >= 0, 1, -1).astype(np.int8), quantizer)
    refuse_channels(scale)
    sign = Value(name=node.output + SIGN, shape=x.shape, dtype="float32")
    bipolar = ir_float.Unary(
        inputs=(x.name,),
        outputs=(sign.name,),
        origins=(node.origin,),
        function="Bipolar",
        parameters=(("scale", float(scale)),),
    )
    return [(bipolar, sign), *_clipped(node, sign, quantizer)]


def _quantized(node: NodeReader, x: Value, quantizer: Quantizer) -> Imported:
    data = node.known(0)
    if data is not None:
        return _constant(node, x, quantizer.codes(data), quantizer)
    refuse_channels(quantizer.scale)
    if (quantizer.low, quantizer.high) == code_range(quantizer.dtype):
        return codes_and_back(node, x, quantizer)
    return _clipped(node, x, quantizer)


def _clipped(node: NodeReader, x: Value, quantizer: Quantizer) -> list[tuple[Op, Value]]:
    clipped = Value(name=node.output + CLIPPED, shape=x.shape, dtype="float32")
    low, high = (
        float(np.float32(bound - quantizer.zero_point) * quantizer.scale)
        for bound in (quantizer.low, quantizer.high)
    )
    clip = ir_float.Clip(
        inputs=(x.name,),
        outputs=(clipped.name,),
        origins=(node.origin,),
        low=low,
        high=high,
        of_codes=True,
    )
    return [(clip, clipped), *codes_and_back(node, clipped, quantizer)]


def refuse_channels(scale: npt.NDArray[np.float32]) -> None:
    if scale.ndim:
        raise Refusal(
            f"quantizes an activation with {scale.size} scales",
            help="use one scale a tensor for activations",
        )


def codes_and_back(node: NodeReader, x: Value, quantizer: Quantizer) -> list[tuple[Op, Value]]:
    name = node.output + CODES
    quantize = ir_float.QuantizeLinear(
        inputs=(x.name,),
        outputs=(name,),
        origins=(node.origin,),
        scale=quantizer.scale,
        zero_point=np.asarray(quantizer.zero_point, dtype=np.int64),
        axis=0,
        dtype=quantizer.dtype,
    )
    codes = Value(name=name, shape=x.shape, dtype=quantizer.dtype)
    return [(quantize, codes), _dequantized(node, codes, quantizer)]


def _constant(
    node: NodeReader, x: Value, codes: npt.NDArray[np.integer], quantizer: Quantizer
) -> Imported:
    value = Value(name=node.output + CODES, shape=x.shape, dtype=quantizer.dtype)
    constant = ir_float.Constant(
        inputs=(), outputs=(value.name,), origins=(node.origin,), data=codes
    )
    return [(constant, value), _dequantized(node, value, quantizer)]


def _dequantized(node: NodeReader, codes: Value, quantizer: Quantizer) -> tuple[Op, Value]:
    zero_point = np.full(quantizer.scale.shape, quantizer.zero_point, dtype=np.int64)
    op = ir_float.DequantizeLinear(
        inputs=(codes.name,),
        outputs=(node.output,),
        origins=(node.origin,),
        scale=quantizer.scale,
        zero_point=zero_point,
        axis=quantizer.axis,
    )
    return op, Value(name=node.output, shape=codes.shape, dtype="float32")


def _flag(node: NodeReader, name: str) -> bool:
    """An attribute that the operator's definition wants to be there."""
    value = node.attribute(name, kind=int)
    if value is None:
        raise Refusal(f"has no attribute {name}", broken=True)
    return bool(value)


def whole_number(node: NodeReader, position: int, what: str) -> int:
    """A constant that is one whole number, whatever its type."""
    array = node.constant(position, what)
    if array is None or array.size != 1 or not float(array.reshape(())).is_integer():
        raise Refusal(f"{what} is no single whole number", help="use one for the whole tensor")
    return int(array.reshape(()))


def quantizer_scale(
    node: NodeReader, x: Value, position: int = 1
) -> tuple[npt.NDArray[np.float32], int]:
    """One scale, or one for each position along one axis of the input, and that axis."""
    scale = read_scale(node, position)
    if scale.size == 1:
        return scale.reshape(()), 0
    aligned = (1,) * (len(x.shape) - scale.ndim) + scale.shape
    long = [axis for axis, size in enumerate(aligned) if size != 1]
    if len(aligned) != len(x.shape) or len(long) != 1 or aligned[long[0]] != x.shape[long[0]]:
        raise Refusal(
            f"scale {list(scale.shape)} for {list(x.shape)} is not supported",
            help="use one scale a tensor, or one along one axis",
        )
    return scale.reshape(-1), long[0]


_QUANT = Operator(
    read=quant,
    runs=("accelerator", "folded", "host"),
    attributes={"narrow": "", "rounding_mode": "ROUND", "signed": ""},
    remark="1 to 8 bits; as Clip, QuantizeLinear and DequantizeLinear, in ONNX Runtime too; of "
    "constants codes are made",
)
OPERATORS: dict[str, Operator] = {
    "BipolarQuant": Operator(
        read=bipolar_quant, runs=("accelerator", "host"), remark="as Quant of one bit"
    ),
    "IntQuant": _QUANT,
    "Quant": _QUANT,
}
