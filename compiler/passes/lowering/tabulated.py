"""Any function of a code for each channel: copies with a table, and a layer that picks lanes.

A table serves all channels of a word, so a word with several functions is copied once for
each of them. The copies of a word stand behind one another in a tensor of their own, from which a
dense layer takes each channel out of the copy that has its function.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.layers import Layer, Region, Shape3
from qcompile.compiler.passes.lowering.layer import (
    COPY_WEIGHT,
    copy_layer,
    copy_requant,
    make_layer,
    operator_of,
    shape3,
)
from qcompile.compiler.passes.lowering.state import Lowering

MOST_WORDS = 4096
"""Of the tensor of copies, a quarter of a bank; more channel groups are done in several rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The pixels of a tensor that layers are for."""

    start: tuple[int, int]
    size: tuple[int, int]


def whole(shape: Shape3) -> Window:
    """All pixels."""
    return Window(start=(0, 0), size=shape[1:])


def tables_alone(
    state: Lowering, op: ir.Op, name: str, functions: ir.Int8Array, window: Window
) -> tuple[Layer, ...] | None:
    """Copies with tables, where the channels of every word have one function [channels, 256]."""
    word = state.machine.word_channels
    slots = [_distinct(functions[at : at + word]) for at in range(0, len(functions), word)]
    if any(len(group) > 1 for group in slots):
        return None
    target = _Target(op.outputs[0], shape3(state.graph, op.name), window.start, 0, word)
    return tuple(_copies(state, op, name, [group[0] for group in slots], window, 0, target))


def tables_and_choice(
    state: Lowering, op: ir.Op, name: str, functions: ir.Int8Array, window: Window
) -> tuple[Layer, ...]:
    """Copies with tables, then a dense layer; for any functions [channels, 256]."""
    word = state.machine.word_channels
    begins = range(0, len(functions), word)
    slots = [_distinct(functions[begin : begin + word]) for begin in begins]
    most = max(len(group) for group in slots)
    groups = max(1, MOST_WORDS // (most * window.size[0] * window.size[1]))
    layers: list[Layer] = []
    for first in range(0, len(begins), groups):
        part = slots[first : first + groups]
        shape = (most * word * len(part), *window.size)
        tensor = f"{op.name}:tables{window.start[0]}.{window.start[1]}.{first}"
        for slot in range(most):
            target = _Target(tensor, shape, (0, 0), slot * word, most * word)
            chosen = [group[min(slot, len(group) - 1)] for group in part]
            layers += _copies(state, op, name, chosen, window, begins[first], target)
        channels = slice(begins[first], begins[first] + len(part) * word)
        taken = _slots_of(functions[channels], part, word)
        choice = _choice(state, op, tensor, shape, taken)
        region = Region(
            shape=shape3(state.graph, op.name), channel=channels.start, start=window.start
        )
        layers.append(replace(choice, region=region))
    return tuple(layers)


@dataclass(frozen=True, slots=True)
class _Target:
    """Where copies of channel groups go: the tensor, its shape, first pixel, channel and step."""

    name: str
    shape: Shape3
    start: tuple[int, int]
    channel: int
    step: int


def _distinct(functions: ir.Int8Array) -> list[ir.Int8Array]:
    """The functions of a word, each one once, in the order of their channels."""
    return list({function.tobytes(): function for function in functions}.values())


def _slots_of(functions: ir.Int8Array, part: list[list[ir.Int8Array]], word: int) -> list[int]:
    """The copy that has each channel's function."""
    return [
        [other.tobytes() for other in part[channel // word]].index(function.tobytes())
        for channel, function in enumerate(functions)
    ]


def _copies(
    state: Lowering,
    op: ir.Op,
    name: str,
    tables: list[ir.Int8Array],
    window: Window,
    channel: int,
    target: _Target,
) -> list[Layer]:
    """Channel groups from `channel` on, each with its table; a layer for each run of one table."""
    shape = shape3(state.graph, op.name)
    word = state.machine.word_channels
    layers: list[Layer] = []
    begin = 0
    while begin < len(tables):
        end = begin + 1
        while end < len(tables) and np.array_equal(tables[end], tables[begin]):
            end += 1
        first = channel + begin * word
        channels = min((end - begin) * word, shape[0] - first)
        copy = copy_layer(
            op,
            state.mode,
            name,
            (shape, (channels, *window.size)),
            pads=(-window.start[0], -window.start[1]),
        )
        region = Region(
            shape=target.shape,
            channel=target.channel + begin * target.step,
            channel_step=target.step,
            start=target.start,
        )
        layers.append(
            replace(
                copy,
                output=target.name,
                input_channel=first,
                region=region,
                table=tables[begin],
            )
        )
        begin = end
    return layers


def _choice(state: Lowering, op: ir.Op, tensor: str, shape: Shape3, taken: list[int]) -> Layer:
    """Each channel from the copy of its word that `taken` says."""
    word = state.machine.word_channels
    depth = shape[0] // -(-len(taken) // word)
    channels = np.arange(len(taken))
    weight = np.zeros((len(taken), depth, 1, 1), np.int16)
    weight[channels, np.array(taken) * word + channels % word] = COPY_WEIGHT
    layer = make_layer(
        op,
        operator=operator_of(op),
        kind="dense",
        source=tensor,
        shapes=(shape, (len(taken), *shape[1:])),
        weight=weight,
        bias=np.zeros(len(taken), np.int64),
        strides=(1, 1),
        dilations=(1, 1),
        pads=(0, 0, 0, 0),
        input_zero_point=0,
        requant=copy_requant(state.mode, len(taken)),
        macs=0,
    )
    return replace(layer, input_channel_step=depth)
