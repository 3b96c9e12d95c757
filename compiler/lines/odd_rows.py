"""Depthwise layers in two bands: rows of pixels for all lines, and the few that are left.

Lines that lie across rows of pixels are all in use until the last group of lines. The rows of that
one take fewer cycles as a layer of their own, whose lines may lie along the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

from qcompile.compiler.layers import Layer
from qcompile.compiler.lines.machine import LinesMachine
from qcompile.compiler.passes.row_bands import Chain, cut_chain

MARK = ":rows"


def cut_odd_rows(layers: Sequence[Layer], machine: LinesMachine) -> tuple[Layer, ...]:
    """The layers, those in two bands that are estimated to take fewer cycles so."""
    return tuple(part for layer in layers for part in _cut(layer, machine))


def _cut(layer: Layer, machine: LinesMachine) -> tuple[Layer, ...]:
    height, lines = layer.output_shape[1], machine.config.lines
    whole = height // lines * lines
    fixed = layer.residual is not None or layer.weight_source is not None or layer.band > 0
    if layer.kind != "depthwise" or fixed or layer.region is not None or whole in (0, height):
        return (layer,)
    chain = Chain(layers=(layer,), shapes={})
    parts = cut_chain(chain, [range(whole), range(whole, height)], MARK)
    cycles = [machine.estimate(ways) for ways in ((layer,), parts)]
    if cycles[0] is None or cycles[1] is None or cycles[0] <= cycles[1]:
        return (layer,)
    return parts
