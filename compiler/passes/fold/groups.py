"""What fold_qdq knows about a float value: codes, a weight, or a group that is not finished."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler import ir_float
from qcompile.compiler.golden.float_rules import code_range
from qcompile.compiler.golden.float_rules import quantize_linear as quantize_codes
from qcompile.compiler.golden.unary import UnaryOp, unary_function
from qcompile.compiler.ir import (
    Int64Array,
    MaxPool,
    Op,
    Origin,
    Quantization,
    Reshape,
    Select,
    Value,
)

FloatArray = npt.NDArray[np.float32]

Move = Reshape | ir_float.Transpose | ir_float.Select | MaxPool
MOVES = (Reshape, ir_float.Transpose, Select, MaxPool)
"""Operations that only choose among values, of the float and of the quantized level."""


CodeMove = Reshape | ir_float.Transpose | Select | MaxPool
"""The same operations on codes."""


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

    def real(self) -> FloatArray:
        """The real numbers."""
        shape = [1] * self.codes.ndim
        if self.scale.ndim:
            shape[self.axis] = -1
        centred = self.codes.astype(np.int64) - self.zero_point.reshape(shape)
        return np.asarray(centred.astype(np.float32) * self.scale.reshape(shape))

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


Made = Op | list[tuple[Op, Value]]
"""What a group becomes: one operation, or several in order with the values that they make."""

Finish = Callable[["Pending", Value, tuple[Origin, ...]], Made]
"""Makes what a group becomes: the group, the code value that its QuantizeLinear makes, origins of
the whole group. Raises NotFoldable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A float computation on codes that waits for the QuantizeLinear which ends its group.

    `op` is the float operator, None for the codes themselves; `inputs` are code values; `after`
    are the functions of one value that follow, in their order. An elementwise operator of two
    values has `operands`, each a group or a constant. `moves` follow too,
    each with the shape that it makes; functions of one value do not care where a value stands, so
    the group ends in codes that are moved behind it. `as_float` makes a real result for the host.
    With `in_float` ONNX Runtime multiplies real numbers, and adds a real bias as it is. `size`
    counts the operators of two values, those that are reached on several ways as often.
    """

    op: Op | None
    inputs: tuple[Value, ...]
    finish: Finish
    weight: Weight | None = None
    bias: Weight | FloatArray | None = None
    operands: tuple[Pending | Weight, ...] = ()
    after: tuple[UnaryOp, ...] = ()
    moves: tuple[tuple[Move, tuple[int, ...]], ...] = ()
    origins: tuple[Origin, ...] = ()
    as_float: Callable[[Pending, Value], list[tuple[Op, Value]]] | None = None
    in_float: bool = False
    size: int = 0

    def followed_by(self, function: UnaryOp) -> Pending:
        """The same with one more function behind it, which what fills a selection passes too."""
        if not isinstance(function, ir_float.Clip):
            for move, _ in self.moves:
                if isinstance(move, MaxPool):  # it commutes with functions that never fall
                    raise NotFoldable(
                        f"{function.function} reads the float result of {move.origins[0].operator}",
                        f"add QuantizeLinear and DequantizeLinear in front of {function.function}",
                    )
        origins = (*self.origins, *function.origins)
        moves = tuple((_filled_with(move, function), shape) for move, shape in self.moves)
        return replace(self, after=(*self.after, function), moves=moves, origins=origins)

    def clamp(self, output: Value) -> tuple[int, int]:
        """Lowest and highest code that the clamps behind leave; NotFoldable behind a function.

        Clamping before or after rounding is the same.
        """
        log = output.log
        low, high = code_range(output.dtype) if log is None else (0, log.levels - 1)
        for clip in self.after:
            if not isinstance(clip, ir_float.Clip):
                maker = "" if self.op is None else f" of {self.origins[0].operator}"
                reader = clip.origins[0].operator if clip.origins else clip.function
                raise NotFoldable(
                    f"{reader} reads the float result{maker}",
                    f"add QuantizeLinear and DequantizeLinear in front of {reader}",
                )
            for bound, raises in ((clip.low, True), (clip.high, False)):
                if bound is None:
                    continue
                real = np.asarray(bound, dtype=np.float32)
                if log is None:
                    code = int(quantize_codes(real, quantization_of(output), output.dtype))
                else:
                    code = int(log.codes(real))
                change = max if raises else min
                low, high = change(low, code), change(high, code)
        return low, high


def _filled_with(move: Move, function: UnaryOp) -> Move:
    if not isinstance(move, ir_float.Select):
        return move
    fill = unary_function(function)(np.asarray(move.fill, dtype=np.float32))
    return replace(move, fill=float(fill))


def per_tensor(
    op: ir_float.DequantizeLinear | ir_float.QuantizeLinear | ir_float.LogQuantize,
) -> Quantization:
    """The one scale and zero point of an activation."""
    if op.scale.ndim:
        raise NotFoldable(
            f"quantizes an activation with {op.scale.size} scales",
            "use one scale a tensor for activations",
        )
    return Quantization(scale=float(op.scale), zero_point=int(op.zero_point))


def quantization_of(value: Value) -> Quantization:
    """A code value's quantization, which fold_qdq has made sure of."""
    if value.quantization is None:
        raise NotFoldable(f"'{value.name}' has no scale", "add DequantizeLinear behind it")
    return value.quantization
