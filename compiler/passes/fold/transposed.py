"""Folds ConvTranspose: an ordinary convolution of the input for each phase of the output.

With stride s the output positions t * s + r of a phase r see only the taps k for which
r + pad - k * dilation is a multiple of s, at the inputs t + (r + pad - k * dilation) / s: a
convolution of stride 1 with these taps, last one first. No product has a zero in it that was put
between inputs. A Select puts the phases together.

Where only every down-th position is an output there are s / gcd(s, down) phases, and their
convolutions have the stride down / gcd(s, down). A linear Resize is made of these.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import gcd

import numpy as np

from qcompile.compiler import ir_float, ir_quantized
from qcompile.compiler.ir import Int16Array, Op, Origin, Select, Value
from qcompile.compiler.passes.fold.folder import Folder
from qcompile.compiler.passes.fold.groups import Made, NotFoldable, Pending, Weight
from qcompile.compiler.passes.fold.multiply import finish_convolution, fold_multiply

PHASE = ":phase"
"""Suffix of a phase of a result."""


MAX_PHASES = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """A phase along one axis: a convolution of `length` results, the first `count` of them wanted.

    `taps` are positions in the ONNX kernel, None for a weight of 0.
    """

    start: int
    step: int
    count: int
    taps: tuple[int | None, ...]
    stride: int
    dilation: int
    pads: tuple[int, int]
    length: int


def fold_transposed(folder: Folder, op: ir_float.FloatConvTranspose) -> None:
    """A ConvTranspose of codes and a dequantized constant, perhaps with a bias."""
    fold_multiply(folder, op, finish_conv=_phases)


def _phases(pending: Pending, output: Value, origins: tuple[Origin, ...]) -> Made:
    op = pending.op
    assert isinstance(op, ir_float.FloatConvTranspose)
    assert pending.weight is not None, "fold_qdq gives every convolution its weight"
    pending = replace(pending, weight=_by_output(pending.weight, op.group))
    whole = finish_convolution(pending, output, origins)
    _refuse_many(op, output)
    pairs = list(product(*(_phases_of_axis(op, axis, whole, pending, output) for axis in range(2))))
    if len(pairs) == 1 and all(axis.length == axis.count for axis in pairs[0]):
        return _phase(whole, pairs[0], output.name)
    made: list[tuple[Op, Value]] = []
    for number, pair in enumerate(pairs):
        shape = (*output.shape[:2], pair[0].length, pair[1].length)
        value = replace(output, name=f"{output.name}{PHASE}{number}", shape=shape)
        made.append((_phase(whole, pair, value.name), value))
    return [*made, (_joined(output, pairs, [value for _, value in made], origins), output)]


def _by_output(weight: Weight, group: int) -> Weight:
    """The weight as a Conv has it, [O, C / group, kh, kw], its parameters along axis 0."""
    channels, outputs, *kernel = weight.codes.shape
    grouped = weight.codes.reshape(group, channels // group, outputs, *kernel).swapaxes(1, 2)
    codes = grouped.reshape(group * outputs, channels // group, *kernel)
    scale, zero_point = weight.scale, weight.zero_point
    if scale.ndim and weight.axis == 1:
        scale, zero_point = np.tile(scale, group), np.tile(zero_point, group)
    elif scale.ndim and weight.axis == 0 and group == channels:
        scale, zero_point = np.repeat(scale, outputs), np.repeat(zero_point, outputs)
    elif scale.ndim:
        raise NotFoldable(
            f"weight scales run along axis {weight.axis}",
            "quantize weights per tensor or per output channel (axis 1)",
        )
    return Weight(codes=codes, scale=scale, zero_point=zero_point, axis=0)


def _period(op: ir_float.FloatConvTranspose, axis: int) -> int:
    return op.strides[axis] // gcd(op.strides[axis], op.down[axis])


def _refuse_many(op: ir_float.FloatConvTranspose, output: Value) -> None:
    phases = [min(_period(op, axis), output.shape[2 + axis]) for axis in range(2)]
    if phases[0] * phases[1] > MAX_PHASES:
        raise NotFoldable(
            f"its results have {phases[0]} x {phases[1]} different sets of taps, "
            f"more than {MAX_PHASES}",
            "use smaller strides or factors, one after the other",
        )


def _phases_of_axis(
    op: ir_float.FloatConvTranspose,
    axis: int,
    whole: ir_quantized.QuantizedConv,
    pending: Pending,
    output: Value,
) -> list[_Axis]:
    inputs, outputs = pending.inputs[0].shape[2 + axis], output.shape[2 + axis]
    kernel = whole.weight.shape[2 + axis]
    return [
        _phase_of_axis(op, axis, start, kernel=kernel, sizes=(inputs, outputs))
        for start in range(min(_period(op, axis), outputs))
    ]


def _phase_of_axis(
    op: ir_float.FloatConvTranspose, axis: int, start: int, *, kernel: int, sizes: tuple[int, int]
) -> _Axis:
    """Phase `start` along an axis, on which input and output have `sizes`."""
    stride, dilation, down = op.strides[axis], op.dilations[axis], op.down[axis]
    first, step = start * down + op.pads[axis], _period(op, axis)
    taps: list[int | None] = []
    taps += [k for k in reversed(range(kernel)) if (first - k * dilation) % stride == 0]
    offsets = [(first - k * dilation) // stride for k in taps if k is not None] or [0]
    spread = dilation // gcd(dilation, stride) if len(taps) > 1 else 1
    if offsets[0] > 0:  # the window begins at the input's first value, or before
        more = -(-offsets[0] // spread)
        taps = [*[None] * more, *taps]
        offsets = [offsets[0] - more * spread, *offsets]
    count, moves = len(range(start, sizes[1], step)), down // gcd(down, stride)
    span, before = offsets[-1] - offsets[0] + 1, -offsets[0]
    behind = max(0, (count - 1) * moves + span - sizes[0] - before)
    return _Axis(
        start=start,
        step=step,
        count=count,
        taps=tuple(taps) or (None,),
        stride=moves,
        dilation=spread,
        pads=(before, behind),
        length=(sizes[0] + before + behind - span) // moves + 1,
    )


def _phase(
    whole: ir_quantized.QuantizedConv, pair: tuple[_Axis, ...], name: str
) -> ir_quantized.QuantizedConv:
    down, across = pair
    return replace(
        whole,
        outputs=(name,),
        weight=_taps(_taps(whole.weight, down.taps, 2), across.taps, 3),
        strides=(down.stride, across.stride),
        dilations=(down.dilation, across.dilation),
        pads=(down.pads[0], across.pads[0], down.pads[1], across.pads[1]),
    )


def _taps(weight: Int16Array, taps: tuple[int | None, ...], axis: int) -> Int16Array:
    """Some positions of the kernel along an axis, zeros for None."""
    zeros = np.zeros_like(np.take(weight, [0], axis=axis))
    return np.take(
        np.concatenate([weight, zeros], axis=axis),
        [weight.shape[axis] if tap is None else tap for tap in taps],
        axis=axis,
    )


def _joined(
    output: Value,
    pairs: list[tuple[_Axis, ...]],
    phases: list[Value],
    origins: tuple[Origin, ...],
) -> Select:
    index = np.empty(output.shape, np.int32)
    begin = 0
    for (down, across), phase in zip(pairs, phases, strict=True):
        numbers = begin + np.arange(phase.elements, dtype=np.int32).reshape(phase.shape)
        rows, columns = (slice(axis.count) for axis in (down, across))
        target = index[:, :, down.start :: down.step, across.start :: across.step]
        target[...] = numbers[:, :, rows, columns]
        begin += phase.elements
    return Select(
        inputs=tuple(phase.name for phase in phases),
        outputs=(output.name,),
        origins=origins,
        index=index,
        joins_parts=True,
    )
