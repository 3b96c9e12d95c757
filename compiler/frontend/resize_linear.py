"""Resize with mode linear: a depthwise ConvTranspose of a triangle's values.

A coordinate of the input is (output * down + offset) / grid with whole numbers, so the triangle is
needed at multiples of 1 / grid only: whole weights over grid, that convolutions hold exactly. What
a coordinate beyond the image reads is its edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, lcm

import numpy as np
import numpy.typing as npt

from qcompile.compiler import ir_float
from qcompile.compiler.frontend.node_reader import Imported, NodeReader, Refusal
from qcompile.compiler.frontend.selection import numbered, selected
from qcompile.compiler.ir import Int64Array, Op, Reshape, Value

MAX_GRID = 64
MAX_WEIGHT = 255
TOLERANCE = Fraction(1, 10_000)
"""By how much a coordinate may miss that of the float32 scale: a fortieth of a code's step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One resized axis: lengths before and after, scale, and the region of tf_crop_and_resize."""

    before: int
    after: int
    scale: np.float32
    start: np.float32
    end: np.float32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """Coordinates of an axis, edges that are read twice, and the triangle [2 * grid - 1].

    `unit` is the real value of 1 in `weights`.
    """

    grid: int
    down: int
    pad: int
    edges: tuple[int, int]
    weights: Int64Array
    unit: Fraction


def interpolated(node: NodeReader, coordinates: str, axes: list[Axis]) -> Imported:
    """The node's output, by linear interpolation along the axes behind the channels."""
    x = node.value(0)
    if all(axis.after == axis.before for axis in axes):
        return selected(node, numbered(x))  # ONNX Runtime copies, whatever the scales
    outer = [(axis.before, axis.after) for axis in axes[:2]]
    if len(axes) not in (3, 4) or any(before != after for before, after in outer):
        raise Refusal(
            f"mode=linear of {list(x.shape)} to {[axis.after for axis in axes]} is not supported",
            help="resize the axes behind the channels of [1, channels, height, width] or "
            "[1, channels, width]",
        )
    steps: list[tuple[Op, Value]] = []
    if len(axes) == 3:
        shape = (*x.shape[:2], 1, x.shape[2])
        steps.append(_reshape(node, x, f"{node.output}:image", shape))
        x = steps[-1][1]
    grids = [_grid(axis, coordinates) for axis in axes[2:]]
    grids = [*[_UNCHANGED] * (4 - len(axes)), *grids]
    edges = [(0, 0), (0, 0), *(grid.edges for grid in grids)]
    if any(any(pair) for pair in edges):
        steps.append(_edges(node, x, edges))
        x = steps[-1][1]
    steps += _kernel(node, grids, x.shape[1])
    image = (1, *(axis.after for axis in axes[2:]))[-2:]
    name = node.output if len(axes) == 4 else f"{node.output}:row"
    made = ir_float.FloatConvTranspose(
        inputs=(x.name, steps[-1][1].name),
        outputs=(name,),
        origins=(node.origin,),
        strides=(grids[0].grid, grids[1].grid),
        dilations=(1, 1),
        pads=(grids[0].pad, grids[1].pad, 0, 0),
        group=x.shape[1],
        down=(grids[0].down, grids[1].down),
    )
    steps.append((made, Value(name=name, shape=(*x.shape[:2], *image), dtype="float32")))
    if len(axes) == 3:
        shape = (*x.shape[:2], image[1])
        steps.append(_reshape(node, steps[-1][1], node.output, shape))
    return steps


_UNCHANGED = _Grid(
    grid=1, down=1, pad=0, edges=(0, 0), weights=np.ones(1, np.int64), unit=Fraction(1)
)


def _grid(axis: Axis, coordinates: str) -> _Grid:
    if axis.before == axis.after and axis.scale == 1:
        return _UNCHANGED
    step, first = _coordinates(axis, coordinates)
    grid = lcm(step.denominator, first.denominator)
    if grid > MAX_GRID:
        raise Refusal(
            f"mode=linear with {coordinates} from {axis.before} to {axis.after} values reads "
            f"between inputs in steps of 1/{grid}; 1/{MAX_GRID} is the finest",
            help="resize by whole factors, or with another coordinate_transformation_mode",
        )
    last = first + (axis.after - 1) * step
    edges = max(0, ceil(-first)), max(0, ceil(last - (axis.before - 1)))
    down, offset = int(step * grid), int(first * grid)
    triangle = grid - np.abs(np.arange(1 - grid, grid))
    places = (np.arange(axis.after) * down + offset) % grid
    used = np.isin(np.arange(1 - grid, grid) % grid, places)
    weights = np.where(used, triangle, 0)
    factor = int(np.gcd.reduce(weights))
    return _Grid(
        grid=grid,
        down=down,
        pad=grid - 1 + edges[0] * grid + offset,
        edges=edges,
        weights=weights // factor,
        unit=Fraction(factor, grid),
    )


def _coordinates(axis: Axis, coordinates: str) -> tuple[Fraction, Fraction]:
    """The step from one output's coordinate to the next one's, and the first one's."""
    if coordinates == "align_corners":
        return Fraction(max(axis.before - 1, 1), max(axis.after - 1, 1)), Fraction(0)
    if coordinates == "pytorch_half_pixel" and axis.after == 1:
        return Fraction(1), Fraction(0)
    step = _step(axis)
    if coordinates == "asymmetric":
        return step, Fraction(0)
    if coordinates == "tf_half_pixel_for_nn":
        return step, step / 2
    first = (step - 1) / 2
    if coordinates == "half_pixel_symmetric":  # what a fractional length leaves, on both sides
        first += (axis.before - axis.after * step) / 2
    return step, first


def _step(axis: Axis) -> Fraction:
    """1 / scale as a ratio of small numbers."""
    exact = 1 / Fraction(float(axis.scale))
    step = exact.limit_denominator(MAX_GRID)
    if abs(step - exact) * axis.after > TOLERANCE or step == 0:
        raise Refusal(
            f"mode=linear with the scale {float(axis.scale):.9g} is not supported",
            help="resize by whole factors",
        )
    return step


def _edges(node: NodeReader, x: Value, edges: list[tuple[int, int]]) -> tuple[Op, Value]:
    index = np.ascontiguousarray(np.pad(numbered(x), edges, mode="edge"))
    name = f"{node.output}:edges"
    op = ir_float.Select(inputs=(x.name,), outputs=(name,), origins=(node.origin,), index=index)
    return op, Value(name=name, shape=index.shape, dtype=x.dtype)


def _kernel(node: NodeReader, grids: list[_Grid], channels: int) -> list[tuple[Op, Value]]:
    """The weights of all channels, as a dequantized constant."""
    weights = np.multiply.outer(grids[0].weights, grids[1].weights)
    if weights.max() > MAX_WEIGHT:
        raise Refusal(
            f"mode=linear needs weights up to {weights.max()}; {MAX_WEIGHT} is the largest",
            help="resize by smaller factors, one after the other",
        )
    codes: npt.NDArray[np.uint8] = np.broadcast_to(
        weights.astype(np.uint8), (channels, 1, *weights.shape)
    ).copy()
    names = (f"{node.output}:kernel:codes", f"{node.output}:kernel")
    constant = ir_float.Constant(inputs=(), outputs=names[:1], origins=(node.origin,), data=codes)
    real = ir_float.DequantizeLinear(
        inputs=names[:1],
        outputs=names[1:],
        origins=(node.origin,),
        scale=np.asarray(grids[0].unit * grids[1].unit, dtype=np.float32),
        zero_point=np.zeros((), np.int64),
        axis=0,
    )
    return [
        (constant, Value(name=names[0], shape=codes.shape, dtype="uint8")),
        (real, Value(name=names[1], shape=codes.shape, dtype="float32")),
    ]


def _reshape(node: NodeReader, x: Value, name: str, shape: tuple[int, ...]) -> tuple[Op, Value]:
    op = Reshape(inputs=(x.name,), outputs=(name,), origins=(node.origin,), shape=shape)
    return op, Value(name=name, shape=shape, dtype=x.dtype)
