"""Writes a quantized network as QDQ ONNX: int8 activations and weights, int32 biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto

from qcompile.compiler.quantize.encoding import Encoding
from qcompile.compiler.quantize.layer import Layer, LayerCodes, bias_scales, layers_of
from qcompile.compiler.quantize.prepare import Network
from qcompile.compiler.quantize.writer import Writer

Array = npt.NDArray[Any]


def emit(
    network: Network, encodings: Mapping[str, Encoding], codes: Mapping[str, LayerCodes]
) -> onnx.ModelProto:
    """The model; encodings by tensor, of every one that has codes, and codes by layer's name."""
    emitter = _Emitter(network, encodings)
    layers = {layer.node.name: layer for layer in layers_of(network)}
    for value in network.inputs:
        emitter.encode(value.name, value.name)
    for node in network.nodes:
        if node.name in layers:
            emitter.add_layer(layers[node.name], codes[node.name])
        else:
            emitter.add(node)
    result = network.copy()
    result.nodes, result.constants = emitter.writer.nodes, emitter.writer.constants
    result.functions = [*result.functions, *emitter.writer.functions.values()]
    return result.to_model()


def real_name(network: Network, name: str) -> str:
    """In the emitted model: the tensor of an activation's real values, behind its codes."""
    return name if name in network.outputs else f"{name}/real"


class _Emitter:
    def __init__(self, network: Network, encodings: Mapping[str, Encoding]) -> None:
        self.network = network
        self.encodings = encodings
        self.writer = Writer()
        self.real: dict[str, str] = {}

    def encode(self, source: str, name: str) -> None:
        """Give tensor `name`, whose values are in `source`, its codes where it has any."""
        if name in self.encodings:
            self.real[name] = real_name(self.network, name)
            self.encodings[name].write(self.writer, source, name, self.real[name])

    def add(self, node: NodeProto) -> None:
        """A node of the network as it is, its operands the real values of codes."""
        copy = NodeProto()
        copy.CopyFrom(node)
        for position, given in enumerate(node.input):
            copy.input[position] = self.real.get(given, given)
            if given in self.network.constants:
                self.writer.constant(given, self.network.constants[given])
        self._finish(copy)

    def add_layer(self, layer: Layer, codes: LayerCodes) -> None:
        """A layer with coded weights and bias."""
        copy = NodeProto()
        copy.CopyFrom(layer.node)
        operand = self.encodings[layer.operand]
        names = [self.real[layer.operand], self._weights(layer, codes)]
        if codes.bias is not None:
            scales = bias_scales(layer, codes.scales, operand.scale)
            names.append(self._dequantize(f"{layer.node.name}/bias", codes.bias, scales, 0))
        del copy.input[:]
        copy.input.extend(names)
        self._finish(copy)

    def _finish(self, node: NodeProto) -> None:
        name = node.output[0]
        if name in self.encodings:
            node.output[0] = f"{name}/float"
        self.writer.nodes.append(node)
        self.encode(f"{name}/float", name)

    def _weights(self, layer: Layer, codes: LayerCodes) -> str:
        name = f"{layer.node.name}/weight"
        if not codes.codebook:
            return self._dequantize(name, codes.weights, codes.scales, layer.axis)
        levels = np.asarray(codes.levels, np.int8)
        indices = np.searchsorted(levels, codes.weights).astype(np.uint8)
        write = self.writer
        wide = write.node(
            "Cast",
            [write.constant(f"{name}/indices", indices)],
            f"{name}/wide_indices",
            to=TensorProto.INT32,
        )
        book = write.constant(f"{name}/codebook", levels)
        found = write.node("Gather", [book, wide], f"{name}/codes", axis=0)
        return self._dequantize(name, codes.weights, codes.scales, layer.axis, found)

    def _dequantize(
        self, name: str, codes: Array, scales: Array, axis: int, source: str | None = None
    ) -> str:
        """DequantizeLinear of constant codes, or of `source`; the name of their real values."""
        write = self.writer
        names = [
            source or write.constant(f"{name}/codes", codes),
            write.constant(f"{name}/scale", scales.astype(np.float32)),
            write.constant(f"{name}/zero_point", np.zeros(scales.shape, codes.dtype)),
        ]
        extra: dict[str, Any] = {} if scales.ndim == 0 else {"axis": axis}
        return write.node("DequantizeLinear", names, f"{name}/real", **extra)
