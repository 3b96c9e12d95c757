"""A network input with a sign as two without: x is max(x, 0) - max(-x, 0).

Logarithmic codes have no sign. So what the first layer reads becomes max([x, -x], 0) along its
channels, and its weights become [w, -w].
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper

from qcompile.compiler.quantize.layer import Layer, layers_of
from qcompile.compiler.quantize.observe import Observations
from qcompile.compiler.quantize.prepare import SAME_CODES, Network


def part_signs(network: Network, observations: Observations) -> set[str]:
    """Rewrite the first layers; tensors in front of the parted ones, which need no codes.

    An input that is not read through moves alone by one Conv of one group, or Gemm, stays.
    """
    without_codes: set[str] = set()
    for value in network.inputs:
        chain = _chain(network, value.name)
        layer = _layer_behind(network, chain[-1])
        if layer is not None and observations.values(value.name).min() < 0:
            _part(network, layer)
            without_codes |= {*chain, f"{chain[-1]}/negative", f"{chain[-1]}/signs"}
    return without_codes


def _chain(network: Network, name: str) -> list[str]:
    """A tensor and those that moves make of it, one after the other."""
    found = [name]
    while (node := network.only_consumer(found[-1])) and node.op_type in SAME_CODES:
        if node.op_type == "MaxPool":  # of -x it is another function
            break
        found.append(node.output[0])
    return found


def _layer_behind(network: Network, name: str) -> Layer | None:
    """The only reader of a tensor, where it is a layer whose operand can be parted."""
    node = network.only_consumer(name)
    for layer in layers_of(network):
        if node is not None and layer.node.name == node.name and layer.operand == name:
            fits = node.op_type == "Gemm" or (node.op_type == "Conv" and layer.groups == 1)
            return layer if fits else None
    return None


def _part(network: Network, layer: Layer) -> None:
    """Give a layer both signs of its operand, [N, 2 C, ...], and weights for both."""
    name = layer.operand
    negative, signs, parted = f"{name}/negative", f"{name}/signs", f"{name}/parts"
    weights = f"{layer.node.name}/parts"
    inputs = 1 - layer.axis  # of the weights: [M, C, ...], or [K, N] of Gemm without transB
    both = np.concatenate([layer.weights, -layer.weights], axis=inputs)
    network.constants[weights] = both.astype(np.float32)
    made = [
        helper.make_node("Neg", [name], [negative], name=negative),
        helper.make_node("Concat", [name, negative], [signs], name=signs, axis=1),
        helper.make_node("Relu", [signs], [parted], name=parted),
    ]
    layer.node.input[0], layer.node.input[1] = parted, weights
    network.nodes = _with_front(network.nodes, layer.node, made)


def _with_front(nodes: list[NodeProto], node: NodeProto, made: list[NodeProto]) -> list[NodeProto]:
    place = next(index for index, one in enumerate(nodes) if one.name == node.name)
    return [*nodes[:place], *made, *nodes[place:]]
