"""Layers with more output channels than the array counts, as several that write a part each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from qcompile.compiler.layers import Layer, Region
from qcompile.compiler.machine import Machine


def split_wide(machine: Machine, layers: list[Layer]) -> Iterator[Layer]:
    """The layers in their order, wide ones in parts; the last part has the layer's name."""
    for layer in layers:
        most = machine.most_channels(layer)
        channels = layer.output_shape[0]
        if channels <= most or layer.region is not None:
            yield layer
            continue
        begins = range(0, channels, most)
        for part, begin in enumerate(begins):
            made = _part(layer, begin, min(begin + most, channels))
            if part < len(begins) - 1:
                made = replace(made, name=f"{layer.name}:channels{part}", inner=True)
            yield made


def _part(layer: Layer, begin: int, end: int) -> Layer:
    channels = layer.output_shape[0]
    return replace(
        layer,
        weight=layer.weight[:, begin:end],
        bias=layer.bias[begin:end],
        mantissa=layer.mantissa[begin:end],
        shift=layer.shift[begin:end],
        limits=None if layer.limits is None else layer.limits[:, begin:end],
        output_shape=(end - begin, *layer.output_shape[1:]),
        region=Region(shape=layer.output_shape, channel=begin),
        input_channel=layer.input_channel + (begin if layer.kind == "depthwise" else 0),
        macs=layer.macs * (end - begin) // channels,
    )
