"""What the loop nests of every array share: axes, steps, and weights in the order of rotation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompile.compiler.ir import Int8Array
from qcompile.compiler.layers import Layer, Region
from qcompile.hw.program import COORDINATE_BITS, Step

NO_BOUND = (1 << COORDINATE_BITS) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One spatial axis as the loop nest sees it; addresses count words."""

    size: int
    out: int
    kernel: int
    stride: int
    dilation: int
    pad: int
    address: int
    out_address: int

    @property
    def is_countable(self) -> bool:
        """Whether no coordinate of padding, modulo the counter, is one of the tensor.

        Rows beyond the output may read anything: they are dropped.
        """
        coordinates = 1 << COORDINATE_BITS
        last = (self.out - 1) * self.stride
        smallest = min(0, last) - self.pad
        largest = max(0, last) + (self.kernel - 1) * self.dilation - self.pad
        return self.size - coordinates <= smallest and largest < coordinates


def line_of_pixels(*, size: int, out: int, pad: int, address: int) -> Axis:
    """An axis of pixels that a 1 x 1 kernel takes one by one."""
    return Axis(
        size=size,
        out=out,
        kernel=1,
        stride=1,
        dilation=1,
        pad=pad,
        address=address,
        out_address=address,
    )


def vertical_and_horizontal(layer: Layer, pitch: int, out_pitch: int) -> tuple[Axis, Axis]:
    """Both axes of a picture; pitches are the words from a row of pixels to the next."""
    steps = layer.region.steps if layer.region else (1, 1)

    def axis(at: int, address: int, out_address: int) -> Axis:
        out = layer.output_shape[1 + at]
        return Axis(
            size=layer.input_shape[1 + at],
            out=out,
            kernel=layer.kernel[at],
            stride=layer.strides[at] if out > 1 else 1,
            dilation=layer.dilations[at],
            pad=layer.pads[at],
            address=address,
            out_address=out_address,
        )

    return axis(0, pitch, steps[0] * out_pitch), axis(1, 1, steps[1])


def is_flat(layer: Layer) -> bool:
    """Whether the layer maps a band of whole rows to another, pixel by pixel."""
    _, height, width = layer.input_shape
    top, left = layer.pads[:2]
    inside = top <= 0 and layer.output_shape[1] - top <= height
    rows = layer.output_shape[2] == width == layer.tensor_shape[2] and left == 0
    apart = layer.region is not None and (layer.region.steps != (1, 1) or layer.region.start[1])
    return layer.kernel == (1, 1) and layer.strides == (1, 1) and inside and rows and not apart


def step(address: int, p: int, o: int) -> Step:
    """A step, in words and in pixels along P and O."""
    return Step(address=address, p=p, o=o)


def deltas(counts: tuple[int, ...], steps: list[Step]) -> tuple[Step, ...]:
    """What is added when a loop steps on: its step, less what the loops inside have added."""
    found = []
    back = step(0, 0, 0)
    for count, own in zip(counts, steps, strict=True):
        found.append(step(own.address - back.address, own.p - back.p, own.o - back.o))
        trips = count - 1
        back = step(
            back.address + trips * own.address, back.p + trips * own.p, back.o + trips * own.o
        )
    return tuple(found)


def group_writes(layer: Layer, word: int, pitch: int) -> tuple[int, int]:
    """First word of the output tensor that is written, and words from a group to the next.

    `word` is the channels of a memory word, `pitch` the output's words from row to row.
    """
    region = layer.region or Region(shape=layer.tensor_shape)
    size = layer.tensor_shape[1] * pitch
    first = region.start[0] * pitch + region.start[1]
    return region.channel // word * size + first, (region.channel_step or word) // word * size


def pad_axis(weight: Int8Array, axis: int, multiple: int) -> Int8Array:
    """The weight with zeros behind, so that the axis is a multiple long."""
    widths = [(0, 0)] * weight.ndim
    widths[axis] = (0, -weight.shape[axis] % multiple)
    return np.pad(weight, widths)


def rotated(weight: Int8Array, word: int) -> Int8Array:
    """[copies, out, in, O taps, P taps] -> [copies, group, channel word, O tap, P tap, j, column].

    At step j of a word column c meets channel (c + j) mod `word`.
    """
    copies, out, in_, o_taps, p_taps = weight.shape
    split = weight.reshape(copies, out // word, word, in_ // word, word, o_taps, p_taps)
    column = np.arange(word)
    found = split[:, :, column, :, (column + column[:, np.newaxis]) % word]
    return np.moveaxis(found, (0, 1), (-2, -1))


def walk_copies(
    copies: int, trips: list[int], steps: list[Step], loops: npt.NDArray[np.int8]
) -> npt.NDArray[np.int8] | None:
    """Gives the copies of taps a loop of their own, among the three of `trips`, where one has one
    trip: None where none has.

    `loops` has those three loops, outermost first, at axes 1 to 3, and the copies behind them.
    """
    if copies == 1:
        return loops
    if 1 not in trips:
        return None
    slot = trips.index(1)
    trips[slot], steps[slot] = copies, step(0, 0, 0)
    return np.moveaxis(loops, 4, (4, 2, 1)[slot])
