"""Turn fully connected layers into convolutions, so that every layer sees [1, C, H, W].

A MatMul of K inputs is a 1x1 Conv on [1, K, 1, 1]. Where its input is an image that was flattened
(through any chain of Reshape and Transpose, NCHW or NHWC), the Conv reads the image itself with a
kernel as large as the image, and the weights are put in the image's order: nothing is moved at run
time. A chain that starts at the model's input is left to the host.

Several vectors [..., R, K] are the positions of an image [1, K, 1, R], columns [..., K, R] as they
lie and rows transposed before and after; vectors that were made of an image are left in it.

The result of one vector keeps the MatMul's name with the shape [1, N, 1, 1]. Operations that want
its ONNX shape read a Reshape called `name:onnx`; `split_host` gives that to the host under the
value's own name.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from qcompile.compiler.ir import (
    Constant,
    Graph,
    Int16Array,
    Int64Array,
    Lookup,
    MaxPool,
    Op,
    Origin,
    Reshape,
    Value,
)
from qcompile.compiler.ir_float import Transpose
from qcompile.compiler.ir_quantized import (
    ChipSoftmax,
    QuantizedAveragePool,
    QuantizedBinary,
    QuantizedConv,
    QuantizedMatMul,
)
from qcompile.compiler.passes.merge_pads import merge_pads
from qcompile.compiler.passes.tidy import without_idle_moves

LAYERS = (
    QuantizedConv
    | QuantizedMatMul
    | QuantizedAveragePool
    | QuantizedBinary
    | MaxPool
    | ChipSoftmax
    | Constant
)

ONNX_SHAPE = ":onnx"
"""Suffix of a layer's result in its ONNX shape."""

IMAGE_SHAPE = ":image"
"""Suffix of a vector of the host in the shape [1, K, 1, 1]."""

POSITIONS = ":positions"
"""Suffix of a product of several vectors as an image, whose positions they are."""


def matmul_to_conv(graph: Graph) -> Graph:
    """The graph with convolutions in place of MatMul."""
    rewriter = _Rewriter(graph)
    for op in graph.ops:
        rewriter.visit(op)
    return merge_pads(without_idle_moves(rewriter.result()))


class _Rewriter:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values = dict(graph.values)
        self.makers = {name: op for op in graph.ops for name in op.outputs}
        self.vectors: set[str] = set()  # results that are [1, N, 1, 1] now
        self.images: set[str] = set()  # results that are [1, A, B, C] now, in the same order
        self.computed: set[str] = set()  # values that depend on a layer of the accelerator
        self.ops: list[Op] = []

    def visit(self, op: Op) -> None:
        if isinstance(op, LAYERS) or self.computed.intersection(op.inputs):
            self.computed.add(op.name)
        if isinstance(op, QuantizedMatMul):
            self._convolve(op)
        elif isinstance(op, QuantizedBinary | Lookup) and self._on_vectors(op):
            self.ops.append(replace(op, inputs=tuple(self._image(name) for name in op.inputs)))
            self._make_vector(op.name)
        elif isinstance(op, QuantizedBinary | Lookup) and self._needs_images(op):
            self._on_images(op)
        else:
            self.ops.append(replace(op, inputs=tuple(self._onnx(name) for name in op.inputs)))

    def _on_vectors(self, op: Op) -> bool:
        """Whether an elementwise operation reads a fully connected layer's result, as a vector."""
        flat = all(len(self.graph.values[name].shape) <= 2 for name in op.inputs)
        return flat and not self.vectors.isdisjoint(op.inputs)

    def _convolve(self, op: QuantizedMatMul) -> None:
        if self.graph.values[op.name].elements != op.weight.shape[1]:
            self._convolve_positions(op)
            return
        source, order = self._flattened_image(op.inputs[0])
        weight, kernel = op.weight, (1, 1)
        if source is None:
            source = self._image(op.inputs[0])
        else:
            shape = self.values[source].shape
            kernel = (1, 1) if source in self.vectors else (shape[2], shape[3])
            weight = np.empty_like(op.weight)
            weight[order] = op.weight
        self._add(_conv(op, source, op.name, weight, kernel))
        self._make_vector(op.name)

    def _convolve_positions(self, op: QuantizedMatMul) -> None:
        """Several vectors: each is a position of an image, its values are the channels."""
        depth, outputs = op.weight.shape
        count = self.graph.values[op.name].elements // outputs
        source, order = self._flattened_image(op.inputs[0])
        vectors = order.reshape(depth, count) if op.columns else order.reshape(count, depth).T
        if (
            source is not None
            and self.values[source].shape[1] == depth
            and np.array_equal(vectors.reshape(-1), np.arange(order.size))
        ):
            image = self.values[source].shape[2:]
        else:
            source, image = self._channels_first(op, depth, count), (1, count)
        result = op.name + POSITIONS
        value = replace(self.graph.values[op.name], name=result, shape=(1, outputs, *image))
        self.values[result] = value
        self._add(_conv(op, source, result, op.weight, (1, 1)))
        self.computed.add(result)
        self._from_channels_first(op, result, outputs, count)

    def _channels_first(self, op: QuantizedMatMul, depth: int, count: int) -> str:
        """The input as [1, depth, 1, count]."""
        source = self._onnx(op.inputs[0])
        prefix = op.name + POSITIONS
        if not op.columns:
            rows = self._reshaped(source, f"{prefix}:rows", (1, count, depth), op.origins)
            source = self._transposed(rows, f"{prefix}:columns", op.origins)
        return self._reshaped(source, f"{prefix}:image", (1, depth, 1, count), op.origins)

    def _from_channels_first(
        self, op: QuantizedMatMul, source: str, outputs: int, count: int
    ) -> None:
        """The result in its ONNX shape, of one [1, outputs, 1, count] or an image."""
        if not op.columns:
            columns = self._reshaped(source, f"{source}:made", (1, outputs, count), op.origins)
            source = self._transposed(columns, f"{source}:turned", op.origins)
        shape = self.graph.values[op.name].shape
        self._add(Reshape(inputs=(source,), outputs=op.outputs, origins=op.origins, shape=shape))

    def _transposed(self, source: str, name: str, origins: tuple[Origin, ...]) -> str:
        """[1, a, b] as [1, b, a]."""
        value = self.values[source]
        self.values[name] = replace(value, name=name, shape=(1, value.shape[2], value.shape[1]))
        self._add(
            Transpose(inputs=(source,), outputs=(name,), origins=origins, permutation=(0, 2, 1))
        )
        return name

    def _add(self, op: Op) -> None:
        self.ops.append(op)
        self.makers[op.name] = op

    def _flattened_image(self, name: str) -> tuple[str | None, Int64Array]:
        """The layer result behind a chain of moves, and its flat index for each input of MatMul."""
        chain: list[Op] = []
        maker = self.makers.get(name)
        while isinstance(maker, Reshape | Transpose):
            chain.append(maker)
            name = maker.inputs[0]
            maker = self.makers.get(name)
        value = self.graph.values.get(name) or self.values[name]
        order = np.arange(value.elements, dtype=np.int64).reshape(value.shape)
        for move in reversed(chain):
            if isinstance(move, Transpose):
                order = order.transpose(move.permutation)
            else:
                order = order.reshape(self.values[move.name].shape)
        is_layer = name in self.vectors or (len(value.shape) == 4 and name in self.computed)
        return (name if is_layer else None), order.reshape(-1)

    def _needs_images(self, op: Op) -> bool:
        """Whether a layer's elements stand in two, three or, all alike, in more dimensions."""
        shapes = [self.graph.values[name].shape for name in op.inputs]
        ranks = {len(shape) for shape in shapes if math.prod(shape) > 1}
        alike = len({shape for shape in shapes if math.prod(shape) > 1}) <= 1
        return op.name in self.computed and ranks != {4} and (alike or max(ranks) < 4)

    def _on_images(self, op: QuantizedBinary | Lookup) -> None:
        """Elements in their order as [1, A, B, C], so that operands broadcast as they did."""
        result = self.graph.values[op.name]
        rank = len(result.shape)
        operands = []
        for name in op.inputs:
            shape = self.graph.values[name].shape
            image = _image_shape((1,) * (rank - len(shape)) + shape)
            operands.append(self._reshaped(name, f"{name}{IMAGE_SHAPE}{rank}", image, op.origins))
        self.values[op.name] = replace(result, shape=_image_shape(result.shape))
        self.images.add(op.name)
        self._add(replace(op, inputs=tuple(operands)))

    def _make_vector(self, name: str) -> None:
        value = self.graph.values[name]
        self.values[name] = replace(value, shape=(1, value.elements, 1, 1))
        self.vectors.add(name)

    def _onnx(self, name: str) -> str:
        """A value in its ONNX shape."""
        if name not in self.vectors and name not in self.images:
            return name
        shape = self.graph.values[name].shape
        return self._reshaped(name, name + ONNX_SHAPE, shape)

    def _image(self, name: str) -> str:
        """A value as [1, K, 1, 1]."""
        shape = self.graph.values[name].shape
        if name in self.vectors or (len(shape) == 4 and shape[2:] == (1, 1)):
            return name
        return self._reshaped(name, name + IMAGE_SHAPE, (1, math.prod(shape), 1, 1))

    def _reshaped(
        self, source: str, name: str, shape: tuple[int, ...], origins: tuple[Origin, ...] = ()
    ) -> str:
        if name not in self.values:
            value: Value = replace(self.values[source], name=name, shape=shape)
            self.values[name] = value
            maker = self.makers.get(source)
            if isinstance(maker, Constant):
                self._add(replace(maker, outputs=(name,), data=maker.data.reshape(shape)))
            else:
                self._add(Reshape(inputs=(source,), outputs=(name,), origins=origins, shape=shape))
        return name

    def result(self) -> Graph:
        outputs = tuple(self._onnx(name) for name in self.graph.outputs)
        return replace(self.graph, outputs=outputs, values=self.values, ops=tuple(self.ops))


def _image_shape(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Two dimensions are channels; of three the last is the width; more share it."""
    batch, channels, *rest = shape + (1,) * (3 - len(shape))
    if len(rest) == 1:
        return batch, channels, 1, rest[0]
    return batch, channels, rest[0], math.prod(rest[1:])


def _conv(
    op: QuantizedMatMul, source: str, result: str, weight: Int16Array, kernel: tuple[int, int]
) -> QuantizedConv:
    """A convolution without padding; `weight` [K, N] is in the order of the source's values."""
    outputs = weight.shape[1]
    return QuantizedConv(
        inputs=(source,),
        outputs=(result,),
        origins=op.origins,
        weight=np.ascontiguousarray(weight.T).reshape(outputs, -1, *kernel),
        acc_scale=op.acc_scale,
        bias=op.bias,
        strides=(1, 1),
        dilations=(1, 1),
        pads=(0, 0, 0, 0),
        group=1,
        low=op.low,
        high=op.high,
        steps=op.steps,
    )
