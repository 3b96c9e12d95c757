"""Every way to walk a layer on the array of lines: pass, row axis, loop nest, weight order.

Rows run along W with lines along H, or the other way round; for 1 x 1 kernels both run along the
flat picture; where the output is one pixel, lines are channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

import numpy as np

from qcompile.compiler.ir import Int8Array
from qcompile.compiler.layers import Layer, Region
from qcompile.compiler.lines.plan import LinePlan, PassKind
from qcompile.compiler.passes.loop_nests import NO_BOUND, Axis
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.program import Step

CHAIN_FILL = {1: 3, 2: 6}
"""Words that a window pass shifts in before its first product, by pixels from row to row."""


def pitch(width: int) -> int:
    """Words from a row of pixels to the next: odd, so that lines meet in no bank."""
    return width | 1


def words(shape: tuple[int, int, int], word_channels: int) -> int:
    """Memory words of a tensor [channels, height, width]."""
    return -(-shape[0] // word_channels) * shape[1] * pitch(shape[2])


def turns(step: int, config: LinesConfig) -> int:
    """Cycles in which all lines, `step` words apart, have read one word each."""
    if step == 0 or config.lines == 1:
        return 1
    distinct = config.banks // gcd(step, config.banks)
    return -(-config.lines // distinct)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axes:
    """How rows (P) and lines (O) lie on a picture."""

    p: Axis
    o: Axis
    swapped: bool = False
    flat: bool = False


def candidates(layer: Layer, config: LinesConfig) -> Iterator[LinePlan]:
    """Every way to walk the layer."""
    if layer.kind == "dense" and layer.output_shape[1:] == (1, 1) and layer.region is None:
        yield from _dense(layer, _pictures(layer)[0], config, own=True)
    for axes in [*_pictures(layer), *_flat(layer, config)]:
        if not axes.flat and not (axes.p.is_countable and axes.o.is_countable):
            continue
        if layer.kind == "dense":
            yield from _dense(layer, axes, config, own=False)
        else:
            yield from _depthwise(layer, axes, config)


def _pictures(layer: Layer) -> list[_Axes]:
    """Rows along W, and along H."""
    _, height, width = layer.input_shape
    _, out_height, out_width = layer.output_shape
    steps = layer.region.steps if layer.region else (1, 1)
    vertical = Axis(
        size=height,
        out=out_height,
        kernel=layer.kernel[0],
        stride=layer.strides[0] if out_height > 1 else 1,
        dilation=layer.dilations[0],
        pad=layer.pads[0],
        address=pitch(width),
        out_address=steps[0] * pitch(layer.tensor_shape[2]),
    )
    horizontal = Axis(
        size=width,
        out=out_width,
        kernel=layer.kernel[1],
        stride=layer.strides[1] if out_width > 1 else 1,
        dilation=layer.dilations[1],
        pad=layer.pads[1],
        address=1,
        out_address=steps[1],
    )
    return [
        _Axes(p=horizontal, o=vertical),
        _Axes(p=vertical, o=horizontal, swapped=True),
    ]


def _flat(layer: Layer, config: LinesConfig) -> list[_Axes]:
    """All pixels of a layer that maps whole rows to whole rows, the gaps of the pitch included."""
    _, height, width = layer.input_shape
    top, left = layer.pads[:2]
    inside = top <= 0 and layer.output_shape[1] - top <= height
    rows = layer.output_shape[2] == width == layer.tensor_shape[2] and left == 0
    apart = layer.region is not None and (layer.region.steps != (1, 1) or layer.region.start[1])
    if layer.kernel != (1, 1) or layer.strides != (1, 1) or not (inside and rows) or apart:
        return []
    pixels = (layer.output_shape[1] - 1) * pitch(width) + width
    p = Axis(
        size=height * pitch(width),
        out=-(-pixels // config.lines),
        kernel=1,
        stride=1,
        dilation=1,
        pad=0,
        address=config.lines,
        out_address=config.lines,
    )
    o = Axis(
        size=1,
        out=1 + (pixels - 1) % config.lines,
        kernel=1,
        stride=1,
        dilation=1,
        pad=top * pitch(width),
        address=1,
        out_address=1,
    )
    return [_Axes(p=p, o=o, flat=True)]


def _pad(weight: Int8Array, axis: int, multiple: int) -> Int8Array:
    widths = [(0, 0)] * weight.ndim
    widths[axis] = (0, -weight.shape[axis] % multiple)
    return np.pad(weight, widths)


def _dense(layer: Layer, axes: _Axes, config: LinesConfig, *, own: bool) -> Iterator[LinePlan]:
    """Rotate passes: at step j column c meets channel (c + j) mod V of a word."""
    v, lines = config.columns, config.lines if own else 1
    weight = layer.weight.swapaxes(-1, -2) if axes.swapped else layer.weight
    weight = _pad(_pad(weight, 1, v * lines), 2, v)
    copies, out, in_, o_taps, p_taps = weight.shape
    # [copies, groups, line, column, channel word, byte, O tap, P tap]
    split = weight.reshape(copies, out // (v * lines), lines, v, in_ // v, v, o_taps, p_taps)
    turned = np.stack(
        [np.stack([split[:, :, :, c, :, (c + j) % v] for c in range(v)], -1) for j in range(v)], -2
    )
    # [copies, groups, line, channel word, O tap, P tap, j, column] -> loops outer to inner
    loops = turned.transpose(1, 4, 5, 3, 0, 6, 2, 7)
    trips = [in_ // v, axes.p.kernel, axes.o.kernel]
    pixels = layer.input_shape[1] * pitch(layer.input_shape[2])
    steps = [
        _step(pixels, 0, 0),
        _step(axes.p.dilation * axes.p.address, axes.p.dilation, 0),
        _step(axes.o.dilation * axes.o.address, 0, axes.o.dilation),
    ]
    if copies > 1:
        if 1 not in trips:
            return  # no loop is free to walk the copies
        slot = trips.index(1)
        trips[slot], steps[slot] = copies, _step(0, 0, 0)
        loops = np.moveaxis(loops, 4, (4, 2, 1)[slot])
    order = loops.reshape(loops.shape[0], -1, lines, v)
    yield _plan(
        layer,
        axes,
        config,
        kind="rotate",
        own=own,
        products=v,
        inner=(config.rows, *trips),
        steps=[_step(axes.p.stride * axes.p.address, axes.p.stride, 0), *steps],
        group_step=layer.input_channel_step // v * pixels,
        weights=order if own else order[:, :, 0],
    )


def _depthwise(layer: Layer, axes: _Axes, config: LinesConfig) -> Iterator[LinePlan]:
    """One product a tap: window passes along the rows' axis, or a rotate pass for each tap."""
    v = config.columns
    weight = layer.weight.swapaxes(-1, -2) if axes.swapped else layer.weight
    weight = _pad(weight, 1, v)
    copies, channels, o_taps, p_taps = weight.shape
    # [groups, O tap, copy, P tap, column]
    by_tap = weight.reshape(copies, channels // v, v, o_taps, p_taps).transpose(1, 3, 0, 4, 2)
    group_step = layer.input_shape[1] * pitch(layer.input_shape[2])
    across = _step(axes.o.dilation * axes.o.address, 0, axes.o.dilation)
    stay = _step(0, 0, 0)
    yield _plan(
        layer,
        axes,
        config,
        kind="rotate",
        own=False,
        products=1,
        inner=(config.rows, copies, p_taps, o_taps),
        steps=[
            _step(axes.p.stride * axes.p.address, axes.p.stride, 0),
            stay,
            _step(axes.p.dilation * axes.p.address, axes.p.dilation, 0),
            across,
        ],
        group_step=group_step,
        weights=by_tap.transpose(0, 1, 3, 2, 4).reshape(channels // v, -1, v),
    )
    if axes.p.stride in CHAIN_FILL and axes.p.dilation == 1 and not axes.flat:
        yield _plan(
            layer,
            axes,
            config,
            kind="window",
            own=False,
            products=p_taps,
            inner=(p_taps + CHAIN_FILL[axes.p.stride], copies, 1, o_taps),
            steps=[_step(axes.p.address, 1, 0), stay, stay, across],
            group_step=group_step,
            weights=by_tap.reshape(channels // v, -1, v),
        )


def _step(address: int, p: int, o: int) -> Step:
    return Step(address=address, p=p, o=o)


def _plan(
    layer: Layer,
    axes: _Axes,
    config: LinesConfig,
    *,
    kind: PassKind,
    own: bool,
    products: int,
    inner: tuple[int, ...],
    steps: list[Step],
    group_step: int,
    weights: Int8Array,
) -> LinePlan:
    p, o = axes.p, axes.o
    line_step = 0 if own else o.stride * o.address
    tiles = -(-p.out // config.rows)
    across = 1 if axes.flat or own else -(-o.out // config.lines)
    counts = (*inner, tiles, across, weights.shape[0])
    loops = [
        *steps,
        _step(config.rows * p.stride * p.address, config.rows * p.stride, 0),
        _step(config.lines * o.stride * o.address, 0, config.lines * o.stride),
        _step(group_step, 0, 0),
    ]
    first, group = _group_writes(layer, config)
    whole = layer.input_shape[1] * pitch(layer.input_shape[2])
    begin = layer.input_channel // config.columns * whole - p.pad * p.address - o.pad * o.address
    used = -(-layer.output_shape[0] // config.columns) if own else o.out
    last_row = (p.out - 1) * p.out_address
    last_position = (across - 1) * config.lines * o.out_address
    return LinePlan(
        kind=kind,
        own=own,
        apart=p.stride == 2 and kind == "window",
        turns=turns(line_step, config),
        products=products,
        counts=counts,
        deltas=_deltas(counts, loops),
        start=_step(begin, -p.pad, -o.pad),
        line_address=line_step,
        line_o=0 if own or axes.flat else o.stride,
        p_bound=NO_BOUND if axes.flat else p.size - 1,
        o_bound=NO_BOUND if axes.flat else o.size - 1,
        flat=axes.flat,
        rows_last=p.out - (tiles - 1) * config.rows,
        lines_last=1 + (used - 1) % config.lines,
        write_start=first,
        write_line=group if own else o.out_address,
        write_row=p.out_address,
        write_position=config.lines * o.out_address - last_row,
        write_group=group * (config.lines if own else 1) - last_row - last_position,
        weights=weights,
        shared_weights=bool((weights == weights[:1]).all()) and weights.shape[0] > 1,
    )


def _group_writes(layer: Layer, config: LinesConfig) -> tuple[int, int]:
    """First word of the output tensor that is written, and words from a group to the next."""
    _, height, width = layer.tensor_shape
    region = layer.region or Region(shape=layer.tensor_shape)
    first = region.start[0] * pitch(width) + region.start[1]
    size = height * pitch(width)
    return (
        region.channel // config.columns * size + first,
        (region.channel_step or config.columns) // config.columns * size,
    )


def _deltas(counts: tuple[int, ...], steps: list[Step]) -> tuple[Step, ...]:
    """What is added when a loop steps on: its step, less what the loops inside have added."""
    deltas = []
    back = _step(0, 0, 0)
    for count, step in zip(counts, steps, strict=True):
        deltas.append(_step(step.address - back.address, step.p - back.p, step.o - back.o))
        trips = count - 1
        back = _step(
            back.address + trips * step.address, back.p + trips * step.p, back.o + trips * step.o
        )
    return tuple(deltas)
