"""Every way to walk a layer: mode, row axis, loop nest, weight order.

Two modes exist (docs/architecture.md section 2); rows run along W, along H, or, for 1 x 1 kernels,
along all pixels of the tensor.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qcompile.compiler.ir import Int8Array
from qcompile.compiler.layers import Layer, Region
from qcompile.compiler.plan import ROWS, VALUES_PER_ROW, Plan
from qcompile.hw.layouts import WORD_CHANNELS
from qcompile.hw.program import COORDINATE_BITS, COUNT_BITS, LEVELS, Step

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


def candidates(layer: Layer) -> Iterator[Plan]:
    """Every way to walk the layer."""
    vertical, horizontal = _axes(layer)
    pairs = [("w", horizontal, vertical), ("h", vertical, horizontal)]
    if _is_flat(layer):
        width = layer.input_shape[2]
        flat = Axis(
            size=layer.input_shape[1] * width,
            out=layer.output_shape[1] * width,
            kernel=1,
            stride=1,
            dilation=1,
            pad=layer.pads[0] * width,
            address=1,
            out_address=1,
        )
        point = Axis(size=1, out=1, kernel=1, stride=1, dilation=1, pad=0, address=0, out_address=0)
        pairs = [("flat", flat, point)]
    for name, p, o in pairs:
        if name != "flat" and not (p.is_countable and o.is_countable):
            continue
        if layer.kind == "dense":
            yield from _dense(layer, name, p, o)
        else:
            yield from _depthwise_rotate(layer, name, p, o)
            if p.stride == 1 and p.dilation == 1:
                yield from _depthwise_broadcast(layer, name, p, o)


def _is_flat(layer: Layer) -> bool:
    """Whether the layer maps a band of whole rows to another, pixel by pixel."""
    _, height, width = layer.input_shape
    top, left = layer.pads[:2]
    inside = top <= 0 and layer.output_shape[1] - top <= height
    rows = layer.output_shape[2] == width == layer.tensor_shape[2] and left == 0
    apart = layer.region is not None and (layer.region.steps != (1, 1) or layer.region.start[1])
    return layer.kernel == (1, 1) and layer.strides == (1, 1) and inside and rows and not apart


def _axes(layer: Layer) -> tuple[Axis, Axis]:
    _, height, width = layer.input_shape
    _, out_height, out_width = layer.output_shape
    steps = layer.region.steps if layer.region else (1, 1)
    kernel, strides, dilations, pads = layer.kernel, layer.strides, layer.dilations, layer.pads
    vertical = Axis(
        size=height,
        out=out_height,
        kernel=kernel[0],
        stride=strides[0] if out_height > 1 else 1,
        dilation=dilations[0],
        pad=pads[0],
        address=width,
        out_address=steps[0] * layer.tensor_shape[2],
    )
    horizontal = Axis(
        size=width,
        out=out_width,
        kernel=kernel[1],
        stride=strides[1] if out_width > 1 else 1,
        dilation=dilations[1],
        pad=pads[1],
        address=1,
        out_address=steps[1],
    )
    return vertical, horizontal


def _by_axis(weight: Int8Array, row_axis: str) -> Int8Array:
    """[..., kh, kw] -> [..., O taps, P taps]."""
    return weight.swapaxes(-1, -2) if row_axis == "h" else weight


def _pad_channels(weight: Int8Array, axis: int, multiple: int = VALUES_PER_ROW) -> Int8Array:
    widths = [(0, 0)] * weight.ndim
    widths[axis] = (0, -weight.shape[axis] % multiple)
    return np.pad(weight, widths)


def _in_blocks(weight: Int8Array, most: int) -> tuple[Int8Array, int]:
    """[..., 1, taps] -> [..., blocks, at most `most` taps], with zeros behind; and taps a block."""
    blocks = -(-weight.shape[-1] // most)
    taps = -(-weight.shape[-1] // blocks)
    whole = _pad_channels(weight, weight.ndim - 1, blocks * taps)
    return whole.reshape(*weight.shape[:-2], blocks, taps), taps


def _dense(layer: Layer, name: str, p: Axis, o: Axis) -> Iterator[Plan]:
    """Rotate mode: word j of an activation word meets byte (column + j) mod 4."""
    weight = _pad_channels(_pad_channels(_by_axis(layer.weight, name), 1), 2)
    o_step = _step(o.dilation * o.address, 0, o.dilation)
    if o.kernel == 1 and p.kernel > 1 << COUNT_BITS[2]:  # a line's taps take both loops
        weight, taps = _in_blocks(weight, 1 << COUNT_BITS[2])
        o_step = _step(taps * p.dilation * p.address, taps * p.dilation, 0)
    split_words = 1
    if p.kernel == 1:  # more channel words than the loop counts
        split_words = -(-weight.shape[2] // (VALUES_PER_ROW << COUNT_BITS[1]))
        weight = _pad_channels(weight, 2, VALUES_PER_ROW * split_words)
    copies, out, in_, o_taps, p_taps = weight.shape
    # [copies, groups, column, channel word, byte, O tap, P tap]
    split = weight.reshape(copies, out // 4, 4, in_ // 4, 4, o_taps, p_taps)
    rotated = np.stack(
        [np.stack([split[:, :, c, :, (c + j) % 4] for c in range(4)], -1) for j in range(4)], -2
    )
    # [copies, groups, channel word, O tap, P tap, j, column], then copies innermost of the loops
    loops = rotated.transpose(1, 3, 4, 2, 0, 5, 6)
    trips = [in_ // 4, p_taps, o_taps]
    pixels = layer.input_shape[1] * layer.input_shape[2]
    steps = [
        _step(pixels, 0, 0),
        _step(p.dilation * p.address, p.dilation, 0),
        o_step,
    ]
    if split_words > 1:  # the row axis has one tap: its loop walks blocks of channel words
        trips[0], trips[1] = trips[0] // split_words, split_words
        steps[1] = _step(pixels * trips[0], 0, 0)
    if copies > 1:
        if 1 not in trips:
            return  # no loop is free to walk the copies
        slot = trips.index(1)
        trips[slot], steps[slot] = copies, _step(0, 0, 0)
        loops = np.moveaxis(loops, 4, (4, 2, 1)[slot])
    yield _plan(
        layer,
        name,
        p,
        o,
        broadcast=False,
        inner=(ROWS, *trips),
        steps=[_step(p.stride * p.address, p.stride, 0), *steps],
        group_step=layer.input_channel_step // WORD_CHANNELS * pixels,
        weights=loops.reshape(out // 4, -1, 4),
    )


def _depthwise_words(layer: Layer, name: str) -> Int8Array:
    """[groups, O taps, copies, P taps, column]"""
    weight = _pad_channels(_by_axis(layer.weight, name), 1)
    copies, channels, o_taps, p_taps = weight.shape
    split = weight.reshape(copies, channels // 4, 4, o_taps, p_taps)
    return split.transpose(1, 3, 0, 4, 2)


def _taps_of_axes(
    copies: int, along_p: int, o: Axis, p_step: Step
) -> tuple[tuple[int, int, int], list[Step], int] | None:
    """Trips and steps of the three loops between reads and tiles, and how many taps O then has.

    They walk the copies, `along_p` steps along P, and O's taps. More taps along O than a loop
    counts take two loops, which is possible without copies; the last of them have no weight.
    """
    o_step = _step(o.dilation * o.address, 0, o.dilation)
    most = 1 << COUNT_BITS[3]
    if o.kernel <= most and along_p <= 1 << COUNT_BITS[2]:
        return (copies, along_p, o.kernel), [_step(0, 0, 0), p_step, o_step], o.kernel
    if copies > 1:
        return None
    blocks = -(-o.kernel // most)
    taps = -(-o.kernel // blocks)
    block_step = _step(taps * o_step.address, 0, taps * o_step.o)
    return (along_p, taps, blocks), [p_step, o_step, block_step], taps * blocks


def _depthwise_rotate(layer: Layer, name: str, p: Axis, o: Axis) -> Iterator[Plan]:
    """One read a row and tap; the weight word is followed by three of zeros."""
    words = _depthwise_words(layer, name)
    groups, o_taps, copies, p_taps, _ = words.shape
    loops = _taps_of_axes(copies, p_taps, o, _step(p.dilation * p.address, p.dilation, 0))
    if loops is None:
        return
    trips, steps, o_walked = loops
    spaced = np.zeros((groups, o_walked, p_taps, copies, ROWS, 4), np.int8)
    spaced[:, :o_taps, :, :, 0] = words.transpose(0, 1, 3, 2, 4)
    yield _plan(
        layer,
        name,
        p,
        o,
        broadcast=False,
        inner=(ROWS, *trips),
        steps=[_step(p.stride * p.address, p.stride, 0), *steps],
        group_step=layer.input_shape[1] * layer.input_shape[2],
        weights=spaced.reshape(groups, -1, 4),
    )


def _depthwise_broadcast(layer: Layer, name: str, p: Axis, o: Axis) -> Iterator[Plan]:
    """Every pixel goes to all rows while the taps hop past it; trailing zeros end a pass.

    More taps than a pass reads take several passes, each over a part of them.
    """
    words = _depthwise_words(layer, name)
    groups, o_taps, copies, p_taps, _ = words.shape
    behind = min(ROWS, p.out) - 1
    parts = -(-p_taps // ((1 << COUNT_BITS[0]) - behind))
    taps = -(-p_taps // parts)
    loops = _taps_of_axes(copies, parts, o, _step(taps * p.address, taps, 0))
    if loops is None:
        return
    trips, steps, o_walked = loops
    whole = np.zeros((groups, o_walked, copies, parts * taps, 4), np.int8)
    whole[:, :o_taps, :, :p_taps] = words
    reads = max(ROWS, taps + behind)
    padded = np.zeros((groups, o_walked, parts, copies, reads, 4), np.int8)
    padded[..., :taps, :] = whole.reshape(groups, o_walked, copies, parts, taps, 4).swapaxes(2, 3)
    yield _plan(
        layer,
        name,
        p,
        o,
        broadcast=True,
        inner=(reads, *trips),
        steps=[_step(p.address, 1, 0), *steps],
        group_step=layer.input_shape[1] * layer.input_shape[2],
        weights=padded.reshape(groups, -1, 4),
    )


def _step(address: int, p: int, o: int) -> Step:
    return Step(address=address, p=p, o=o)


def _plan(
    layer: Layer,
    name: str,
    p: Axis,
    o: Axis,
    *,
    broadcast: bool,
    inner: tuple[int, ...],
    steps: list[Step],
    group_step: int,
    weights: Int8Array,
) -> Plan:
    """Adds the outer loops, and turns steps (what a trip adds) into deltas (what is added then)."""
    tiles = -(-p.out // ROWS)
    counts = (*inner, tiles, o.out, weights.shape[0])
    steps = [
        *steps,
        _step(ROWS * p.stride * p.address, ROWS * p.stride, 0),
        _step(o.stride * o.address, 0, o.stride),
        _step(group_step, 0, 0),
    ]
    last_row = (p.out - 1) * p.out_address
    write_start, write_group = _group_writes(layer)
    first_channel = (
        layer.input_channel // WORD_CHANNELS * layer.input_shape[1] * layer.input_shape[2]
    )
    return Plan(
        broadcast=broadcast,
        row_axis=name,
        counts=counts,
        deltas=_deltas(counts, steps),
        start=_step(first_channel - p.pad * p.address - o.pad * o.address, -p.pad, -o.pad),
        p_bound=NO_BOUND if name == "flat" else p.size - 1,
        o_bound=NO_BOUND if name == "flat" else o.size - 1,
        rows_last=p.out - (tiles - 1) * ROWS,
        write_start=write_start,
        write_row=p.out_address,
        write_position=o.out_address - last_row,
        write_group=write_group - last_row - (o.out - 1) * o.out_address,
        weights=weights,
        shared_weights=layer.weight_source is None
        and bool((weights == weights[:1]).all())
        and weights.shape[0] > 1,
    )


def _group_writes(layer: Layer) -> tuple[int, int]:
    """First word of the output tensor that is written, and words from a group to the next."""
    _, height, width = layer.tensor_shape
    region = layer.region or Region(shape=layer.tensor_shape)
    first = region.start[0] * width + region.start[1]
    return (
        region.channel // WORD_CHANNELS * height * width + first,
        (region.channel_step or WORD_CHANNELS) // WORD_CHANNELS * height * width,
    )


def _deltas(counts: tuple[int, ...], steps: list[Step]) -> tuple[Step, ...]:
    deltas = []
    back = _step(0, 0, 0)
    for level in range(LEVELS):
        step = steps[level]
        deltas.append(_step(step.address - back.address, step.p - back.p, step.o - back.o))
        trips = counts[level] - 1
        back = _step(
            back.address + trips * step.address, back.p + trips * step.p, back.o + trips * step.o
        )
    return tuple(deltas)
