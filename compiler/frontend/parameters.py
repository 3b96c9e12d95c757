"""Scale and zero point of a quantized tensor, as nodes state them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler.frontend.node_reader import NodeReader, Refusal, resolved_axis
from qcompile.compiler.ir import Value

SMALLEST_SCALE = np.finfo(np.float32).tiny
"""The smallest normal float32, 2**-126; processors may take what lies below for 0."""

ScaleAndZero = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], int]
"""Scale and zero point, both [] or both along an axis, and that axis (0 for a tensor's one)."""


def read_scale(node: NodeReader, position: int) -> npt.NDArray[np.float32]:
    """The constant scale at an input; float32, finite, a normal number above 0."""
    scale = node.constant(position, "scale")
    if scale is None or scale.dtype != np.float32:
        raise Refusal(f"scale is {'missing' if scale is None else scale.dtype}, not float32")
    if not np.all(np.isfinite(scale)) or np.any(scale <= 0):
        bad = scale.reshape(-1)[~(np.isfinite(scale) & (scale > 0)).reshape(-1)][0]
        raise Refusal(
            f"scale {node.name_of(position)!r} holds {bad}",
            help="a scale must be finite and above 0; quantize the model again",
            broken=True,
        )
    if np.any(scale < SMALLEST_SCALE):
        raise Refusal(
            f"scale {node.name_of(position)!r} holds {scale.min()}, which float32 holds with fewer "
            "than 24 bits",
            help=f"quantize the model again, with scales of {SMALLEST_SCALE} and above",
        )
    return scale


def read_parameters(node: NodeReader, x: Value, positions: tuple[int, int]) -> ScaleAndZero:
    """Scale and zero point (absent: 0) of `x` at two inputs; the node's attribute says the axis.

    A list of one counts as one for the tensor; ONNX Runtime takes no array of more dimensions.
    """
    scale = read_scale(node, positions[0])
    zero = node.constant(positions[1], "zero point")
    axis = int(node.attribute("axis", 1))
    if zero is None:
        zero = np.zeros_like(scale, dtype=np.int64)
    if max(scale.ndim, zero.ndim) > 1:
        raise does_not_fit(scale, zero, f"'{x.name}': both are numbers or lists")
    if scale.size == 1 and zero.size == 1:
        return scale.reshape(()), zero.reshape(()).astype(np.int64), 0
    axis = resolved_axis(axis, len(x.shape))
    if scale.shape != (x.shape[axis],) or zero.shape != scale.shape:
        raise does_not_fit(scale, zero, f"axis {axis} of {list(x.shape)}")
    return scale, zero.astype(np.int64), axis


def does_not_fit(scale: npt.NDArray[Any], zero: npt.NDArray[Any], what: str) -> Refusal:
    """Parameters of other sizes than their tensor."""
    return Refusal(
        f"scale {list(scale.shape)} and zero point {list(zero.shape)} do not fit {what}",
        broken=True,
    )
