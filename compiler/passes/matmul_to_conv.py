"""Turn fully connected layers into convolutions, so that every layer sees [1, C, H, W].

A MatMul of K inputs is a 1x1 Conv on [1, K, 1, 1]. Where its input is an image that was flattened
(through any chain of Reshape and Transpose, NCHW or NHWC), the Conv reads the image itself with a
kernel as large as the image, and the weights are put in the image's order: nothing is moved at run
time. A chain that starts at the model's input is left to the host.

The result keeps the MatMul's name with the shape [1, N, 1, 1]. Operations that want its ONNX shape
read a Reshape called `name:onnx`; `split_host` gives that to the host under the value's own name.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from qcompile.compiler.ir import Graph, Int64Array, Lookup, Op, Reshape, Value
from qcompile.compiler.ir_float import Transpose
from qcompile.compiler.ir_quantized import (
    QuantizedAdd,
    QuantizedAveragePool,
    QuantizedConv,
    QuantizedMatMul,
)
from qcompile.compiler.passes.tidy import without_idle_moves

LAYERS = QuantizedConv | QuantizedMatMul | QuantizedAveragePool | QuantizedAdd

ONNX_SHAPE = ":onnx"
"""Suffix of a layer's result in its ONNX shape."""

IMAGE_SHAPE = ":image"
"""Suffix of a vector of the host in the shape [1, K, 1, 1]."""


def matmul_to_conv(graph: Graph) -> Graph:
    """The graph with convolutions in place of MatMul."""
    rewriter = _Rewriter(graph)
    for op in graph.ops:
        rewriter.visit(op)
    return without_idle_moves(rewriter.result())


class _Rewriter:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values = dict(graph.values)
        self.makers = {name: op for op in graph.ops for name in op.outputs}
        self.vectors: set[str] = set()  # results that are [1, N, 1, 1] now
        self.computed: set[str] = set()  # values that depend on a layer of the accelerator
        self.ops: list[Op] = []

    def visit(self, op: Op) -> None:
        if isinstance(op, LAYERS) or self.computed.intersection(op.inputs):
            self.computed.add(op.name)
        if isinstance(op, QuantizedMatMul):
            self._convolve(op)
        elif isinstance(op, QuantizedAdd | Lookup) and self.vectors.intersection(op.inputs):
            self.ops.append(replace(op, inputs=tuple(self._image(name) for name in op.inputs)))
            self._make_vector(op.name)
        else:
            self.ops.append(replace(op, inputs=tuple(self._onnx(name) for name in op.inputs)))

    def _convolve(self, op: QuantizedMatMul) -> None:
        source, order = self._flattened_image(op.inputs[0])
        if source is None:
            source, weight = self._image(op.inputs[0]), op.weight
            kernel = (1, 1)
        else:
            shape = self.graph.values[source].shape
            kernel = (1, 1) if source in self.vectors else (shape[2], shape[3])
            weight = np.empty_like(op.weight)
            weight[order] = op.weight
        outputs = weight.shape[1]
        conv = QuantizedConv(
            inputs=(source,),
            outputs=op.outputs,
            origins=op.origins,
            weight=np.ascontiguousarray(weight.T).reshape(outputs, -1, *kernel),
            weight_scale=op.weight_scale,
            bias=op.bias,
            strides=(1, 1),
            dilations=(1, 1),
            pads=(0, 0, 0, 0),
            group=1,
            low=op.low,
            high=op.high,
        )
        self.ops.append(conv)
        self._make_vector(op.name)

    def _flattened_image(self, name: str) -> tuple[str | None, Int64Array]:
        """The layer result behind a chain of moves, and its flat index for each input of MatMul."""
        chain: list[Op] = []
        maker = self.makers.get(name)
        while isinstance(maker, Reshape | Transpose):
            chain.append(maker)
            name = maker.inputs[0]
            maker = self.makers.get(name)
        value = self.graph.values[name]
        order = np.arange(value.elements, dtype=np.int64).reshape(value.shape)
        for move in reversed(chain):
            if isinstance(move, Transpose):
                order = order.transpose(move.permutation)
            else:
                order = order.reshape(self.graph.values[move.name].shape)
        is_layer = name in self.vectors or (len(value.shape) == 4 and name in self.computed)
        return (name if is_layer else None), order.reshape(-1)

    def _make_vector(self, name: str) -> None:
        value = self.graph.values[name]
        self.values[name] = replace(value, shape=(1, value.elements, 1, 1))
        self.vectors.add(name)

    def _onnx(self, name: str) -> str:
        """A value in its ONNX shape."""
        if name not in self.vectors:
            return name
        shape = self.graph.values[name].shape
        return self._reshaped(name, name + ONNX_SHAPE, shape)

    def _image(self, name: str) -> str:
        """A value as [1, K, 1, 1]."""
        shape = self.graph.values[name].shape
        if name in self.vectors or (len(shape) == 4 and shape[2:] == (1, 1)):
            return name
        return self._reshaped(name, name + IMAGE_SHAPE, (1, math.prod(shape), 1, 1))

    def _reshaped(self, source: str, name: str, shape: tuple[int, ...]) -> str:
        if name not in self.values:
            value: Value = replace(self.values[source], name=name, shape=shape)
            self.values[name] = value
            self.ops.append(Reshape(inputs=(source,), outputs=(name,), shape=shape))
        return name

    def result(self) -> Graph:
        outputs = tuple(self._onnx(name) for name in self.graph.outputs)
        return replace(self.graph, outputs=outputs, values=self.values, ops=tuple(self.ops))
