"""A layer as a matrix product: the columns that its weights multiply, and statistics of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from qcompile.compiler.quantize.layer import Layer
from qcompile.compiler.quantize.run_node import NodeRunner

Array = npt.NDArray[Any]
CHUNK_VALUES = 1 << 24
"""Column values that are held at once, about: 64 MB."""


def weight_matrix(layer: Layer, weights: Array) -> Array:
    """Weights as [groups, channels of a group, K]; a view or a copy."""
    kind, groups = layer.node.op_type, layer.groups
    if kind == "Conv":
        return np.asarray(weights.reshape(groups, weights.shape[0] // groups, -1))
    if kind == "ConvTranspose":  # [C, M/groups, taps]: K counts a group's inputs, then taps
        ins, outs = weights.shape[:2]
        grouped = weights.reshape(groups, ins // groups, outs, -1)
        return np.asarray(grouped.transpose(0, 2, 1, 3).reshape(groups, outs, -1))
    return np.asarray((weights if layer.axis == 0 else weights.T)[None])


def weights_of_matrix(layer: Layer, matrix: Array) -> Array:
    """The inverse of `weight_matrix`."""
    kind, shape = layer.node.op_type, layer.weights.shape
    if kind == "Conv":
        return matrix.reshape(shape)
    if kind == "ConvTranspose":
        ins, outs = shape[:2]
        split = matrix.reshape(layer.groups, outs, ins // layer.groups, -1)
        return split.transpose(0, 2, 1, 3).reshape(shape)
    return np.asarray(matrix[0] if layer.axis == 0 else matrix[0].T)


def result_matrix(layer: Layer, values: Array) -> Array:
    """The layer's result [N, M, ...] or [..., M] as [groups, rows, channels of a group]."""
    if "Conv" not in layer.node.op_type:
        return values.reshape(1, -1, values.shape[-1])
    rows = np.moveaxis(values, 1, -1).reshape(-1, layer.groups, values.shape[1] // layer.groups)
    return rows.transpose(1, 0, 2)


class Columns:
    """Makes the columns of one layer: what each row of its weight matrix is multiplied with."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self._runner: NodeRunner | None = None
        self._selectors = np.zeros(0, np.float32)
        if "Conv" in layer.node.op_type:
            self._select()

    def _select(self) -> None:
        """A layer of one group an input channel whose weights pick single taps.

        So pads, strides, dilations and the transposed form are ONNX Runtime's own.
        """
        kind, weights = self.layer.node.op_type, self.layer.weights
        ins = weights.shape[0] if kind == "ConvTranspose" else weights.shape[1] * self.layer.groups
        kernel = weights.shape[2:]
        taps = int(np.prod(kernel))
        one = np.eye(taps, dtype=np.float32).reshape(taps, *kernel)
        if kind == "Conv":
            self._selectors = np.tile(one[:, None], (ins, 1, *(1 for _ in kernel)))
        else:
            self._selectors = np.tile(one[None], (ins, 1, *(1 for _ in kernel)))
        node = onnx.NodeProto()
        node.CopyFrom(self.layer.node)
        kept = [attribute for attribute in node.attribute if attribute.name != "group"]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("group", ins)])
        node.input[:] = node.input[:2]
        self._runner = NodeRunner(node)

    def of(self, values: Array) -> Array:
        """float64 [groups, rows, K] of operands [N, ...]; rows as `result_matrix` has them."""
        if self._runner is None:
            return values.reshape(1, -1, values.shape[-1]).astype(np.float64)
        node = self.layer.node
        feed = {node.input[0]: values, node.input[1]: self._selectors}
        picked = self._runner.run(feed)
        groups = self.layer.groups
        rows = np.moveaxis(picked, 1, -1).reshape(-1, groups, picked.shape[1] // groups)
        return rows.transpose(1, 0, 2).astype(np.float64)

    def chunks(self, values: Array) -> list[slice]:
        """Slices of N whose columns are not too many to hold."""
        each = values[0].size * int(np.prod(self.layer.weights.shape[2:], initial=1))
        step = max(1, CHUNK_VALUES // max(each, 1))
        return [slice(start, start + step) for start in range(0, len(values), step)]
