"""Schemes ternary and binary: weights -1, 0, 1 (TWN) or -1, 1 (BWN), activations as in affine.

The mean magnitude alpha of a channel is its weights' scale, so it joins in requantization. The
first and the last layer keep weights of 8 bits. Such networks need training; this does none.
"""

from __future__ import annotations

from qcompile.compiler.quantize.encoding import Encoding
from qcompile.compiler.quantize.layer import Layer, LayerCodes
from qcompile.compiler.quantize.low_bit import (
    BINARY_LEVELS,
    TERNARY_LEVELS,
    binary_codes,
    inner_layers,
    low_bit_layer,
    ternary_codes,
)
from qcompile.compiler.quantize.observe import Observations
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import Network
from qcompile.compiler.quantize.schemes.affine import Affine


class Ternary(Affine):
    """Inner layers have weights of three values."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.inner: frozenset[str] = frozenset()

    def rewrite(self, network: Network, observations: Observations) -> None:
        """Nothing changes; which layers are inner ones is looked up."""
        super().rewrite(network, observations)
        self.inner = inner_layers(network, int8_depthwise=self.options.int8_depthwise)

    def layer(self, layer: Layer, operand: Encoding, result: Encoding | None) -> LayerCodes:
        """Codes with a scale a channel."""
        if layer.node.name not in self.inner:
            return super().layer(layer, operand, result)
        codes, scales = ternary_codes(layer)
        return low_bit_layer(layer, codes, scales, operand.scale, TERNARY_LEVELS)


class Binary(Ternary):
    """Inner layers have weights of two values."""

    def layer(self, layer: Layer, operand: Encoding, result: Encoding | None) -> LayerCodes:
        """Codes with a scale a channel."""
        if layer.node.name not in self.inner:
            return super().layer(layer, operand, result)
        codes, scales = binary_codes(layer)
        return low_bit_layer(layer, codes, scales, operand.scale, BINARY_LEVELS)
