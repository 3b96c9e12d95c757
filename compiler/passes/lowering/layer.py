"""Layers from an operation's numbers: zero points folded, weights split, constants fitted."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.golden.log_domain import fraction_bits, multiples
from qcompile.compiler.layers import Layer, Shape3
from qcompile.compiler.log_format import LogFormat
from qcompile.compiler.passes.channels import HALF_SHIFT, hardware_channels

Mode = Literal["exact", "shift"]

COPY_WEIGHT = 2
"""With a requantization by a half a copy is exact in both modes."""


def shape3(graph: ir.Graph, name: str) -> Shape3:
    """A value's shape as channels, height, width."""
    shape = graph.values[name].shape
    if len(shape) == 2:
        return shape[1], 1, 1
    if len(shape) == 4:
        return shape[1], shape[2], shape[3]
    if len(shape) == 3:
        return shape[1], 1, shape[2]
    raise UnsupportedError(
        f"'{name}': a tensor of rank {len(shape)} does not fit the memory layout",
        help="use tensors of shape [1, channels, height, width] or [1, features]",
    )


def operator_of(op: ir.Op) -> str:
    """What the user calls the operation."""
    return op.origins[0].operator if op.origins else type(op).__name__


def copy_requant(mode: Mode, channels: int, log: LogFormat | None = None) -> ir.Requant:
    """Half of every sum, in int64 [channels]: undoes `COPY_WEIGHT`; `log` is the input's format."""
    ones = np.ones(channels, np.int64)
    if log is not None:
        last = COPY_WEIGHT * multiples(log)[: -log.classes - 1 : -1]
        return ir.Requant(
            mode="log",
            mantissa=0 * ones,
            shift=0 * ones,
            zero_point=0,
            low=0,
            high=log.levels - 1,
            log=log,
            limits=np.repeat(last[:, np.newaxis], channels, axis=1),
        )
    exact = mode == "exact"
    return ir.Requant(
        mode=mode,
        mantissa=ones << 23 if exact else ones,
        shift=ones * (HALF_SHIFT if exact else 1),
        zero_point=0,
    )


def copy_layer(
    op: ir.Op,
    mode: Mode,
    source: str,
    shapes: tuple[Shape3, Shape3],
    *,
    strides: tuple[int, int] = (1, 1),
    pads: tuple[int, int] = (0, 0),
    pad_code: int = 0,
    inverted: bool = False,
    log: LogFormat | None = None,
) -> Layer:
    """A depthwise layer of one tap: output pixel (y, x) is input pixel (y, x) * strides - pads.

    Pixels beyond the input have the code `pad_code`. `inverted` codes are -1 - code;
    `log` is the format of logarithmic ones.
    """
    channels = shapes[1][0]
    weight = -COPY_WEIGHT if inverted else COPY_WEIGHT
    layer = make_layer(
        op,
        operator=operator_of(op),
        kind="depthwise",
        source=source,
        shapes=shapes,
        weight=np.full((channels, 1, 1), weight, np.int16),
        bias=np.full(channels, -COPY_WEIGHT if inverted else 0, np.int64),
        strides=strides,
        dilations=(1, 1),
        pads=(*pads, 0, 0),
        input_zero_point=0,
        requant=copy_requant(mode, channels, log),
        macs=0,
        log=log,
    )
    return replace(layer, pad_code=pad_code)


def make_layer(
    op: ir.Op,
    *,
    operator: str,
    kind: Literal["dense", "depthwise"],
    source: str,
    shapes: tuple[Shape3, Shape3],
    weight: ir.Int16Array,
    bias: ir.Int64Array,
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int, int, int],
    input_zero_point: int,
    requant: ir.Requant,
    macs: int,
    log: LogFormat | None = None,
) -> Layer:
    """The layer that makes `op`'s output from the tensor `source`; `shapes` are of both, `log` is
    the format of the source's codes."""
    ends = (-128 - input_zero_point, 127 - input_zero_point)
    if log is not None:
        ends = (0, (int(multiples(log)[-1]) >> fraction_bits(log.step)) + 1)
    channels = hardware_channels(op, weight, bias, ends, requant)
    weight, bias = channels.weight, channels.bias
    flat = weight.reshape(weight.shape[0], -1).astype(np.int64)
    folded = bias - (input_zero_point * flat.sum(axis=1) << requant.fraction)
    if np.abs(folded).max(initial=0) >= 1 << 31:
        raise UnsupportedError(f"'{op.name}': bias and zero point correction exceed 32 bits")
    return Layer(
        kind=kind,
        operator=operator,
        name=op.name,
        origins=op.origins,
        input=source,
        output=op.outputs[0],
        residual=None,
        input_shape=shapes[0],
        output_shape=shapes[1],
        weight=_split_weights(weight),
        bias=folded,
        mantissa=channels.mantissa,
        shift=channels.shift,
        strides=strides,
        dilations=dilations,
        pads=pads,
        pad_code=input_zero_point,
        zero_point=requant.zero_point,
        low=requant.low,
        high=requant.high,
        zero_point_inside=requant.zero_point_inside,
        fraction=requant.fraction > 0,
        reads=log,
        limits=channels.limits,
        table=_clamp(requant),
        add_tables=None,
        macs=macs,
    )


def _clamp(requant: ir.Requant) -> ir.Int8Array | None:
    """The table that clamps logarithmic codes; the encoder does not."""
    if requant.log is None or (requant.low, requant.high) == (0, requant.log.levels - 1):
        return None
    return np.arange(-128, 128).clip(requant.low, requant.high).astype(np.int8)


def _split_weights(weight: ir.Int16Array) -> ir.Int8Array:
    """int8 arrays along a new first axis that add up to `weight`: one, two, or three for 255."""
    parts = [np.clip(weight, -128, 127)]
    while np.any(rest := weight - sum(parts)):
        parts.append(np.clip(rest, -128, 127))
    return np.stack(parts).astype(np.int8)
