"""Scheme affine: int8 with zero points (Jacob et al., "Quantization and Training of Neural Networks
for Efficient Integer-Arithmetic-Only Inference", CVPR 2018), weights symmetric, a scale a channel.
"""

from __future__ import annotations

from qcompile.compiler.quantize.encoding import Encoding
from qcompile.compiler.quantize.layer import (
    Layer,
    LayerCodes,
    quantize_layer,
    scales_with_room,
    symmetric_scales,
)
from qcompile.compiler.quantize.log_activations import LogEncoding
from qcompile.compiler.quantize.log_ties import scales_without_ties
from qcompile.compiler.quantize.observe import Observations
from qcompile.compiler.quantize.prepare import Network
from qcompile.compiler.quantize.ranges import parameters_of
from qcompile.compiler.quantize.scheme import Scheme


class Affine(Scheme):
    """Ranges of activations as the options say, zero anywhere in them."""

    READS = frozenset({"range", "ranges"})

    def encodings(
        self, network: Network, observations: Observations, tensors: list[str]
    ) -> dict[str, Encoding]:
        """A scale and a zero point each."""
        return {name: parameters_of(observations.range_of(name, self.options)) for name in tensors}

    def layer(self, layer: Layer, operand: Encoding, result: Encoding | None) -> LayerCodes:
        """The largest weight of each channel has code 127 or -127, where its bias lets it."""
        scales = scales_with_room(layer, symmetric_scales(layer), operand.scale)
        if isinstance(operand, LogEncoding) and isinstance(result, LogEncoding):
            scales = scales_without_ties(layer, scales, operand.format, result.format)
        return quantize_layer(layer, scales, operand.scale)
