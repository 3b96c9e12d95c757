"""Convolutions and pools of averages as layers; groups as blocks of a dense weight."""

from __future__ import annotations

from dataclasses import replace
from math import lcm

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.layers import Layer, Region, Shape3
from qcompile.compiler.machine import Machine, cheapest
from qcompile.compiler.passes.lowering.layer import (
    COPY_WEIGHT,
    Mode,
    copy_layer,
    copy_requant,
    make_layer,
    operator_of,
    shape3,
)


def convolution(machine: Machine, graph: ir.Graph, op: ir.Conv, source: str) -> tuple[Layer, ...]:
    """The layers of a convolution that reads `source`; the last one has its name."""
    in_shape, out_shape = shape3(graph, op.inputs[0]), shape3(graph, op.outputs[0])
    if op.group == in_shape[0] == out_shape[0]:
        return (_plain(op, source, (in_shape, out_shape), depthwise=True),)
    if op.group == 1:
        layer = _plain(op, source, (in_shape, out_shape), depthwise=False)
        words = -(-in_shape[0] // machine.word_channels)
        no_loop_left = layer.copies > 1 and min(words, *layer.kernel) > 1
        if not no_loop_left:
            return (layer,)
        return cheapest(machine, [(layer,), _widened(op, layer, machine.word_channels)])
    return cheapest(machine, grouped_forms(machine.word_channels, graph, op, source))


def grouped_forms(word: int, graph: ir.Graph, op: ir.Conv, source: str) -> list[tuple[Layer, ...]]:
    """All ways to make layers of a convolution with groups; `word` is the channels of a word."""
    shapes = shape3(graph, op.inputs[0]), shape3(graph, op.outputs[0])
    compact = _plain(op, source, shapes, depthwise=False)
    forms = [(_whole(op, compact),), _blocks(op, compact, word)]
    if op.weight.shape[1] == 1:
        forms.append(_repeated(op, source, shapes))
    return forms


def _plain(op: ir.Conv, source: str, shapes: tuple[Shape3, Shape3], *, depthwise: bool) -> Layer:
    """A layer with the operation's own weight, which for groups is only a store of numbers."""
    return make_layer(
        op,
        operator=operator_of(op),
        kind="depthwise" if depthwise else "dense",
        source=source,
        shapes=shapes,
        weight=op.weight[:, 0] if depthwise else op.weight,
        bias=op.bias,
        strides=op.strides,
        dilations=op.dilations,
        pads=op.pads,
        input_zero_point=op.input_zero_point,
        requant=op.requant,
        log=op.log,
        macs=op.weight[0].size * int(np.prod(shapes[1])),
    )


def average_pool(graph: ir.Graph, op: ir.AveragePool, source: str) -> Layer:
    """A depthwise layer of equal weights."""
    in_shape, out_shape = shape3(graph, op.inputs[0]), shape3(graph, op.outputs[0])
    channels = in_shape[0]
    return make_layer(
        op,
        operator="AveragePool",
        kind="depthwise",
        source=source,
        shapes=(in_shape, out_shape),
        weight=np.full((channels, *op.kernel), op.weight, np.int16),
        bias=np.zeros(channels, np.int64),
        strides=op.strides,
        dilations=(1, 1),
        pads=op.pads,
        input_zero_point=op.input_zero_point,
        requant=op.requant,
        log=op.log,
        macs=0,
    )


def _whole(op: ir.Conv, compact: Layer) -> Layer:
    """One dense layer, zeros outside the groups' blocks."""
    channels = np.arange(compact.output_shape[0])
    window = compact.input_shape[0]
    return _part(op, compact, channels, window=window, first=0)


def _blocks(op: ir.Conv, compact: Layer, word: int) -> tuple[Layer, ...]:
    """Dense layers that read the words of their own groups only.

    The smallest number of groups that fills whole words of input and of output is a block. A layer
    does either one word of all blocks, with a window that moves on from block to block, or all
    words of one block.
    """
    inputs, outputs = op.weight.shape[1], op.weight.shape[0] // op.group
    groups = lcm(
        word // np.gcd(inputs, word),
        word // np.gcd(outputs, word),
    )
    block_in, block_out = groups * inputs, groups * outputs
    blocks = -(-op.group // groups)
    total = compact.output_shape[0]
    parts = []
    if block_out // word > blocks:
        for block in range(blocks):
            channels = np.arange(block * block_out, min(total, (block + 1) * block_out))
            first = block * block_in
            part = _part(op, compact, channels, window=block_in, first=first)
            region = Region(shape=compact.output_shape, channel=block * block_out)
            parts.append(replace(part, region=region))
        return _named(parts)
    for begin in range(0, min(block_out, total), word):
        starts = np.arange(begin, total, block_out)
        channels = (starts[:, np.newaxis] + np.arange(word)).reshape(-1)
        first = begin // outputs * inputs // word * word
        end = ((begin + word - 1) // outputs + 1) * inputs
        used = channels[channels < total]
        part = _part(op, compact, used, window=end - first, first=first, step=(block_in, word))
        region = Region(shape=compact.output_shape, channel=begin, channel_step=block_out)
        parts.append(replace(part, region=region if block_out > word else None))
    return _named(parts)


def _part(
    op: ir.Conv,
    compact: Layer,
    channels: ir.Int64Array,
    *,
    window: int,
    first: int,
    step: tuple[int, int] = (0, 1),
) -> Layer:
    """A dense layer of some output channels, with zeros outside their groups.

    Channel i of `channels` reads `window` input channels from first + step[0] * (i // step[1]) on.
    """
    inputs, outputs = op.weight.shape[1], op.weight.shape[0] // op.group
    copies, _, _, *kernel = compact.weight.shape
    weight = np.zeros((copies, channels.size, window, *kernel), np.int8)
    for index, channel in enumerate(channels.tolist()):
        begin = channel // outputs * inputs - first - index // step[1] * step[0]
        weight[:, index, begin : begin + inputs] = compact.weight[:, channel]
    height, width = compact.output_shape[1:]
    return replace(
        compact,
        output_shape=(channels.size, height, width),
        weight=weight,
        bias=compact.bias[channels],
        mantissa=compact.mantissa[channels],
        shift=compact.shift[channels],
        limits=None if compact.limits is None else compact.limits[:, channels],
        input_channel=first,
        input_channel_step=step[0],
        macs=compact.macs // compact.output_shape[0] * channels.size,
    )


def _named(parts: list[Layer]) -> tuple[Layer, ...]:
    """Only the last part completes the tensor that the model names."""
    inner = [
        replace(part, name=f"{part.output}:part{index}", inner=True)
        for index, part in enumerate(parts[:-1])
    ]
    return (*inner, parts[-1])


def _widened(op: ir.Conv, layer: Layer, word: int) -> tuple[Layer, ...]:
    """The parts of nine-bit weights for copies of the channels, where no loop walks them."""
    channels, height, width = layer.input_shape
    padding = -channels % word
    wide = (layer.copies * (channels + padding), height, width)
    name = f"{op.name}:wide"
    copies = []
    for index in range(layer.copies):
        shapes = (layer.input_shape, layer.input_shape)
        copy = copy_layer(op, _copy_mode(op), layer.input, shapes, log=op.log)
        region = Region(shape=wide, channel=index * (channels + padding))
        part = f"{name}{index}"
        copies.append(replace(copy, name=part, output=name, region=region, inner=True))
    weight = np.pad(layer.weight, ((0, 0), (0, 0), (0, padding), (0, 0), (0, 0)))
    weight = np.concatenate(list(weight), axis=1)[np.newaxis]
    return (*copies, replace(layer, input=name, input_shape=wide, weight=weight))


def _copy_mode(op: ir.Conv) -> Mode:
    """The requantization's, where the copied codes are linear."""
    return "shift" if op.requant.mode == "shift" else "exact"


def _repeated(op: ir.Conv, source: str, shapes: tuple[Shape3, Shape3]) -> tuple[Layer, ...]:
    """Channels repeated by a dense layer of ones, then depthwise."""
    (inputs, height, width), (outputs, _, _) = shapes
    repeated = (outputs, height, width)
    channels = np.arange(outputs)
    weight = np.zeros((outputs, inputs, 1, 1), np.int16)
    weight[channels, channels // (outputs // inputs)] = COPY_WEIGHT
    repeat = make_layer(
        op,
        operator=operator_of(op),
        kind="dense",
        source=source,
        shapes=(shapes[0], repeated),
        weight=weight,
        bias=np.zeros(outputs, np.int64),
        strides=(1, 1),
        dilations=(1, 1),
        pads=(0, 0, 0, 0),
        input_zero_point=0,
        requant=copy_requant(_copy_mode(op), outputs, op.log),
        log=op.log,
        macs=0,
    )
    name = f"{op.name}:repeat"
    return (
        replace(repeat, name=name, output=name, inner=True),
        _plain(op, name, (repeated, shapes[1]), depthwise=True),
    )
