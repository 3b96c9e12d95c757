"""Folds ConvTranspose: an ordinary convolution of the input for each phase of the output.

With stride s the output positions t * s + r of a phase r see only the taps k for which
r + pad - k * dilation is a multiple of s, at the inputs t + (r + pad - k * dilation) / s: a
convolution of stride 1 with these taps, last one first. No product has a zero in it that was put
between inputs. A Select puts the phases together.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """A phase along one axis: a convolution of which results `skip` to `skip + count` are wanted.

    `taps` are positions in the ONNX kernel, () where the phase sees no input.
    """

    start: int
    step: int
    count: int
    taps: tuple[int, ...]
    dilation: int
    pads: tuple[int, int]
    skip: int
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
        for start in range(min(op.strides[axis], outputs))
    ]


def _phase_of_axis(
    op: ir_float.FloatConvTranspose, axis: int, start: int, *, kernel: int, sizes: tuple[int, int]
) -> _Axis:
    """Phase `start` along an axis, on which input and output have `sizes`."""
    stride, dilation, first = op.strides[axis], op.dilations[axis], start + op.pads[axis]
    inputs, outputs = sizes
    taps = tuple(k for k in reversed(range(kernel)) if (first - k * dilation) % stride == 0)
    offsets = [(first - k * dilation) // stride for k in taps] or [0]
    count = len(range(start, outputs, stride))
    before, skip = max(0, -offsets[0]), max(0, offsets[0])
    unpadded = inputs + before - (offsets[-1] - offsets[0])
    behind = max(0, skip + count - unpadded)
    return _Axis(
        start=start,
        step=stride,
        count=count,
        taps=taps,
        dilation=dilation // gcd(dilation, stride) if len(taps) > 1 else 1,
        pads=(before, behind),
        skip=skip,
        length=unpadded + behind,
    )


def _phase(
    whole: ir_quantized.QuantizedConv, pair: tuple[_Axis, ...], name: str
) -> ir_quantized.QuantizedConv:
    down, across = pair
    return replace(
        whole,
        outputs=(name,),
        weight=_taps(_taps(whole.weight, down.taps, 2), across.taps, 3),
        strides=(1, 1),
        dilations=(down.dilation, across.dilation),
        pads=(down.pads[0], across.pads[0], down.pads[1], across.pads[1]),
    )


def _taps(weight: Int16Array, taps: tuple[int, ...], axis: int) -> Int16Array:
    """Some positions of the kernel along an axis; one of zeros where there is none."""
    if taps:
        return np.take(weight, taps, axis=axis)
    return np.zeros_like(np.take(weight, [0], axis=axis))


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
        rows, columns = (slice(axis.skip, axis.skip + axis.count) for axis in (down, across))
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
