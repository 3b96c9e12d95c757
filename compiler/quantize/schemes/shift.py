"""Scheme shift: int8 as in scheme affine, with every requantization one exact rounding shift.

Activations keep their scales and zero points. What is left of a layer's factor beside a power of
two goes into the steps of its weights, a scale a channel: half a bit of them on average. A mean
over n pixels becomes a convolution whose result has the factor 2**k / n in its scale.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qcompile.compiler.quantize.encoding import Encoding, Parameters
from qcompile.compiler.quantize.exact_scales import (
    least_result_scale,
    mean_scale,
    mean_scales,
    settle,
    shifted_scales,
    unit_step,
)
from qcompile.compiler.quantize.layer import (
    Layer,
    LayerCodes,
    layers_of,
    quantize_layer,
    scales_with_room,
    symmetric_scales,
)
from qcompile.compiler.quantize.observe import Observations
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.pool_layers import pools_to_layers
from qcompile.compiler.quantize.prepare import Network
from qcompile.compiler.quantize.ranges import Range, zero_point_of
from qcompile.compiler.quantize.scheme import Scheme
from qcompile.compiler.quantize.sources import sources_of


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
                wanted = mean_scale(layer, float(scales[operand]), wanted)
            scales[result] = np.float32(max(wanted, least_result_scale(layer, scales[operand])))
        ends = [*(value.name for value in network.inputs), *network.outputs]
        settled = settle(scales, pairs, fixed=[sources.get(name, name) for name in ends])
        return {name: _parameters(ranges[name], settled[name]) for name in tensors}

    def layer(self, layer: Layer, operand: Encoding, result: Encoding | None) -> LayerCodes:
        """Weights' scales make the layer's factors powers of two."""
        if not isinstance(result, Parameters):  # nothing to shift to
            return self._unshifted(layer, operand)
        step = unit_step(operand.scale, result.scale)
        if step is None:  # an operand of another form, whose scale did not settle
            return self._unshifted(layer, operand)
        scales = mean_scales(layer, step) if layer.node.name in self.pools else None
        if scales is None:
            scales = self.scales(layer, step, operand, result)
        return quantize_layer(layer, scales, operand.scale)

    def _unshifted(self, layer: Layer, operand: Encoding) -> LayerCodes:
        scales = scales_with_room(layer, symmetric_scales(layer), operand.scale)
        return quantize_layer(layer, scales, operand.scale)

    def scales(
        self, layer: Layer, step: np.float32, operand: Encoding, result: Encoding
    ) -> npt.NDArray[np.float32]:
        """step * 2**-n, as `LayerCodes` has scales."""
        return shifted_scales(layer, step)


def _parameters(wanted: Range, scale: np.float32) -> Parameters:
    return Parameters(scale=scale, zero_point=zero_point_of(wanted, scale))
