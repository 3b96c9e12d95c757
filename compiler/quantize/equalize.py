"""Cross-layer equalization: channels between two layers are scaled so that they suit each other.

A channel's weights in front are divided by s and those that read it multiplied, which changes no
result where only positively homogeneous operators stand between: Relu, pools and moves. From
weights s = sqrt(r1 / r2), r1 and r2 the largest weights of both sides (Nagel et al., "Data-Free
Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section 4.1). From
activations r1 is the channel's largest value between the two layers instead: weights with a scale a
channel lose nothing to small channels, activations with one scale for all do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from qcompile.compiler.quantize.layer import Layer, layer_of
from qcompile.compiler.quantize.linear import weight_matrix, weights_of_matrix
from qcompile.compiler.quantize.observe import Observations
from qcompile.compiler.quantize.options import Equalization
from qcompile.compiler.quantize.prepare import LAYERS, Network

Array = npt.NDArray[Any]
SWEEPS = 20
"""Times that all pairs are gone through, at most."""
CONVERGED = 1e-3
"""Largest change of a channel, relative, that ends it before."""
LEAST_RANGE = 1e-6
"""Channels whose range, on either side, is less than this share of the largest stay."""
BETWEEN = ("Relu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Dropout")
"""Operators that scaling a channel by a positive number goes through, beside Clip from 0 on."""
FLATTENING = ("Reshape", "Flatten")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Layers with one way between them, and the tensor that the second one reads."""

    first: NodeProto
    second: NodeProto
    between: str


def equalize(network: Network, observations: Observations, source: Equalization) -> int:
    """Equalize every pair, in place; returns the number of pairs.

    Weights depend on each other from pair to pair, so they are gone through until they converge.
    """
    pairs = list(_pairs(network))
    peaks = {pair.between: _peaks(network, pair, observations) for pair in pairs}
    for _ in range(SWEEPS):
        changes = [_equalize_pair(network, pair, source, peaks) for pair in pairs]
        if max(changes, default=0.0) < CONVERGED:
            break
    return len(pairs)


def relu_for_clip(network: Network) -> int:
    """Relu in place of every Clip from 0 on, such as Relu6; returns how many there were."""
    found = [node for node in network.nodes if node.op_type == "Clip" and _from_zero(network, node)]
    for node in found:
        node.op_type = "Relu"
        del node.input[1:]
    return len(found)


def _from_zero(network: Network, node: NodeProto) -> bool:
    low = network.constants.get(node.input[1]) if len(node.input) > 1 else None
    return low is not None and float(low) == 0


def _pairs(network: Network) -> Iterator[Pair]:
    for node in network.nodes:
        if node.op_type in LAYERS:
            found = _follow(network, node.output[0])
            if found is not None and _fits(network, node, found):
                yield Pair(first=node, second=found, between=found.input[0])


def _follow(network: Network, name: str) -> NodeProto | None:
    """The layer that alone reads a tensor, through what scaling goes through."""
    node = network.only_consumer(name)
    while node is not None and node.op_type not in LAYERS:
        if node.op_type not in (*BETWEEN, *FLATTENING) and not _open_clip(network, node):
            return None
        node = network.only_consumer(node.output[0])
    return node


def _open_clip(network: Network, node: NodeProto) -> bool:
    """Whether a Clip is a Relu: from 0 on, without an end."""
    high = len(node.input) > 2 and bool(node.input[2])
    return node.op_type == "Clip" and _from_zero(network, node) and not high


def _fits(network: Network, first: NodeProto, second: NodeProto) -> bool:
    """Whether the second layer's inputs are the first one's channels, or runs of as many each."""
    outs = _outputs(layer_of(network, first))
    layer = layer_of(network, second)
    ins = _inputs(layer)
    if "Conv" in second.op_type:
        return "Conv" in first.op_type and ins == outs
    return ins == outs if "Conv" not in first.op_type else ins % outs == 0


def _outputs(layer: Layer) -> int:
    return int(layer.weights.shape[layer.axis]) * layer.repeats


def _inputs(layer: Layer) -> int:
    kind, shape = layer.node.op_type, layer.weights.shape
    if kind == "Conv":
        return int(shape[1]) * layer.groups
    return int(shape[0]) if kind == "ConvTranspose" else int(shape[1 - layer.axis])


def _peaks(network: Network, pair: Pair, observations: Observations) -> Array:
    """Largest magnitude of each channel between two layers."""
    values = np.abs(observations.values(pair.between))
    outs = _outputs(layer_of(network, pair.first))
    if "Conv" in pair.second.op_type:
        return np.asarray(np.moveaxis(values, 1, -1).reshape(-1, outs).max(axis=0), np.float64)
    return np.asarray(values.reshape(-1, outs, values.shape[-1] // outs).max(axis=(0, 2)))


def _equalize_pair(
    network: Network, pair: Pair, source: Equalization, peaks: dict[str, Array]
) -> float:
    """Scale the channels of one pair, by factors of geometric mean 1; the largest change."""
    first, second = layer_of(network, pair.first), layer_of(network, pair.second)
    outs = _outputs(first)
    front = peaks[pair.between] if source == "activations" else _largest_out(first)
    behind = _largest_in(second, outs)
    used = (front > LEAST_RANGE * front.max()) & (behind > LEAST_RANGE * behind.max())
    factors = np.ones(outs)
    factors[used] = np.sqrt(front[used] / behind[used])
    factors[used] /= np.exp(np.mean(np.log(factors[used]))) if used.any() else 1.0
    _scale(network, first, 1 / factors, np.ones(_inputs(first)))
    _scale(network, second, np.ones(_outputs(second)), np.repeat(factors, _inputs(second) // outs))
    peaks[pair.between] = peaks[pair.between] / factors
    return float(np.abs(factors - 1).max())


def _scale(network: Network, layer: Layer, outputs: Array, inputs: Array) -> None:
    """Multiply a layer's weights by a factor an output and one an input channel, bias too.

    The arrays get names of their own, since another layer may share them.
    """
    node, matrix = layer.node, weight_matrix(layer, layer.weights)
    taps = matrix.shape[2] * layer.groups // len(inputs)
    columns = np.repeat(inputs, taps).reshape(layer.groups, 1, -1)
    scaled = matrix * outputs.reshape(layer.groups, -1, 1) * columns
    given = {1: weights_of_matrix(layer, scaled)}
    if layer.bias is not None:
        given[2] = layer.bias * outputs
    for position, array in given.items():
        node.input[position] = f"{node.name}/equalized{position}"
        network.constants[node.input[position]] = array.astype(np.float32)


def _largest_out(layer: Layer) -> Array:
    """Largest weight of each output channel."""
    return np.asarray(np.abs(weight_matrix(layer, layer.weights)).max(axis=2).reshape(-1))


def _largest_in(layer: Layer, channels: int) -> Array:
    """Largest weight that reads each channel in front, which may be a run of inputs."""
    by_column = np.abs(weight_matrix(layer, layer.weights)).max(axis=1)
    return np.asarray(by_column.reshape(channels, -1).max(axis=1))
