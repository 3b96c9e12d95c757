"""Every way to walk a layer on the array of lines: pass, row axis, loop nest, weight order.

Rows run along W with lines along H, or the other way round; for 1 x 1 kernels both run along the
flat picture; where the output is one pixel, lines are channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd

from qcompile.compiler.ir import Int8Array
from qcompile.compiler.layers import Layer
from qcompile.compiler.lines.plan import LinePlan, PassKind
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
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.program import Step


def pitch(width: int) -> int:
    """Words from a row of pixels to the next: odd, so that lines meet in no bank."""
    return width | 1


def words(shape: tuple[int, int, int], word_channels: int) -> int:
    """Memory words of a tensor [channels, height, width]."""
    return -(-shape[0] // word_channels) * shape[1] * pitch(shape[2])


def turns(step: int, config: LinesConfig, *, turned: bool) -> int:
    """Cycles in which all lines, `step` words apart, have read one word each; 0: never.

    `turned`: the words lie turned.
    """
    if step == 0 or config.lines == 1:
        return 1
    if turned:
        return int(config.turns_words and step % 4 == 2)
    distinct = config.banks // gcd(step, config.banks)
    return -(-config.lines // distinct)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axes:
    """How rows (P) and lines (O) lie on a picture."""

    p: Axis
    o: Axis
    swapped: bool = False
    flat: bool = False


def candidates(layer: Layer, config: LinesConfig, *, turned: bool = False) -> Iterator[LinePlan]:
    """Every way to walk the layer; `turned`: its input lies turned in the memory."""
    for plan in _candidates(layer, config):
        cycles = turns(plan.line_address, config, turned=turned)
        if cycles:
            yield replace(plan, turns=cycles, read_turned=turned)


def _candidates(layer: Layer, config: LinesConfig) -> Iterator[LinePlan]:
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
    pitches = pitch(layer.input_shape[2]), pitch(layer.tensor_shape[2])
    vertical, horizontal = vertical_and_horizontal(layer, *pitches)
    return [
        _Axes(p=horizontal, o=vertical),
        _Axes(p=vertical, o=horizontal, swapped=True),
    ]


def _flat(layer: Layer, config: LinesConfig) -> list[_Axes]:
    """All pixels of a layer that maps whole rows to whole rows, the gaps of the pitch included."""
    if not is_flat(layer):
        return []
    _, height, width = layer.input_shape
    pixels = (layer.output_shape[1] - 1) * pitch(width) + width
    p = line_of_pixels(
        size=height * pitch(width),
        out=-(-pixels // config.lines),
        pad=0,
        address=config.lines,
    )
    o = line_of_pixels(
        size=1,
        out=1 + (pixels - 1) % config.lines,
        pad=layer.pads[0] * pitch(width),
        address=1,
    )
    return [_Axes(p=p, o=o, flat=True)]


def _dense(layer: Layer, axes: _Axes, config: LinesConfig, *, own: bool) -> Iterator[LinePlan]:
    """Rotate passes: at step j column c meets channel (c + j) mod V of a word."""
    v, lines = config.columns, config.lines if own else 1
    weight = layer.weight.swapaxes(-1, -2) if axes.swapped else layer.weight
    weight = pad_axis(pad_axis(weight, 1, v * lines), 2, v)
    copies, out, in_ = weight.shape[:3]
    turned = rotated(weight, v)
    by_line = turned.reshape(copies, out // (v * lines), lines, *turned.shape[2:])
    # [groups, O tap, P tap, channel word, copies, j, line, column]: copies innermost of the loops
    loops = by_line.transpose(1, 4, 5, 3, 0, 6, 2, 7)
    trips = [in_ // v, axes.p.kernel, axes.o.kernel]
    pixels = layer.input_shape[1] * pitch(layer.input_shape[2])
    steps = [
        step(pixels, 0, 0),
        step(axes.p.dilation * axes.p.address, axes.p.dilation, 0),
        step(axes.o.dilation * axes.o.address, 0, axes.o.dilation),
    ]
    walked = walk_copies(copies, trips, steps, loops)
    if walked is None:
        return
    order = walked.reshape(len(walked), -1, lines, v)
    yield _plan(
        layer,
        axes,
        config,
        kind="rotate",
        own=own,
        products=v,
        rows=config.rows,
        inner=(config.rows, *trips),
        steps=[step(axes.p.stride * axes.p.address, axes.p.stride, 0), *steps],
        group_step=layer.input_channel_step // v * pixels,
        weights=order if own else order[:, :, 0],
    )


def _depthwise(layer: Layer, axes: _Axes, config: LinesConfig) -> Iterator[LinePlan]:
    """One product a tap: window passes along the rows' axis, or a rotate pass for each tap."""
    v = config.columns
    weight = layer.weight.swapaxes(-1, -2) if axes.swapped else layer.weight
    weight = pad_axis(weight, 1, v)
    copies, channels, o_taps, p_taps = weight.shape
    # [groups, O tap, copy, P tap, column]
    by_tap = weight.reshape(copies, channels // v, v, o_taps, p_taps).transpose(1, 3, 0, 4, 2)
    group_step = layer.input_shape[1] * pitch(layer.input_shape[2])
    across = step(axes.o.dilation * axes.o.address, 0, axes.o.dilation)
    stay = step(0, 0, 0)
    yield _plan(
        layer,
        axes,
        config,
        kind="rotate",
        own=False,
        products=1,
        rows=config.rows,
        inner=(config.rows, copies, p_taps, o_taps),
        steps=[
            step(axes.p.stride * axes.p.address, axes.p.stride, 0),
            stay,
            step(axes.p.dilation * axes.p.address, axes.p.dilation, 0),
            across,
        ],
        group_step=group_step,
        weights=by_tap.transpose(0, 1, 3, 2, 4).reshape(channels // v, -1, v),
    )
    if axes.p.stride in (1, 2) and axes.p.dilation == 1 and not axes.flat:
        # As many tiles as it takes, and no more rows in each than that; `LinesResidual` knows
        # whole tiles only.
        rows = -(-axes.p.out // -(-axes.p.out // config.rows))
        rows = rows if layer.residual is None else config.rows
        yield _plan(
            layer,
            axes,
            config,
            kind="window",
            own=False,
            products=p_taps,
            rows=rows,
            inner=(p_taps + (rows - 1) * axes.p.stride, copies, 1, o_taps),
            steps=[step(axes.p.address, 1, 0), stay, stay, across],
            group_step=group_step,
            weights=by_tap.reshape(channels // v, -1, v),
        )


def _plan(
    layer: Layer,
    axes: _Axes,
    config: LinesConfig,
    *,
    kind: PassKind,
    own: bool,
    products: int,
    rows: int,
    inner: tuple[int, ...],
    steps: list[Step],
    group_step: int,
    weights: Int8Array,
) -> LinePlan:
    p, o = axes.p, axes.o
    line_step = 0 if own else o.stride * o.address
    tiles = -(-p.out // rows)
    across = 1 if axes.flat or own else -(-o.out // config.lines)
    counts = (*inner, tiles, across, weights.shape[0])
    loops = [
        *steps,
        step(rows * p.stride * p.address, rows * p.stride, 0),
        step(config.lines * o.stride * o.address, 0, config.lines * o.stride),
        step(group_step, 0, 0),
    ]
    first, group = group_writes(layer, config.columns, pitch(layer.tensor_shape[2]))
    whole = layer.input_shape[1] * pitch(layer.input_shape[2])
    begin = layer.input_channel // config.columns * whole - p.pad * p.address - o.pad * o.address
    used = -(-layer.output_shape[0] // config.columns) if own else o.out
    last_row = (p.out - 1) * p.out_address
    last_position = (across - 1) * config.lines * o.out_address
    return LinePlan(
        kind=kind,
        own=own,
        apart=p.stride == 2 and kind == "window",
        turns=1,
        read_turned=False,
        write_turned=False,
        products=products,
        counts=counts,
        deltas=deltas(counts, loops),
        start=step(begin, -p.pad, -o.pad),
        line_address=line_step,
        line_o=0 if own or axes.flat else o.stride,
        p_bound=NO_BOUND if axes.flat else p.size - 1,
        o_bound=NO_BOUND if axes.flat else o.size - 1,
        flat=axes.flat,
        tile_rows=rows,
        rows_last=p.out - (tiles - 1) * rows,
        lines_last=1 + (used - 1) % config.lines,
        write_start=first,
        write_line=group if own else o.out_address,
        write_row=p.out_address,
        write_position=config.lines * o.out_address - last_row,
        write_group=group * (config.lines if own else 1) - last_row - last_position,
        weights=weights,
        shared_weights=bool((weights == weights[:1]).all()) and weights.shape[0] > 1,
    )
