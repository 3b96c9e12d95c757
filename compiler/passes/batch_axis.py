"""Host operations on tensors whose first axis is not the batch.

The host computes N samples at a time, with N in the place of the batch, which is 1 in the model.
A model may drop that axis (Squeeze without axes), move it (Transpose of a matrix) or compute along
it (Softmax of axis 0). A tensor without it is kept as [N, *shape] on the host, each sample's
tensor whole, which is also what ONNX Runtime's results for single samples are stacked to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HostOp = dict[str, object]
Attributes = Mapping[str, Any]
Shape = tuple[int, ...]


def has_batch_axis(shape: Shape) -> bool:
    """Whether N samples of a tensor [1, ...] are kept as [N, ...]."""
    return shape[:1] == (1,)


def host_shape(shape: Shape) -> Shape:
    """The shape that host operations state for a tensor: 1 in the place of N, then the rest."""
    return shape if has_batch_axis(shape) else (1, *shape)


def one_sample_a_time(
    operator: str, names: tuple[str, str], attributes: Attributes, shapes: tuple[Shape, Shape]
) -> list[HostOp]:
    """A host operation with axes in its attributes, from one tensor to another.

    `axis` and `permutation` count the axes of the ONNX `shapes`. Where they need the batch's axis,
    or there is none, the operation works on [N, *shape], with all axes one higher.
    """
    (source, target), (before, after) = names, shapes
    if has_batch_axis(before) and has_batch_axis(after) and not _moves_batch(attributes):
        return [host_op(operator, (source,), target, attributes)]
    steps: list[HostOp] = []
    if has_batch_axis(before):
        steps.append(host_op("Reshape", (source,), target, {"shape": [1, *before]}))
        source = target
    steps.append(host_op(operator, (source,), target, _one_axis_higher(attributes)))
    if has_batch_axis(after):
        steps.append(host_op("Reshape", (target,), target, {"shape": list(after)}))
    return steps


def host_op(operator: str, sources: tuple[str, ...], target: str, attributes: Attributes) -> HostOp:
    """An operation as the manifest lists it."""
    return {
        "op": operator,
        "inputs": list(sources),
        "outputs": [target],
        "attributes": dict(attributes),
    }


def _moves_batch(attributes: Attributes) -> bool:
    return attributes.get("axis") == 0 or attributes.get("permutation", [0])[0] != 0


def _one_axis_higher(attributes: Attributes) -> dict[str, object]:
    higher = dict(attributes)
    if "axis" in higher:
        higher["axis"] = attributes["axis"] + 1
    if "permutation" in higher:
        higher["permutation"] = [0, *(axis + 1 for axis in attributes["permutation"])]
    return higher
