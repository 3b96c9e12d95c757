"""Importers of operators that put values in other places: one list of indices for each of them.

Every importer numbers the elements of its input, moves the numbers as ONNX says, and has the index
of an `ir_float.Select`. What the operator fills in has the number -1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from qcompile.compiler import ir_float
from qcompile.compiler.frontend.loader import MAX_TENSOR_BYTES
from qcompile.compiler.frontend.node_reader import (
    Imported,
    Importer,
    NodeReader,
    Refusal,
    resolved_axis,
)
from qcompile.compiler.frontend.operators import REAL_OR_CODES, Operator
from qcompile.compiler.ir import Int32Array, Op, Value


def numbered(value: Value) -> Int32Array:
    """The number of each element, row-major, in the value's shape."""
    return np.arange(value.elements, dtype=np.int32).reshape(value.shape)


def selected(node: NodeReader, index: Int32Array, *, fill: float = 0.0) -> Imported:
    """The node's only output, by the numbers of input 0's elements."""
    return _selection(node, node.output, index, fill)


def _selection(
    node: NodeReader, output: str, index: Int32Array, fill: float = 0.0
) -> tuple[Op, Value]:
    x = node.value(0)
    if index.size == 0:
        raise Refusal(f"makes an empty tensor {list(index.shape)}", help="remove the operator")
    op = ir_float.Select(
        inputs=(x.name,),
        outputs=(output,),
        origins=(node.origin,),
        index=np.asarray(index, dtype=np.int32, order="C"),
        fill=fill,
    )
    return op, Value(name=output, shape=tuple(index.shape), dtype=x.dtype)


def concat(node: NodeReader) -> Imported:
    """Concat along one axis."""
    values = [node.value(i) for i in range(len(node.node.input))]
    first = values[0]
    axis, rank = resolved_axis(int(node.attribute("axis", 0)), len(first.shape)), len(first.shape)
    others = (rank, first.shape[:axis], first.shape[axis + 1 :], first.dtype)
    for value in values:
        x = value.shape
        if (len(x), x[:axis], x[axis + 1 :], value.dtype) != others:
            raise Refusal(
                f"'{value.name}' {value.dtype}{list(value.shape)} does not fit "
                f"'{first.name}' {first.dtype}{list(first.shape)}",
                broken=True,
            )
    op = ir_float.Concat(
        inputs=tuple(value.name for value in values),
        outputs=(node.output,),
        origins=(node.origin,),
        axis=axis,
    )
    length = sum(value.shape[axis] for value in values)
    shape = (*first.shape[:axis], length, *first.shape[axis + 1 :])
    return op, Value(name=node.output, shape=shape, dtype=first.dtype)


def split(node: NodeReader) -> Imported:
    """Split into parts of stated or equal lengths; outputs without a name are left out."""
    x = node.value(0)
    axis = resolved_axis(int(node.attribute("axis", 0)), len(x.shape))
    count = len(node.node.output)
    stated = node.attribute("split", kind=list) if node.opset < 13 else node.integers(1, "split")
    number = node.attribute("num_outputs", kind=int) if node.opset >= 18 else None
    if stated is None:
        size = -(-x.shape[axis] // (number or count))  # the last part may be shorter
        stated = [min(size, x.shape[axis] - i * size) for i in range(number or count)]
    if len(stated) != count or sum(stated) != x.shape[axis] or min(stated) < 0:
        raise Refusal(
            f"parts {list(stated)} of {x.shape[axis]} for {count} outputs do not fit", broken=True
        )
    parts = np.split(numbered(x), np.cumsum(stated)[:-1], axis=axis)
    outputs = zip(node.node.output, parts, strict=True)
    return [_selection(node, name, index) for name, index in outputs if name]


def slice_(node: NodeReader) -> Imported:
    """Slice with constant starts, ends, axes and steps, which may be negative."""
    x = node.value(0)
    starts, ends, axes, steps = (
        node.integers(i, what) for i, what in enumerate(("starts", "ends", "axes", "steps"), 1)
    )
    if starts is None or ends is None:
        raise Refusal("has no starts or ends", broken=True)
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = (1,) * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise Refusal("starts, ends, axes and steps do not fit", broken=True)
    resolved = [resolved_axis(axis, len(x.shape)) for axis in axes]
    if len(set(resolved)) != len(resolved):
        raise Refusal(f"axes={list(axes)} repeat", broken=True)
    index = numbered(x)
    for start, end, axis, step in zip(starts, ends, resolved, steps, strict=True):
        places = np.asarray(_range(start, end, step, x.shape[axis]), dtype=np.int64)
        index = np.take(index, places, axis=axis)
    return selected(node, index)


def _range(start: int, end: int, step: int, size: int) -> range:
    """Positions of a slice of an axis; starts and ends beyond it are clamped as ONNX says."""
    low, high = (0, size) if step > 0 else (-1, size - 1)
    start, end = (bound + size if bound < 0 else bound for bound in (start, end))
    return range(min(max(start, low if step > 0 else 0), high), min(max(end, low), high), step)


def pad(node: NodeReader) -> Imported:
    """Pad: constant (a value that is a constant too), reflect, edge or wrap."""
    x = node.value(0)
    rank = len(x.shape)
    mode = node.attribute("mode", "constant")
    if node.opset < 11:
        pads = tuple(int(p) for p in node.attribute("pads", [], kind=list))
        fill, axes = float(node.attribute("value", 0.0)), None
    else:
        pads = node.integers(1, "pads") or ()
        value = node.constant(2, "constant_value")
        fill = 0.0 if value is None or value.size == 0 else float(value.reshape(-1)[0])
        axes = node.integers(3, "axes") if node.opset >= 18 else None
    axes = tuple(range(rank)) if axes is None else axes
    places = [resolved_axis(axis, rank) for axis in axes]
    if len(pads) != 2 * len(places) or len(set(places)) != len(places):
        raise Refusal(f"pads={list(pads)} do not fit {rank} axes", broken=True)
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise Refusal(f"mode={mode} is unknown", broken=True)
    if np.isnan(fill):
        raise Refusal("constant_value is not a number (NaN)", broken=True)
    if mode != "constant" and min(pads, default=0) < 0:
        raise Refusal(f"mode={mode} with negative pads is not supported", help="use Slice")
    index = numbered(x)
    for place, before, after in zip(places, pads, pads[len(places) :], strict=False):
        index = _padded(index, place, before, after, mode)
    return selected(node, index, fill=fill)


def _padded(index: Int32Array, axis: int, before: int, after: int, mode: str) -> Int32Array:
    """Numbers padded along one axis; a negative pad takes away."""
    size = index.shape[axis]
    if mode == "reflect" and max(before, after) >= size:
        raise Refusal(
            f"reflects {max(before, after)} of {size} values", help="reflect less than the axis"
        )
    kept = np.arange(max(0, -before), size - max(0, -after))
    index = np.take(index, kept, axis=axis)
    widths = [(0, 0)] * index.ndim
    widths[axis] = (max(0, before), max(0, after))
    small_shape([d + sum(w) for d, w in zip(index.shape, widths, strict=True)])
    if index.size == 0:
        return index
    if mode == "constant":
        return np.pad(index, widths, constant_values=-1)
    if mode == "reflect":
        return np.pad(index, widths, mode="reflect")
    return np.pad(index, widths, mode="edge" if mode == "edge" else "wrap")


def gather(node: NodeReader) -> Imported:
    """Gather along one axis with constant indices."""
    x = node.value(0)
    axis = resolved_axis(int(node.attribute("axis", 0)), len(x.shape))
    indices = node.constant(1, "indices")
    if indices is None or indices.dtype.kind not in "iu":
        raise Refusal("has no indices", broken=True)
    size = x.shape[axis]
    if indices.size and not -size <= int(indices.min()) <= int(indices.max()) < size:
        raise Refusal(
            f"indices {indices.min()}..{indices.max()} are not all of {size} values", broken=True
        )
    small_shape([*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]])
    return selected(node, np.take(numbered(x), indices.astype(np.int64), axis=axis))


def expand(node: NodeReader) -> Imported:
    """Expand: broadcast to a constant shape, in both directions."""
    x = node.value(0)
    target = node.integers(1, "shape")
    if target is None or min(target, default=1) < 1:
        raise Refusal("has no valid shape", broken=True)
    try:
        shape = np.broadcast_shapes(x.shape, target)
    except ValueError:
        raise Refusal(
            f"{list(x.shape)} does not broadcast to {list(target)}", broken=True
        ) from None
    return selected(node, np.broadcast_to(numbered(x), small_shape(shape)))


def tile(node: NodeReader) -> Imported:
    """Tile with constant repeats."""
    x = node.value(0)
    repeats = node.integers(1, "repeats")
    if repeats is None or len(repeats) != len(x.shape) or min(repeats, default=1) < 1:
        raise Refusal(f"repeats={list(repeats or ())} do not fit {list(x.shape)}", broken=True)
    small_shape([d * r for d, r in zip(x.shape, repeats, strict=True)])
    return selected(node, np.tile(numbered(x), repeats))


def small_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape, refused before memory is taken for what cannot be meant."""
    if math.prod(shape) * 4 > MAX_TENSOR_BYTES:
        raise Refusal(f"makes a tensor of {math.prod(shape):,} elements", help="too large")
    return tuple(shape)


def depth_to_space(node: NodeReader) -> Imported:
    """DepthToSpace, whose channels are blocks of columns (DCR) or of channels (CRD)."""
    x, (_, channels, height, width) = _image(node)
    size, mode = _block(node), node.attribute("mode", "DCR")
    if channels % (size * size):
        raise Refusal(f"blocksize={size} does not divide {channels} channels", broken=True)
    if mode not in ("DCR", "CRD"):
        raise Refusal(f"mode={mode} is unknown", broken=True)
    depth = channels // (size * size)
    if mode == "DCR":
        blocks = numbered(x).reshape(1, size, size, depth, height, width)
        blocks = blocks.transpose(0, 3, 4, 1, 5, 2)
    else:
        blocks = numbered(x).reshape(1, depth, size, size, height, width)
        blocks = blocks.transpose(0, 1, 4, 2, 5, 3)
    return selected(node, blocks.reshape(1, depth, height * size, width * size))


def space_to_depth(node: NodeReader) -> Imported:
    """SpaceToDepth: a block's rows and columns become channels, in front of the channels."""
    x, (_, channels, height, width) = _image(node)
    size = _block(node)
    if height % size or width % size:
        raise Refusal(f"blocksize={size} does not divide {list(x.shape)}", broken=True)
    blocks = numbered(x).reshape(1, channels, height // size, size, width // size, size)
    blocks = blocks.transpose(0, 3, 5, 1, 2, 4)
    return selected(node, blocks.reshape(1, -1, height // size, width // size))


def _image(node: NodeReader) -> tuple[Value, tuple[int, int, int, int]]:
    x = node.value(0)
    if len(x.shape) != 4 or x.shape[0] != 1:
        raise Refusal(
            f"input '{x.name}' is {list(x.shape)}",
            help="only images [1, channels, height, width] are supported",
        )
    return x, (x.shape[0], x.shape[1], x.shape[2], x.shape[3])


def _block(node: NodeReader) -> int:
    size = int(node.attribute("blocksize", 0))
    if size < 1:
        raise Refusal(f"blocksize={size} is not valid", broken=True)
    return size


def _move(read: Importer, remark: str, **attributes: str) -> Operator:
    return Operator(
        read=read,
        runs=("accelerator", "host"),
        types=REAL_OR_CODES,
        attributes=attributes,
        remark=f"{remark}{'; ' if remark else ''}[moves](#moves)",
    )


OPERATORS: dict[str, Operator] = {
    "Concat": Operator(
        read=concat,
        runs=("accelerator", "host"),
        types=REAL_OR_CODES,
        attributes={"axis": ""},
        remark="of activations; operands of other scales than the result by tables; "
        "[moves](#moves)",
    ),
    "DepthToSpace": _move(depth_to_space, "", blocksize="", mode="since opset 11"),
    "Expand": _move(expand, "a constant shape"),
    "Gather": _move(gather, "constant indices", axis=""),
    "Pad": _move(
        pad,
        "constant pads and value",
        mode="",
        pads="before opset 11",
        value="before opset 11",
    ),
    "Slice": _move(slice_, "constant starts, ends, axes and steps"),
    "SpaceToDepth": _move(space_to_depth, "", blocksize=""),
    "Split": _move(
        split, "constant lengths", axis="", num_outputs="since opset 18", split="before opset 13"
    ),
    "Tile": _move(tile, "constant repeats"),
}
