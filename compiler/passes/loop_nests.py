"""Every way to walk a layer: mode, row axis, loop nest, weight order.

Two modes exist (docs/architecture.md section 2); rows run along W, along H, or, for 1 x 1 kernels,
along all pixels of the tensor.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qcompile.compiler.ir import Int8Array
from qcompile.compiler.layers import Layer
from qcompile.compiler.passes.nest_parts import (
    NO_BOUND,
    Axis,
    deltas,
    group_writes,
    is_flat,
    line_of_pixels,
    pad_axis,
    rotated,
    step,
    vertical_and_horizontal,
    walk_copies,
)
from qcompile.compiler.plan import ROWS, VALUES_PER_ROW, Plan
from qcompile.hw.layouts import WORD_CHANNELS
from qcompile.hw.program import COUNT_BITS, Step


def candidates(layer: Layer) -> Iterator[Plan]:
    """Every way to walk the layer."""
    _, height, width = layer.input_shape
    vertical, horizontal = vertical_and_horizontal(layer, width, layer.tensor_shape[2])
    pairs = [("w", horizontal, vertical), ("h", vertical, horizontal)]
    if is_flat(layer):
        flat = line_of_pixels(
            size=height * width,
            out=layer.output_shape[1] * width,
            pad=layer.pads[0] * width,
            address=1,
        )
        pairs = [("flat", flat, line_of_pixels(size=1, out=1, pad=0, address=0))]
    for name, p, o in pairs:
        if name != "flat" and not (p.is_countable and o.is_countable):
            continue
        if layer.kind == "dense":
            yield from _dense(layer, name, p, o)
        else:
            yield from _depthwise_rotate(layer, name, p, o)
            if p.stride == 1 and p.dilation == 1:
                yield from _depthwise_broadcast(layer, name, p, o)


def _by_axis(weight: Int8Array, row_axis: str) -> Int8Array:
    """[..., kh, kw] -> [..., O taps, P taps]."""
    return weight.swapaxes(-1, -2) if row_axis == "h" else weight


def _in_blocks(weight: Int8Array, most: int) -> tuple[Int8Array, int]:
    """[..., 1, taps] -> [..., blocks, at most `most` taps], with zeros behind; and taps a block."""
    blocks = -(-weight.shape[-1] // most)
    taps = -(-weight.shape[-1] // blocks)
    whole = pad_axis(weight, weight.ndim - 1, blocks * taps)
    return whole.reshape(*weight.shape[:-2], blocks, taps), taps


def _dense(layer: Layer, name: str, p: Axis, o: Axis) -> Iterator[Plan]:
    """Rotate mode: word j of an activation word meets byte (column + j) mod 4."""
    weight = pad_axis(_by_axis(layer.weight, name), 1, VALUES_PER_ROW)
    weight = pad_axis(weight, 2, VALUES_PER_ROW)
    o_step = step(o.dilation * o.address, 0, o.dilation)
    if o.kernel == 1 and p.kernel > 1 << COUNT_BITS[2]:  # a line's taps take both loops
        weight, taps = _in_blocks(weight, 1 << COUNT_BITS[2])
        o_step = step(taps * p.dilation * p.address, taps * p.dilation, 0)
    split_words = 1
    if p.kernel == 1:  # more channel words than the loop counts
        split_words = -(-weight.shape[2] // (VALUES_PER_ROW << COUNT_BITS[1]))
        weight = pad_axis(weight, 2, VALUES_PER_ROW * split_words)
    copies, out, in_, o_taps, p_taps = weight.shape
    # [groups, O tap, P tap, channel word, copies, j, column]: the copies innermost of the loops
    loops = rotated(weight, VALUES_PER_ROW).transpose(1, 3, 4, 2, 0, 5, 6)
    trips = [in_ // 4, p_taps, o_taps]
    pixels = layer.input_shape[1] * layer.input_shape[2]
    steps = [
        step(pixels, 0, 0),
        step(p.dilation * p.address, p.dilation, 0),
        o_step,
    ]
    if split_words > 1:  # the row axis has one tap: its loop walks blocks of channel words
        trips[0], trips[1] = trips[0] // split_words, split_words
        steps[1] = step(pixels * trips[0], 0, 0)
    walked = walk_copies(copies, trips, steps, loops)
    if walked is None:
        return
    yield _plan(
        layer,
        name,
        p,
        o,
        broadcast=False,
        inner=(ROWS, *trips),
        steps=[step(p.stride * p.address, p.stride, 0), *steps],
        group_step=layer.input_channel_step // WORD_CHANNELS * pixels,
        weights=walked.reshape(out // 4, -1, 4),
    )


def _depthwise_words(layer: Layer, name: str) -> Int8Array:
    """[groups, O taps, copies, P taps, column]"""
    weight = pad_axis(_by_axis(layer.weight, name), 1, VALUES_PER_ROW)
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
    o_step = step(o.dilation * o.address, 0, o.dilation)
    most = 1 << COUNT_BITS[3]
    if o.kernel <= most and along_p <= 1 << COUNT_BITS[2]:
        return (copies, along_p, o.kernel), [step(0, 0, 0), p_step, o_step], o.kernel
    if copies > 1:
        return None
    blocks = -(-o.kernel // most)
    taps = -(-o.kernel // blocks)
    block_step = step(taps * o_step.address, 0, taps * o_step.o)
    return (along_p, taps, blocks), [p_step, o_step, block_step], taps * blocks


def _depthwise_rotate(layer: Layer, name: str, p: Axis, o: Axis) -> Iterator[Plan]:
    """One read a row and tap; the weight word is followed by three of zeros."""
    words = _depthwise_words(layer, name)
    groups, o_taps, copies, p_taps, _ = words.shape
    loops = _taps_of_axes(copies, p_taps, o, step(p.dilation * p.address, p.dilation, 0))
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
        steps=[step(p.stride * p.address, p.stride, 0), *steps],
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
    loops = _taps_of_axes(copies, parts, o, step(taps * p.address, taps, 0))
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
        steps=[step(p.address, 1, 0), *steps],
        group_step=layer.input_shape[1] * layer.input_shape[2],
        weights=padded.reshape(groups, -1, 4),
    )


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
        step(ROWS * p.stride * p.address, ROWS * p.stride, 0),
        step(o.stride * o.address, 0, o.stride),
        step(group_step, 0, 0),
    ]
    last_row = (p.out - 1) * p.out_address
    write_start, write_group = group_writes(layer, WORD_CHANNELS, layer.tensor_shape[2])
    first_channel = (
        layer.input_channel // WORD_CHANNELS * layer.input_shape[1] * layer.input_shape[2]
    )
    return Plan(
        broadcast=broadcast,
        row_axis=name,
        counts=counts,
        deltas=deltas(counts, steps),
        start=step(first_channel - p.pad * p.address - o.pad * o.address, -p.pad, -o.pad),
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
