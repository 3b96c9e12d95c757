"""Importers of operators that reduce axes: a pool with one window over all that is reduced."""

from __future__ import annotations

import math

from qcompile.compiler import ir_float
from qcompile.compiler.frontend.node_reader import Imported, NodeReader, Refusal, resolved_axis
from qcompile.compiler.frontend.operators import REAL_OR_CODES, Operator
from qcompile.compiler.frontend.pools import Steps, maximum, mean
from qcompile.compiler.frontend.windows import Window
from qcompile.compiler.ir import Value


def reduce_max(node: NodeReader) -> Imported:
    """ReduceMax over any axes but the batch."""
    steps = Steps(node, codes=True)
    return _reduced(steps, mean_of=False)


def reduce_mean(node: NodeReader) -> Imported:
    """ReduceMean over any axes but the batch, as GlobalAveragePool."""
    return _reduced(Steps(node), mean_of=True)


def _axes(node: NodeReader, rank: int) -> list[int]:
    axes = node.attribute("axes", kind=list) if node.opset < 18 else node.integers(1, "axes")
    if not axes and node.attribute("noop_with_empty_axes", 0):
        raise Refusal("reduces no axis", help="remove the operator")
    listed = range(rank) if not axes else [resolved_axis(int(axis), rank) for axis in axes]
    return sorted(set(listed))


def _reduced(steps: Steps, *, mean_of: bool) -> Imported:
    """Kept axes become channels and reduced ones the rows of a pool's only window.

    One axis of an image is reduced where it is, by a window over all of it.
    """
    node, x = steps.node, steps.source
    rank = len(x.shape)
    listed = _axes(node, rank)
    axes = [axis for axis in listed if axis != 0]  # the batch has length 1
    if not axes or x.shape[0] != 1:
        raise Refusal(f"reduces axes {listed} of {list(x.shape)}", help="keep axis 0, the batch")
    kept = [axis for axis in range(rank) if axis not in axes]
    window = math.prod(x.shape[axis] for axis in axes)
    kernel = (window, 1)
    if rank == 4 and axes in ([2], [3]):
        steps.x = x
        kernel = (window, 1) if axes == [2] else (1, window)
    else:
        image = (1, x.elements // window, window, 1)
        moved = _transposed(steps, [*kept, *axes])
        steps.x = steps.reshape(moved, image, "image")
    pool = Window(kernel=kernel, strides=(1, 1), dilations=(1, 1), pads=(0, 0, 0, 0))
    shape = [1 if axis in listed else d for axis, d in enumerate(x.shape)]
    if not node.attribute("keepdims", 1):
        shape = [d for axis, d in enumerate(x.shape) if axis not in listed]
    if mean_of:
        value = mean(steps, steps.name("pooled"), pool, window)
        return steps.finish(value, tuple(shape))
    return steps.finish(maximum(steps, steps.name("pooled"), pool), tuple(shape))


def _transposed(steps: Steps, permutation: list[int]) -> Value:
    x = steps.source
    if permutation == sorted(permutation):
        return x
    op = ir_float.Transpose(
        inputs=(x.name,),
        outputs=(steps.name("moved"),),
        origins=(steps.node.origin,),
        permutation=tuple(permutation),
    )
    return steps.add(op, tuple(x.shape[axis] for axis in permutation))


def arg_max(node: NodeReader) -> Imported:
    """ArgMax of real numbers or of codes, on the host."""
    x = node.value(0)
    axis = resolved_axis(int(node.attribute("axis", 0)), len(x.shape))
    keepdims = bool(node.attribute("keepdims", 1))
    op = ir_float.ArgMax(
        inputs=(x.name,),
        outputs=(node.output,),
        origins=(node.origin,),
        axis=axis,
        keepdims=keepdims,
        select_last_index=bool(node.attribute("select_last_index", 0)),
    )
    shape = list(x.shape)
    shape[axis : axis + 1] = [1] if keepdims else []
    return op, Value(name=node.output, shape=tuple(shape), dtype="int64")


_REDUCTION = {"axes": "before opset 18", "keepdims": "", "noop_with_empty_axes": ""}

OPERATORS: dict[str, Operator] = {
    "ArgMax": Operator(
        read=arg_max,
        runs=("host",),
        types=REAL_OR_CODES,
        attributes={"axis": "", "keepdims": "", "select_last_index": ""},
    ),
    "ReduceMax": Operator(
        read=reduce_max,
        runs=("accelerator",),
        types=REAL_OR_CODES,
        attributes=_REDUCTION,
        remark="constant axes, not the batch; as GlobalMaxPool",
    ),
    "ReduceMean": Operator(
        read=reduce_mean,
        runs=("accelerator",),
        agreement="1 step",
        attributes=_REDUCTION,
        remark="constant axes, not the batch; as GlobalAveragePool, but ONNX Runtime computes in "
        "float ([islands](#float-islands))",
    ),
}
