"""Writes a quantized operator as DequantizeLinear, float operator and QuantizeLinear.

An operator such as QLinearConv is what ONNX Runtime itself makes of these three, so that one way
through the compiler serves both forms. The result keeps the node's output name; values between
have it as their prefix: `y:x`, `y:w`, `y:bias` are dequantized operands, `y:float` is the result
before its QuantizeLinear.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from qcompile.compiler import ir_float
from qcompile.compiler.frontend.node_reader import Importer, NodeReader, Refusal
from qcompile.compiler.frontend.operators import CODES
from qcompile.compiler.frontend.parameters import ScaleAndZero, does_not_fit, read_scale
from qcompile.compiler.ir import Op, Value


class Expansion:
    """The operations that one node becomes, in order; values are added as operands are asked for.

    Positions are those of the node's inputs: of the codes, their scale and their zero point.
    """

    def __init__(self, node: NodeReader) -> None:
        self.node = node
        self.steps: list[tuple[Op, Value]] = []

    def add(self, op: Op, value: Value) -> Value:
        """One more operation and the value that it makes."""
        self.steps.append((op, value))
        return value

    def name(self, suffix: str) -> str:
        """Name of a value between."""
        return f"{self.node.output}:{suffix}"

    def operand(
        self, at: tuple[int, int, int], suffix: str, *, channels: int | None = None
    ) -> Value:
        """Codes of int8 or uint8, dequantized; one scale, or one for each along `channels`."""
        x = self.node.value(at[0])
        if x.dtype not in CODES:
            raise Refusal(
                f"input '{x.name}' has type {x.dtype}", help="only int8 and uint8 are supported"
            )
        parameters = self._parameters(x, (at[1], at[2]), channels)
        return self._dequantize(x, parameters, suffix)

    def bias(self, position: int, scale: npt.NDArray[np.float32]) -> list[Value]:
        """An int32 bias [channels] of the given scale, [] or [channels]; nothing if it is absent.

        `scale` is what ONNX Runtime's integer kernels take it for: input * weight.
        """
        if self.node.name_of(position) is None:
            return []
        codes = self.node.constant(position, "bias")
        b = self.node.value(position)
        if codes is None or b.dtype != "int32":
            raise Refusal(f"bias '{b.name}' has type {b.dtype}, not int32", broken=True)
        if scale.ndim and codes.shape[-1:] != scale.shape:
            raise Refusal(
                f"bias '{b.name}' {list(b.shape)} does not fit {scale.size} weight scales",
                help="give the bias one value for each output channel",
            )
        parameters = (scale, np.zeros(scale.shape, np.int64), len(b.shape) - 1 if scale.ndim else 0)
        return [self._dequantize(b, parameters, "bias")]

    def scale(self, position: int) -> npt.NDArray[np.float32]:
        """A constant scale, [] where it holds one number and else a list."""
        scale = read_scale(self.node, position)
        return scale.reshape(()) if scale.size == 1 else scale.reshape(-1)

    def compute(
        self,
        importer: Importer,
        operands: Sequence[Value],
        *,
        opset: int | None = None,
        output: str | None = None,
    ) -> Value:
        """The float operator, read by its own importer."""
        made = importer(self.node.inner(operands, output or self.name("float"), opset=opset))
        self.steps.extend([made] if isinstance(made, tuple) else made)
        return self.steps[-1][1]

    def quantize(
        self, real: Value, scale_at: int, zero_at: int, *, default: str | None = None
    ) -> list[tuple[Op, Value]]:
        """End with the QuantizeLinear whose result has the node's output name.

        `default` is the type of the codes where there is no zero point.
        """
        self.codes(real, (scale_at, zero_at), self.node.output, default=default)
        return self.steps

    def codes(
        self, real: Value, at: tuple[int, int], name: str, *, default: str | None = None
    ) -> Value:
        """A QuantizeLinear of one scale."""
        zero = self.node.constant(at[1], "zero point")
        dtype = default if zero is None else zero.dtype.name
        if dtype not in CODES:
            raise Refusal(f"makes {dtype} codes", help="quantize activations to int8 or uint8")
        value = Value(name=name, shape=real.shape, dtype=dtype)
        scale, zero_point, axis = self._parameters(value, at, None)
        op = ir_float.QuantizeLinear(
            inputs=(real.name,),
            outputs=(name,),
            origins=(self.node.origin,),
            scale=scale,
            zero_point=zero_point,
            axis=axis,
            dtype=dtype,
        )
        return self.add(op, value)

    def _dequantize(self, x: Value, parameters: ScaleAndZero, suffix: str) -> Value:
        scale, zero_point, axis = parameters
        op = ir_float.DequantizeLinear(
            inputs=(x.name,),
            outputs=(self.name(suffix),),
            origins=(self.node.origin,),
            scale=scale,
            zero_point=zero_point,
            axis=axis,
        )
        return self.add(op, Value(name=op.name, shape=x.shape, dtype="float32"))

    def _parameters(self, x: Value, at: tuple[int, int], channels: int | None) -> ScaleAndZero:
        """One scale and zero point, or lists along the axis `channels`; one of them may repeat."""
        scale = read_scale(self.node, at[0])
        zero = self.node.constant(at[1], "zero point")
        if zero is None:
            zero = np.zeros((), dtype=x.dtype)
        if zero.dtype.name != x.dtype:
            raise Refusal(f"zero point is {zero.dtype.name}, codes are {x.dtype}", broken=True)
        if max(scale.ndim, zero.ndim) > 1 and not _one_row(x, channels, (scale.shape, zero.shape)):
            raise does_not_fit(scale, zero, f"'{x.name}': both are numbers or lists")
        zeros = zero.astype(np.int64)
        if scale.size == 1 and zero.size == 1:
            return scale.reshape(()), zeros.reshape(()), 0
        if channels is None:
            raise does_not_fit(scale, zero, f"'{x.name}', which has one of each")
        count = x.shape[channels]
        if scale.size not in (1, count) or zero.size not in (1, count):
            raise does_not_fit(scale, zero, f"axis {channels} of {list(x.shape)}")
        scales = np.broadcast_to(scale.reshape(-1), (count,)).copy()
        return scales, np.broadcast_to(zeros.reshape(-1), (count,)).copy(), channels


def _one_row(x: Value, channels: int | None, shapes: tuple[tuple[int, ...], ...]) -> bool:
    """Whether parameters are rows [1, columns] of a matrix, which QLinearMatMul takes too."""
    row = (1, *x.shape[1:])
    return len(x.shape) == 2 and channels == 1 and row != (1, 1) and {*shapes} <= {row, ()}
