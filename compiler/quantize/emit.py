"""Writes a prepared network as QDQ ONNX: int8 activations and weights, int32 biases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, helper

from qcompile.compiler.quantize.prepare import LAYERS, Network, channel_axis
from qcompile.compiler.quantize.ranges import Parameters

Array = npt.NDArray[Any]
WEIGHT_LIMIT = 127
"""Weights are symmetric: -128 is not used."""
LEAST_WEIGHT_SCALE = 1e-8
"""Scale of a channel whose weights are all but 0, so that its bias fits 32 bits."""
BIAS_LIMIT = 2**31 - 1


def emit(network: Network, parameters: Mapping[str, Parameters]) -> onnx.ModelProto:
    """The QDQ model; `parameters` of every activation that has codes, by tensor."""
    writer = _Writer(network, parameters)
    for value in network.inputs:
        if value.name in parameters:
            writer.quantize(value.name, value.name)
    for node in network.nodes:
        writer.add(node)
    result = Network(network.to_model())
    result.nodes, result.constants = writer.nodes, writer.constants
    return result.to_model()


def quantize_weights(weights: Array, axis: int) -> tuple[Array, Array]:
    """Codes int8 in -127..127 and float32 scales, one for each channel of `axis`."""
    others = tuple(one for one in range(weights.ndim) if one != axis)
    largest = np.abs(weights).max(axis=others)
    scales = np.maximum(largest / WEIGHT_LIMIT, LEAST_WEIGHT_SCALE).astype(np.float32)
    shape = [1] * weights.ndim
    shape[axis] = -1
    codes = np.rint(weights / scales.reshape(shape))
    return np.clip(codes, -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8), scales


class _Writer:
    """Nodes and constants of the result while they are being made."""

    def __init__(self, network: Network, parameters: Mapping[str, Parameters]) -> None:
        self.network = network
        self.parameters = parameters
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.real: dict[str, str] = {}

    def quantize(self, source: str, name: str) -> None:
        """QuantizeLinear and DequantizeLinear of tensor `name`, whose values are in `source`."""
        found = self.parameters[name]
        result = name if name in self.network.outputs else f"{name}/real"
        self.constants[f"{name}/scale"] = np.asarray(found.scale)
        self.constants[f"{name}/zero_point"] = np.asarray(found.zero_point, np.int8)
        pair = [f"{name}/scale", f"{name}/zero_point"]
        self._node("QuantizeLinear", [source, *pair], f"{name}/codes")
        self._node("DequantizeLinear", [f"{name}/codes", *pair], result)
        self.real[name] = result

    def add(self, node: NodeProto) -> None:
        """A node of the network, its result with codes where it has parameters."""
        copy = NodeProto()
        copy.CopyFrom(node)
        name = node.output[0]
        if node.op_type in LAYERS:
            self._layer(copy)
        else:
            for position, given in enumerate(node.input):
                copy.input[position] = self.real.get(given, given)
                if given in self.network.constants:
                    self.constants[given] = self.network.constants[given]
        if name in self.parameters:
            copy.output[0] = f"{name}/float"
        self.nodes.append(copy)
        if name in self.parameters:
            self.quantize(f"{name}/float", name)

    def _layer(self, node: NodeProto) -> None:
        axis = channel_axis(node)
        codes, scales = quantize_weights(self.network.constants[node.input[1]], axis)
        sums = self.parameters[node.input[0]].scale * scales
        node.input[0] = self.real[node.input[0]]
        bias = node.input[2] if len(node.input) > 2 else ""
        node.input[1] = self._constant(f"{node.name}/weight", codes, scales, axis)
        if bias:
            array = self.network.constants[bias].astype(np.float64).reshape(-1)
            rounded = np.clip(np.rint(array / sums), -BIAS_LIMIT, BIAS_LIMIT)
            node.input[2] = self._constant(
                f"{node.name}/bias", rounded.astype(np.int32), sums.astype(np.float32), 0
            )

    def _constant(self, name: str, codes: Array, scales: Array, axis: int) -> str:
        """Codes behind a DequantizeLinear; the name of their real values."""
        zero_points = np.zeros(scales.shape, codes.dtype)
        given = (("codes", codes), ("scale", scales), ("zero_point", zero_points))
        for what, array in given:
            self.constants[f"{name}/{what}"] = array
        names = [f"{name}/{what}" for what, _ in given]
        self._node("DequantizeLinear", names, f"{name}/real", axis)
        return f"{name}/real"

    def _node(self, kind: str, inputs: list[str], output: str, axis: int | None = None) -> None:
        node = helper.make_node(kind, inputs, [output], name=f"{output}:{kind}")
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self.nodes.append(node)
