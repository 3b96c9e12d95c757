"""Largest codes of windows, from sums alone: max(x, m) = x + relu(m - x).

Two layers take in one more tap of a window. The first one makes d = clamp(m - x - 128), where the
clamp of int8 is the relu, the second one x + d + 128. Both copy the tap x from the pool's input
and have m or d as residual operand; the first one copies -1 - x, so that it can add. Windows are
done along one axis and then along the other, and long ones by doubling or halving, where that
takes fewer cycles. Logarithmic codes are ordered as what they stand for, and the array of shifts
takes the larger of a code and a residual one, so there a tap is one layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from qcompile.compiler import ir
from qcompile.compiler.add_tables import AddTables, sum_tables
from qcompile.compiler.layers import Layer, Shape3
from qcompile.compiler.machine import cheapest
from qcompile.compiler.passes.lowering.layer import copy_layer, shape3
from qcompile.compiler.passes.lowering.state import Lowering

LOWEST = -128
Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Stage:
    """output[i] = largest of input[i * stride + offset], for the offsets, along each axis.

    An offset is one of (row, column); what lies beyond the input never wins.
    """

    offsets: tuple[Pair, ...]
    strides: Pair
    size: Pair


def max_pool(state: Lowering, op: ir.MaxPool) -> None:
    """The layers of a pool; the last one has its name."""
    source = state.source(op.inputs[0])
    shape, out = shape3(state.graph, op.inputs[0]), shape3(state.graph, op.outputs[0])
    rows, columns = (_along(op, axis, shape, out) for axis in (0, 1))
    plans = [[*rows, *columns], [*columns, *rows], [_joint(op, out)]]
    forms = [_layers(state, op, source, shape, plan) for plan in plans]
    state.layers += cheapest(state.machine, forms)


def _joint(op: ir.MaxPool, out: Shape3) -> _Stage:
    offsets = tuple(
        (row * op.dilations[0] - op.pads[0], column * op.dilations[1] - op.pads[1])
        for row in range(op.kernel[0])
        for column in range(op.kernel[1])
    )
    return _Stage(offsets, op.strides, (out[1], out[2]))


def _along(op: ir.MaxPool, axis: int, shape: Shape3, out: Shape3) -> list[_Stage]:
    """Stages along one axis; their `size` is 0 along the other one, which stays as it is."""
    kernel, stride, dilation = op.kernel[axis], op.strides[axis], op.dilations[axis]
    first, size, outputs = -op.pads[axis], shape[1 + axis], out[1 + axis]
    if outputs == 1 and dilation == 1:
        lines = list(_halving(max(first, 0), min(first + kernel, size)))
    elif stride == dilation == 1:
        lines = list(_doubling(first, kernel, outputs))
    else:
        lines = [([first + tap * dilation for tap in range(kernel)], stride, outputs)]
    return [
        _Stage(
            tuple((at, 0) if axis == 0 else (0, at) for at in offsets),
            (step, 1) if axis == 0 else (1, step),
            (count, 0) if axis == 0 else (0, count),
        )
        for offsets, step, count in lines
    ]


def _halving(begin: int, end: int) -> Iterator[tuple[list[int], int, int]]:
    """Offsets, stride and size of stages that leave the largest of input[begin:end]."""
    while end - begin > 3:
        half = (end - begin + 1) // 2
        yield [begin, end - half], 1, half
        begin, end = 0, half
    yield list(range(begin, end)), 1, 1


def _doubling(first: int, kernel: int, outputs: int) -> Iterator[tuple[list[int], int, int]]:
    """Stages that leave the largest of `kernel` neighbours; the first one starts at `first`."""
    if kernel <= 3:
        yield [first + tap for tap in range(kernel)], 1, outputs
        return
    half = (kernel + 1) // 2
    yield from _doubling(first, half, outputs + kernel - half)
    yield [0, kernel - half], 1, outputs


def _layers(
    state: Lowering, op: ir.MaxPool, source: str, shape: Shape3, stages: Sequence[_Stage]
) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    for stage in stages:
        size = (stage.size[0] or shape[1], stage.size[1] or shape[2])
        if stage.offsets == ((0, 0),) and size == shape[1:]:
            continue
        out = (shape[0], *size)
        taps = _Taps(state, op, source, (shape, out), stage)
        best = taps.add(layers, 0)
        for tap in range(1, len(stage.offsets)):
            if state.log is not None:
                best = taps.add(layers, tap, best)
                continue
            excess = taps.add(layers, tap, best, sum_tables(LOWEST + 1), inverted=True)
            best = taps.add(layers, tap, excess, sum_tables(-LOWEST))
        source, shape = best, out
    if not layers:  # a window of one
        layers.append(copy_layer(op, state.mode, source, (shape, shape), log=state.log))
    last = replace(layers[-1], name=op.name, output=op.outputs[0], inner=False)
    return (*layers[:-1], last)


@dataclass(frozen=True, slots=True)
class _Taps:
    """Layers that copy a tap of a stage's windows."""

    state: Lowering
    op: ir.MaxPool
    source: str
    shapes: tuple[Shape3, Shape3]
    stage: _Stage

    def add(
        self,
        layers: list[Layer],
        tap: int,
        residual: str | None = None,
        tables: AddTables | None = None,
        *,
        inverted: bool = False,
    ) -> str:
        """Appends a layer that copies the tap, adds the residual operand; its tensor's name."""
        row, column = self.stage.offsets[tap]
        layer = copy_layer(
            self.op,
            self.state.mode,
            self.source,
            self.shapes,
            strides=self.stage.strides,
            pads=(-row, -column),
            pad_code=LOWEST if self.state.log is None else 0,
            inverted=inverted,
            log=self.state.log,
        )
        name = f"{self.op.name}:max{len(layers)}"
        layers.append(
            replace(layer, name=name, output=name, residual=residual, add_tables=tables, inner=True)
        )
        return name
