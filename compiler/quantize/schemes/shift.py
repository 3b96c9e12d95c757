"""Scheme shift: int8 as in scheme affine, with every requantization one exact rounding shift.

Activations keep their scales and zero points. What is left of a layer's factor beside a power of
two goes into the steps of its weights, a scale a channel: half a bit of them on average. A mean
over n pixels becomes a convolution whose result has the factor 2**k / n in its scale.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from qcompile.compiler.quantize.encoding import Encoding, Parameters
from qcompile.compiler.quantize.exact_scales import (
    MOST_SHIFT,
    least_result_scale,
    settle,
    shifted_scales,
    unit_step,
)
from qcompile.compiler.quantize.layer import (
    Layer,
    LayerCodes,
    layers_of,
    quantize_layer,
    symmetric_scales,
)
from qcompile.compiler.quantize.observe import Observations
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.pool_layers import pools_to_layers
from qcompile.compiler.quantize.prepare import Network
from qcompile.compiler.quantize.ranges import Range, zero_point_of
from qcompile.compiler.quantize.scheme import Scheme
from qcompile.compiler.quantize.sources import sources_of

Array = npt.NDArray[np.float32]


class Shift(Scheme):
    """Ranges of activations as the options say; scales that have exact shifts."""

    READS = frozenset({"range", "ranges"})

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.pools: frozenset[str] = frozenset()

    def rewrite(self, network: Network, observations: Observations) -> None:
        """Average pools become layers."""
        self.pools = pools_to_layers(network)

    def encodings(
        self, network: Network, observations: Observations, tensors: list[str]
    ) -> dict[str, Encoding]:
        """Scales and zero points of the ranges, scales moved by float32 steps at most.

        Only a mean's scale moves by more, as does one with which a layer would multiply by over 1.
        """
        ranges = {name: observations.range_of(name, self.options) for name in tensors}
        scales = {name: np.float32(one.scale) for name, one in ranges.items()}
        sources, pairs = sources_of(network), []
        for layer in layers_of(network):
            operand, result = sources[layer.operand], sources[layer.result]
            pairs.append((operand, result))
            wanted = float(scales[result])
            if layer.node.name in self.pools:
                wanted = _mean_scale(layer, float(scales[operand]), wanted)
            scales[result] = np.float32(max(wanted, least_result_scale(layer, scales[operand])))
        inputs = [value.name for value in network.inputs]
        settled = settle(scales, pairs, fixed=inputs)
        return {name: _parameters(ranges[name], settled[name]) for name in tensors}

    def layer(self, layer: Layer, operand: Encoding, result: Encoding | None) -> LayerCodes:
        """Weights' scales make the layer's factors powers of two."""
        step = None if result is None else unit_step(operand.scale, result.scale)
        if step is None:  # another form of activations than codes with scales
            return quantize_layer(layer, symmetric_scales(layer), operand.scale)
        if layer.node.name in self.pools:
            return quantize_layer(layer, mean_scales(layer, step), operand.scale)
        return quantize_layer(layer, shifted_scales(layer, step), operand.scale)


def mean_scales(layer: Layer, step: np.float32) -> Array:
    """float32 scales of a mean's weights, near 1 / n: each weight has code 1."""
    weight = float(layer.weights.flat[0])
    shift = round(math.log2(float(step) / weight))
    return np.full(layer.weights.shape[0], step * np.float32(2.0**-shift), np.float32)


def _mean_scale(layer: Layer, operand: float, wanted: float) -> float:
    """The smallest scale operand * 2**k / n of a mean of n pixels that is no less than wanted."""
    unit = operand * float(layer.weights.flat[0])
    shift = math.ceil(math.log2(wanted / unit) - 1e-6)
    return unit * 2.0 ** min(max(shift, 0), MOST_SHIFT)


def _parameters(wanted: Range, scale: np.float32) -> Parameters:
    return Parameters(scale=scale, zero_point=zero_point_of(wanted, scale))
