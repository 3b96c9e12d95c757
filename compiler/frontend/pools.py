"""Importers of operators that reduce windows or whole images to one value."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from qcompile.compiler import ir_float
from qcompile.compiler.frontend.node_reader import Imported, NodeReader, Refusal
from qcompile.compiler.frontend.operators import CODES, REAL_OR_CODES, Operator
from qcompile.compiler.frontend.selection import numbered
from qcompile.compiler.frontend.windows import WINDOW_ATTRIBUTES, Window, read_window
from qcompile.compiler.ir import MaxPool, Op, Reshape, Value

Image = tuple[int, int]


class Steps:
    """The operations that one node becomes; the last one makes the node's output.

    Lines [1, channels, length] are images of height 1 in between.
    """

    def __init__(self, node: NodeReader, *, codes: bool = False) -> None:
        self.node = node
        self.steps: list[tuple[Op, Value]] = []
        x = node.value(0)
        if not codes or x.dtype not in CODES:
            x = node.float_input(0)
        self.source = x
        self.x = x

    def image(self) -> Image:
        """Height and width of the input, which becomes an image if it is a line."""
        shape = self.source.shape
        if len(shape) not in (3, 4):
            raise Refusal(
                f"input '{self.source.name}' has {len(shape)} dimensions",
                help="only images [1, channels, height, width] and lines [1, channels, length]",
            )
        if len(shape) == 3:
            self.x = self.reshape(self.x, (*shape[:2], 1, shape[2]), "image")
        return self.x.shape[2], self.x.shape[3]

    def name(self, suffix: str) -> str:
        """Name of a value between."""
        return f"{self.node.output}:{suffix}"

    def add(self, op: Op, shape: tuple[int, ...]) -> Value:
        """One more operation and its value."""
        value = Value(name=op.name, shape=shape, dtype=self.source.dtype)
        self.steps.append((op, value))
        return value

    def reshape(self, x: Value, shape: tuple[int, ...], suffix: str) -> Value:
        """A value in another shape; without a suffix it is the node's output."""
        name = self.name(suffix) if suffix else self.node.output
        op = Reshape(inputs=(x.name,), outputs=(name,), origins=(self.node.origin,), shape=shape)
        return self.add(op, shape)

    def pooled(self, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...] | None]:
        """Name of the pool's result, and the shape that the node's output has behind it."""
        if len(self.source.shape) == 3:
            return self.name("pooled"), (*shape[:2], shape[3])
        return self.node.output, None

    def finish(self, value: Value, shape: tuple[int, ...] | None) -> Imported:
        """All steps, with a Reshape to the output's shape where it is another one."""
        if shape is not None:
            self.reshape(value, shape, "")
        return self.steps


def _window(steps: Steps, image: Image, *, ceil: bool) -> Window:
    node = steps.node
    axes = len(steps.source.shape) - 2
    kernel = [int(k) for k in node.attribute("kernel_shape", [], kind=list)]
    if len(kernel) != axes or min(kernel) < 1:
        raise Refusal(f"kernel_shape={kernel} is not supported", help=f"a {axes}-D kernel")
    sizes = (kernel[0], kernel[1]) if axes == 2 else (1, kernel[0])
    return read_window(node, image, sizes, line=axes == 1, ceil=ceil)


def max_pool(node: NodeReader) -> Imported:
    """MaxPool of real numbers or of codes; the places of the maxima are not supported."""
    steps = Steps(node, codes=True)
    node.attribute("storage_order", 0)  # speaks of the second output only
    image = steps.image()
    window = _window(steps, image, ceil=bool(node.attribute("ceil_mode", 0)))
    if steps.source.dtype not in CODES:
        _refuse_empty(window, image)
    name, final = steps.pooled((*steps.x.shape[:2], *window.output_size(*image)))
    return steps.finish(maximum(steps, name, window), final)


def _refuse_empty(window: Window, image: Image) -> None:
    """Refuse real windows that see nothing of the image: ONNX Runtime's result has no code."""
    for axis, count in enumerate(window.output_size(*image)):
        first = np.arange(count)[:, np.newaxis] * window.strides[axis] - window.pads[axis]
        taps = first + window.dilations[axis] * np.arange(window.kernel[axis])
        empty = np.flatnonzero(~np.any((taps >= 0) & (taps < image[axis]), axis=1))
        if empty.size:
            raise Refusal(
                f"dilations={list(window.dilations)}: window {empty[0]} along axis {axis + 2} "
                "reads padding only",
                help="pad less, or dilate less",
            )


def global_max_pool(node: NodeReader) -> Imported:
    """GlobalMaxPool."""
    steps = Steps(node)
    image = steps.image()
    name, final = steps.pooled((*steps.x.shape[:2], 1, 1))
    return steps.finish(maximum(steps, name, _whole(image)), final)


def _whole(image: Image) -> Window:
    return Window(kernel=image, strides=(1, 1), dilations=(1, 1), pads=(0, 0, 0, 0))


def maximum(steps: Steps, name: str, window: Window) -> Value:
    """The largest value of each window of the steps' image."""
    x = steps.x
    op = MaxPool(
        inputs=(x.name,),
        outputs=(name,),
        origins=(steps.node.origin,),
        kernel=window.kernel,
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads,
    )
    return steps.add(op, (*x.shape[:2], *window.output_size(x.shape[2], x.shape[3])))


# ------------------------------------------------------------------ AveragePool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """Windows along one axis that hold equally many values, one stride apart."""

    start: int
    count: int
    size: int


def average_pool(node: NodeReader) -> Imported:
    """AveragePool; windows of different sizes at the edges are pools of their own."""
    steps = Steps(node)
    image = steps.image()
    window = _window(steps, image, ceil=bool(node.attribute("ceil_mode", 0)))
    if window.dilations != (1, 1):
        raise Refusal(f"dilations={list(window.dilations)} is not supported", help="use [1, 1]")
    shape = (*steps.x.shape[:2], *window.output_size(*image))
    name, final = steps.pooled(shape)
    if node.attribute("count_include_pad", 0):
        return steps.finish(mean(steps, name, window, math.prod(window.kernel)), final)
    rows, columns = (_runs(window, axis, image[axis]) for axis in (0, 1))
    if len({row.size * column.size for row in rows for column in columns}) == 1:
        return steps.finish(mean(steps, name, window, rows[0].size * columns[0].size), final)
    return steps.finish(_by_parts(steps, name, window, rows, columns), final)


def _runs(window: Window, axis: int, length: int) -> list[_Run]:
    """The windows along one axis, cut off at the edges, in runs of equal sizes."""
    stride, kernel = window.strides[axis], window.kernel[axis]
    count = window.output_size(length, length)[axis]
    runs: list[_Run] = []
    for position in range(count):
        first = position * stride - window.pads[axis]
        start, end = max(first, 0), min(first + kernel, length)
        last = runs[-1] if runs else None
        size = end - start
        if last and last.size == size and start == last.start + last.count * stride:
            runs[-1] = _Run(start=last.start, count=last.count + 1, size=size)
        else:
            runs.append(_Run(start=start, count=1, size=size))
    return runs


def mean(steps: Steps, name: str, window: Window, divisor: int, x: Value | None = None) -> Value:
    """The mean of each window of the steps' image, or of `x`."""
    x = x or steps.x
    image = x.shape[2], x.shape[3]
    op = ir_float.FloatAveragePool(
        inputs=(x.name,),
        outputs=(name,),
        origins=(steps.node.origin,),
        kernel=window.kernel,
        strides=window.strides,
        pads=window.pads,
        divisor=divisor,
        whole_image=x is steps.x and window.kernel == image and not any(window.pads),
    )
    return steps.add(op, (*x.shape[:2], *window.output_size(*image)))


def _by_parts(
    steps: Steps, name: str, window: Window, rows: list[_Run], columns: list[_Run]
) -> Value:
    """A pool for each part of the image whose windows have one size, then joined."""
    lines = []
    for i, row in enumerate(rows):
        parts = [
            _part(steps, window, (row, column), f"{i}:{j}") for j, column in enumerate(columns)
        ]
        lines.append(_joined(steps, parts, 3, steps.name(f"row{i}")))
    return _joined(steps, lines, 2, name)


def _part(steps: Steps, window: Window, runs: tuple[_Run, _Run], suffix: str) -> Value:
    spans = [
        slice(run.start, run.start + (run.count - 1) * stride + run.size)
        for run, stride in zip(runs, window.strides, strict=True)
    ]
    index = np.ascontiguousarray(numbered(steps.x)[:, :, spans[0], spans[1]])
    select = ir_float.Select(
        inputs=(steps.x.name,),
        outputs=(steps.name(f"taps{suffix}"),),
        origins=(steps.node.origin,),
        index=index,
    )
    x = steps.add(select, index.shape)
    kernel = (runs[0].size, runs[1].size)
    part = Window(kernel=kernel, strides=window.strides, dilations=(1, 1), pads=(0, 0, 0, 0))
    return mean(steps, steps.name(f"mean{suffix}"), part, math.prod(kernel), x)


def _joined(steps: Steps, parts: list[Value], axis: int, name: str) -> Value:
    op = ir_float.Concat(
        inputs=tuple(part.name for part in parts),
        outputs=(name,),
        origins=(steps.node.origin,),
        axis=axis,
    )
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)
    return steps.add(op, tuple(shape))


def global_average_pool(node: NodeReader) -> Imported:
    """GlobalAveragePool."""
    steps = Steps(node)
    image = steps.image()
    name, final = steps.pooled((*steps.x.shape[:2], 1, 1))
    return steps.finish(mean(steps, name, _whole(image), math.prod(image)), final)


_POOL_ATTRIBUTES = {**WINDOW_ATTRIBUTES, "ceil_mode": ""}
AVERAGE_POOL_ATTRIBUTES = {**_POOL_ATTRIBUTES, "count_include_pad": "", "dilations": "1"}

OPERATORS: dict[str, Operator] = {
    "AveragePool": Operator(
        read=average_pool,
        runs=("accelerator",),
        agreement="1 step",
        attributes=AVERAGE_POOL_ATTRIBUTES,
        remark="lines and images; equal over whole images, and elsewhere but for ties, which may "
        "be a step apart because ONNX Runtime adds in float ([islands](#float-islands))",
    ),
    "GlobalAveragePool": Operator(
        read=global_average_pool, runs=("accelerator",), remark="lines and images"
    ),
    "GlobalMaxPool": Operator(
        read=global_max_pool, runs=("accelerator",), remark="lines and images"
    ),
    "MaxPool": Operator(
        read=max_pool,
        runs=("accelerator",),
        types=REAL_OR_CODES,
        attributes={**_POOL_ATTRIBUTES, "storage_order": ""},
        remark="lines and images; without its second output",
    ),
}
