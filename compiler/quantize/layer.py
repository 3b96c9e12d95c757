"""A layer as schemes see it, and the codes of its weights and bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto

from qcompile.compiler.quantize.prepare import LAYERS, Network, attributes, channel_axis

Array = npt.NDArray[Any]
WEIGHT_LIMIT = 127
"""Weights are symmetric: -128 is not used."""
ALL_LEVELS = tuple(range(-WEIGHT_LIMIT, WEIGHT_LIMIT + 1))
LEAST_SHARE = 2.0**-24
"""Of the largest channel's scale that a channel has at least: one with weights that are all but 0
beside the others', and with a small bias."""
NO_SCALE = 1e-8
"""Scale of a layer whose weights are all 0, as far as its biases leave it."""
BIAS_LIMIT = 2**31 - 1
LEAST_BIAS_ROOM = 2**22
"""A bias to this is finer than any code of the result, and its sums fit 24 bits."""
PRODUCT_LIMIT = 2**15
"""Of a weight's code and an operand's, about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A Conv, ConvTranspose, Gemm or MatMul of the float network.

    Attributes
    ----------
    node : NodeProto
    weights : float64 array
        As ONNX has them: Conv [M, C/groups, ...], ConvTranspose [C, M/groups, ...], Gemm both ways.
    bias : float64 [M] or None
    axis : int
        Of the weights: output channels; those of one group for ConvTranspose.
    groups : int
    operand, result : str
        Tensors whose encodings the layer reads and makes; `result` stands behind its only Relu or
        Clip where there is one.
    """

    node: NodeProto
    weights: Array
    bias: Array | None
    axis: int
    groups: int
    operand: str
    result: str

    @property
    def repeats(self) -> int:
        """How often the weights' channels stand in a row in the result: ConvTranspose's groups."""
        return self.groups if self.node.op_type == "ConvTranspose" else 1

    @property
    def depthwise(self) -> bool:
        """Whether each output channel reads one input channel."""
        return self.node.op_type == "Conv" and self.groups > 1 and self.weights.shape[1] == 1

    def by_channel(self, values: Array) -> Array:
        """A vector along the weights' channel axis, so that it broadcasts against them."""
        shape = [1] * self.weights.ndim
        shape[self.axis] = -1
        return np.asarray(values).reshape(shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCodes:
    """What a layer's weights and bias become.

    Attributes
    ----------
    weights : int8 array of the weights' shape
        Each one of `levels`.
    scales : float32 [channels of Layer.axis], or [] for all
        `real = scale * code`. The bias counts in steps of this times the operand's scale.
    bias : int32 [M] or None
    levels : sorted tuple of int
        Codes that a weight may take; 0 is one of them unless the scheme has no 0.
    codebook : bool
        Whether the model stores indices into `levels`, as a constant Gather.
    """

    weights: Array
    scales: Array
    bias: Array | None
    levels: tuple[int, ...] = ALL_LEVELS
    codebook: bool = False

    def real_weights(self, layer: Layer) -> Array:
        """float32 weights that the codes stand for."""
        scales = self.scales if self.scales.ndim == 0 else layer.by_channel(self.scales)
        return np.asarray(self.weights.astype(np.float32) * scales.astype(np.float32))

    def real_bias(self, layer: Layer, operand_scale: np.float32) -> Array | None:
        """float32 [M] that the bias stands for."""
        if self.bias is None:
            return None
        return np.asarray(self.bias * bias_scales(layer, self.scales, operand_scale), np.float32)


def layers_of(network: Network) -> list[Layer]:
    """The network's layers, in the order of execution."""
    return [layer_of(network, node) for node in network.nodes if node.op_type in LAYERS]


def layer_of(network: Network, node: NodeProto) -> Layer:
    """A layer of the network by its node."""
    bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
    weights = network.constants[node.input[1]].astype(np.float64)
    return Layer(
        node=node,
        weights=weights,
        bias=None if bias is None else network.constants[bias].astype(np.float64).reshape(-1),
        axis=channel_axis(node),
        groups=int(attributes(node).get("group", 1)) if "Conv" in node.op_type else 1,
        operand=str(node.input[0]),
        result=network.behind_activation(node),
    )


def symmetric_scales(layer: Layer, limit: int = WEIGHT_LIMIT) -> Array:
    """float32 scales, one a channel, that put its largest weight on code `limit`."""
    others = tuple(one for one in range(layer.weights.ndim) if one != layer.axis)
    return usable_scales(np.abs(layer.weights).max(axis=others) / limit)


def usable_scales(wanted: Array) -> Array:
    """float32 scales, one a channel, as wanted but for those of channels with next to no weights.

    Relative to the layer's largest, for networks may have small weights throughout.
    """
    least = LEAST_SHARE * wanted.max(initial=0.0) or NO_SCALE
    return np.asarray(np.maximum(wanted, least), np.float32)


def scales_with_room(layer: Layer, scales: Array, operand_scale: np.float32) -> Array:
    """float32 scales [channels], raised where a bias has more steps than products can reach.

    Of channels with next to no weights, which training leaves behind, the bias is all there is; in
    steps of such weights it would not fit 32 bits, or not the hardware's sums.
    """
    if layer.bias is None:
        return scales
    channels = len(scales)
    bias = np.broadcast_to(np.abs(layer.bias), channels * layer.repeats).reshape(-1, channels)
    room = max(LEAST_BIAS_ROOM, layer.weights.size // channels * PRODUCT_LIMIT)
    least = bias.max(axis=0) / (np.float64(operand_scale) * min(room, BIAS_LIMIT // 2))
    return np.asarray(np.maximum(scales, least), np.float32)


def quantize_layer(
    layer: Layer, scales: Array, operand_scale: np.float32, levels: tuple[int, ...] = ALL_LEVELS
) -> LayerCodes:
    """Weights on the nearest level, and the bias; `scales` as `LayerCodes` has them."""
    steps = np.asarray(scales, np.float64)
    real = layer.weights / (steps if steps.ndim == 0 else layer.by_channel(steps))
    return LayerCodes(
        weights=nearest_level(real, levels),
        scales=np.asarray(scales, np.float32),
        bias=quantize_bias(layer, layer.bias, scales, operand_scale),
        levels=levels,
    )


def nearest_level(values: Array, levels: tuple[int, ...]) -> Array:
    """int8: the level next to each value; between two neighbouring codes the even one."""
    if levels == ALL_LEVELS:
        return np.asarray(np.clip(np.rint(values), -WEIGHT_LIMIT, WEIGHT_LIMIT), np.int8)
    known = np.asarray(levels, np.float64)
    if len(known) == 1:
        return np.full(np.shape(values), known[0], np.int8)
    above = np.clip(np.searchsorted(known, values), 1, len(known) - 1)
    low, high = known[above - 1], known[above]
    nearer = (values - low > high - values) | ((values - low == high - values) & (high % 2 == 0))
    return np.where(nearer, high, low).astype(np.int8)


def quantize_bias(
    layer: Layer, bias: Array | None, scales: Array, operand_scale: np.float32
) -> Array | None:
    """int32 [M], saturating; None where there is no bias."""
    if bias is None:
        return None
    codes = np.rint(np.asarray(bias, np.float64) / bias_scales(layer, scales, operand_scale))
    return np.clip(codes, -BIAS_LIMIT, BIAS_LIMIT).astype(np.int32)


def bias_scales(layer: Layer, scales: Array, operand_scale: np.float32) -> Array:
    """float64 [M], or [] where all weights share one: the operand's scale times the weights'."""
    product = np.asarray(scales, np.float64) * np.float64(operand_scale)
    return product if product.ndim == 0 else np.tile(product, layer.repeats)
