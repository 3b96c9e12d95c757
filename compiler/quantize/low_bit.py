"""Weights of two or three values and activations of two.

Sources: Li and Liu, "Ternary Weight Networks" (2016); Rastegari et al., "XNOR-Net" (ECCV 2016),
which also has binary weights alone (BWN).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler.quantize.layer import (
    Layer,
    LayerCodes,
    layers_of,
    quantize_bias,
    scales_with_room,
    usable_scales,
)
from qcompile.compiler.quantize.prepare import Network

Array = npt.NDArray[Any]
TERNARY_THRESHOLD = 0.7
"""Of the mean magnitude: weights below it become 0."""
BINARY_LEVELS = (-1, 1)
TERNARY_LEVELS = (-1, 0, 1)
ROUNDS = 50
"""Of the search for two levels, which converges in fewer."""


def ternary_codes(layer: Layer) -> tuple[Array, Array]:
    """int8 codes -1, 0, 1 and float32 scales a channel: the mean magnitude of what is not 0."""
    magnitude = np.abs(layer.weights)
    threshold = TERNARY_THRESHOLD * _channel_mean(layer, magnitude)
    kept = magnitude > layer.by_channel(threshold)
    count = np.maximum(_channel_mean(layer, kept.astype(np.float64)), 1e-30)
    alpha = _channel_mean(layer, magnitude * kept) / count
    return (np.sign(layer.weights) * kept).astype(np.int8), usable_scales(alpha)


def binary_codes(layer: Layer) -> tuple[Array, Array]:
    """int8 codes -1 and 1, 0 counting as positive, and float32 scales: the mean magnitude."""
    codes = np.where(layer.weights < 0, -1, 1).astype(np.int8)
    return codes, usable_scales(_channel_mean(layer, np.abs(layer.weights)))


def low_bit_layer(
    layer: Layer, codes: Array, scales: Array, operand_scale: np.float32, levels: tuple[int, ...]
) -> LayerCodes:
    """The layer with these codes, its bias in steps of their sums."""
    scales = scales_with_room(layer, scales, operand_scale)
    return LayerCodes(
        weights=codes,
        scales=scales,
        bias=quantize_bias(layer, layer.bias, scales, operand_scale),
        levels=levels,
    )


def inner_layers(network: Network, *, int8_depthwise: bool) -> frozenset[str]:
    """Names of all layers but the first and the last one, which keep 8 bits, as in XNOR-Net.

    So do depthwise ones where that was asked for.
    """
    return frozenset(
        layer.node.name
        for layer in layers_of(network)[1:-1]
        if not (layer.depthwise and int8_depthwise)
    )


def _channel_mean(layer: Layer, values: Array) -> Array:
    others = tuple(one for one in range(values.ndim) if one != layer.axis)
    return np.asarray(values.mean(axis=others))


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoLevels:
    """max(x, 0) as centre + spread * sign(x - threshold), sign(0) being 1."""

    threshold: float
    centre: float
    spread: float


def two_levels(values: Array) -> TwoLevels:
    """The two levels with the least squared error of max(values, 0) (Lloyd's iteration).

    Their means are the levels, half way between them is the threshold.
    """
    rectified = np.maximum(values.reshape(-1).astype(np.float64), 0)
    threshold = float(rectified.mean())
    low, high = 0.0, 2 * threshold or 1e-6
    for _ in range(ROUNDS):
        above = rectified >= threshold
        if above.all() or not above.any():
            break
        low, high = float(rectified[~above].mean()), float(rectified[above].mean())
        if threshold == (low + high) / 2:
            break
        threshold = (low + high) / 2
    return TwoLevels(threshold=threshold, centre=(low + high) / 2, spread=(high - low) / 2)
