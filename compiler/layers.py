"""Layers: what one run of the accelerator's loop nest computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from qcompile.compiler.add_tables import AddTables
from qcompile.compiler.ir import Int8Array, Int64Array, Origin

Shape3 = tuple[int, int, int]
"""Channels, height, width of a tensor in the accelerator's memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A convolution (dense or depthwise) with what the drain path does to its sums.

    Attributes
    ----------
    kind : "dense" or "depthwise"
    operator : str
        What the user calls it: Conv, AveragePool, Add, ...
    input, output, residual : str
        Value names; `residual` is None without a residual operand.
    weight : int8
        [copies, out, in, kh, kw] or [copies, channels, kh, kw]; the copies of a tap add up to the
        tap's weight (more than one where some w - zero_point needs nine bits).
    bias : int64 [out]
        With -input_zero_point * sum(weight) folded in; fits int32.
    mantissa, shift : int64 [out]
    pad_code : int
        The input's zero point.
    """

    kind: Literal["dense", "depthwise"]
    operator: str
    name: str
    origins: tuple[Origin, ...]
    input: str
    output: str
    residual: str | None
    input_shape: Shape3
    output_shape: Shape3
    weight: Int8Array
    bias: Int64Array
    mantissa: Int64Array
    shift: Int64Array
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    pad_code: int
    zero_point: int
    low: int
    high: int
    zero_point_inside: bool
    table: Int8Array | None
    add_tables: AddTables | None
    macs: int

    @property
    def copies(self) -> int:
        """How many int8 weights a tap's weight is split into."""
        return int(self.weight.shape[0])

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of the window."""
        return int(self.weight.shape[-2]), int(self.weight.shape[-1])

    @property
    def acc_bound(self) -> int:
        """Largest |sum of products of raw codes| that the accumulator can see."""
        axes = tuple(range(1, self.weight.ndim - 1))
        flat = np.abs(self.weight.astype(np.int64)).sum(axis=0)
        return int(flat.reshape(flat.shape[0], -1).sum(axis=1).max() * 128) if axes else 0
