"""Linear results in a memory of logarithmic codes of four bits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompile.compiler.ir import Int8Array
from qcompile.compiler.layers import Layer


def in_halves(layer: Layer) -> Layer:
    """A layer that makes each of its channels twice: once for a code's low four bits, once for
    the others. A depthwise layer becomes a dense one, since two channels read the same."""
    channels, height, width = layer.output_shape
    region = layer.region
    if region is not None:
        shape = (2 * region.shape[0], *region.shape[1:])
        steps = None if region.channel_step is None else 2 * region.channel_step
        region = replace(region, shape=shape, channel=2 * region.channel, channel_step=steps)
    weight = layer.weight if layer.kind == "dense" else _dense(layer.weight)

    def twice(values: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.repeat(values, 2, axis=axis)

    return replace(
        layer,
        kind="dense",
        output_shape=(2 * channels, height, width),
        region=region,
        weight=twice(weight, axis=1),
        bias=twice(layer.bias),
        mantissa=twice(layer.mantissa),
        shift=twice(layer.shift),
        limits=None if layer.limits is None else twice(layer.limits),
        halves=True,
    )


def _dense(weight: Int8Array) -> Int8Array:
    """[copies, channels, kh, kw] -> [copies, channels, channels, kh, kw], zeros elsewhere."""
    copies, channels, *kernel = weight.shape
    dense = np.zeros((copies, channels, channels, *kernel), np.int8)
    every = np.arange(channels)
    dense[:, every, every] = weight
    return dense
