"""Layers: what one run of the accelerator's loop nest computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qcompile.compiler.add_tables import AddTables
from qcompile.compiler.ir import Int8Array, Int64Array, Origin
from qcompile.compiler.log_format import LogFormat

Shape3 = tuple[int, int, int]
"""Channels, height, width of a tensor in the accelerator's memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """The part of a tensor that a layer writes, where it does not write all of it.

    Pixel (y, x) of the layer's channel word g lies at pixel
    (start[0] + y * steps[0], start[1] + x * steps[1]) of the tensor's channel word that begins with
    channel + channel_step * g.

    Attributes
    ----------
    shape : Shape3
        The whole tensor's.
    channel, channel_step : int
        Whole words; without a step the next word.
    """

    shape: Shape3
    channel: int = 0
    channel_step: int | None = None
    start: tuple[int, int] = (0, 0)
    steps: tuple[int, int] = (1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A constant tensor [channels, height, width], which the program stores before all layers."""

    name: str
    codes: Int8Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A convolution (dense or depthwise) with what the drain path does to its sums.

    Attributes
    ----------
    kind : "dense" or "depthwise"
    operator : str
        What the user calls it: Conv, AveragePool, Add, ...
    name : str
        By which reports call it: the output's name, with a suffix where the layer is `inner`.
    input, output, residual : str
        Value names; `residual` is None without a residual operand.
    input_shape, output_shape : Shape3
        The whole input tensor, and what this layer makes.
    input_channel, input_channel_step : int
        First input channel that the weights are for, and by how many it moves on from one group of
        a word's output channels to the next; whole words.
    region : Region or None
        Where the layer's part of the output tensor lies; None: it makes all of it.
    residual_channel : int
        Channel of the residual tensor that is added to the output *tensor's* channel 0, the first
        of a word; the two have the same height and width.
    weight_source : str or None
        A tensor whose words, in their order, are the weight words that the plan asks for; `weight`
        then has their shape and bounds their sums.
    stored : tuple of Stored
        Those of the operands that are constant.
    inner : bool
        The model has no tensor for what stands at `output` after this layer.
    band : int
        Which of its operation's bands of rows this is; the later ones have the weights of band 0.
    weight : int8
        [copies, out, in, kh, kw] or [copies, channels, kh, kw]; the copies of a tap add up to the
        tap's weight (more than one where some w - zero_point needs nine bits). `in` counts from
        `input_channel` on.
    bias : int64 [out]
        With -input_zero_point * sum(weight) folded in; fits int32.
    mantissa, shift : int64 [out]
    strides, pads : ints
        May be negative or zero where a layer only copies: a window then starts inside the tensor.
    pad_code : int
        What reads beyond the tensor give: the input's zero point.
    fraction : bool
        The bias counts parts of a sum: see `ir.Requant.fraction`.
    reads : LogFormat or None
        Of the input's codes, where they are logarithmic.
    limits : int64 [classes, out] or None
        Outputs are logarithmic codes: what sums must reach for the last ones, see `ir.Requant`.
    pairs : int8 [16, 256] or None
        The finished code by residual code and by the layer's own, -128 at 128; on an array of
        shifts, where it is the larger one without.
    halves : bool
        The memory's codes have four bits, and the output is linear: two channels for each code,
        first its low four bits, then the others.
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
    input_channel: int = 0
    input_channel_step: int = 0
    region: Region | None = None
    residual_channel: int = 0
    weight_source: str | None = None
    stored: tuple[Stored, ...] = ()
    inner: bool = False
    fraction: bool = False
    band: int = 0
    reads: LogFormat | None = None
    limits: Int64Array | None = None
    pairs: Int8Array | None = None
    halves: bool = False

    @property
    def tensor_shape(self) -> Shape3:
        """Shape of the whole output tensor."""
        return self.region.shape if self.region else self.output_shape

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
        """Largest |sum of products of raw codes| that the accumulator can see.

        In front of the encoder the bias is counted too, for which it has no more bits.
        """
        axes = tuple(range(1, self.weight.ndim - 1))
        flat = np.abs(self.weight.astype(np.int64)).sum(axis=0)
        sums = flat.reshape(flat.shape[0], -1).sum(axis=1)
        if self.reads is not None:
            bias = np.abs(self.bias) if self.limits is not None else 0
            return int(((sums << self.reads.octaves) + bias).max())
        return int(sums.max() * 128) if axes else 0


def stored_tensors(layers: Sequence[Layer]) -> dict[str, Int8Array]:
    """Codes of all constant operands, by name."""
    return {stored.name: stored.codes for layer in layers for stored in layer.stored}
