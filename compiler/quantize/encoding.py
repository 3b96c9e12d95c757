"""What the codes of an activation stand for, and how that is written as ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from qcompile.compiler.quantize.writer import Writer

Array = npt.NDArray[Any]
LOWEST, HIGHEST = -128, 127


class Encoding(Protocol):
    """A finite set of real values, with 0 among them, that an activation is rounded to."""

    @property
    def scale(self) -> np.float32:
        """Positive; a layer's sums, and its bias, count in steps of this times a weight's scale."""
        ...

    @property
    def zero_point(self) -> int | None:
        """The code of 0, for the report; None where codes have none."""
        ...

    def rounded(self, values: Array) -> Array:
        """Real values float32 [...], each as the nearest one that has a code."""
        ...

    def write(self, writer: Writer, source: str, name: str, result: str) -> None:
        """Nodes that make `result`, the rounded real values, of tensor `source`.

        New tensors and constants get names that start with `name` and a slash.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """`real = scale * (code - zero_point)`, codes int8, scale a positive float32.

    Codes end at `low` and `high`. What was unsigned, as behind a Relu, has zero point -128.
    """

    scale: np.float32
    zero_point: int
    low: int = LOWEST
    high: int = HIGHEST

    def quantize(self, values: Array) -> Array:
        """Codes of real values: QuantizeLinear, ties to even, saturating."""
        codes = np.rint(np.asarray(values, np.float32) / self.scale) + self.zero_point
        return np.asarray(np.clip(codes, self.low, self.high), np.int8)

    def rounded(self, values: Array) -> Array:
        """Real values, rounded to those that codes stand for."""
        return np.asarray((self.quantize(values).astype(np.float32) - self.zero_point) * self.scale)

    def write(self, writer: Writer, source: str, name: str, result: str) -> None:
        """QuantizeLinear and DequantizeLinear; a Clip before them where codes end early."""
        if (self.low, self.high) != (LOWEST, HIGHEST):
            ends = [
                writer.constant(f"{name}/{end}", (code - self.zero_point) * self.scale)
                for end, code in (("low", self.low), ("high", self.high))
            ]
            source = writer.node("Clip", [source, *ends], f"{name}/clipped")
        pair = [
            writer.constant(f"{name}/scale", np.float32(self.scale)),
            writer.constant(f"{name}/zero_point", np.int8(self.zero_point)),
        ]
        codes = writer.node("QuantizeLinear", [source, *pair], f"{name}/codes")
        writer.node("DequantizeLinear", [codes, *pair], result)


def signal_to_noise(values: Array, rounded: Array) -> float:
    """SQNR in decibels: power of the values over that of their errors; infinite without errors."""
    noise = float(np.sum((np.asarray(rounded, np.float64) - values) ** 2))
    signal = float(np.sum(np.asarray(values, np.float64) ** 2))
    return float("inf") if noise == 0 else 10 * float(np.log10(max(signal, 1e-300) / noise))
