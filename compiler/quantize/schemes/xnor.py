"""Scheme xnor: binary activations between layers of binary weights (XNOR-Net), exact as int8.

Where a layer and its Relu feed inner layers alone, the Relu becomes a sign: codes -1 and 1 of
scale spread, for max(x, 0) as centre + spread * sign(x - threshold). The threshold goes into the
bias in front, the centre into the biases behind. In ONNX the sign is Clip(-spread, spread) and
QuantizeLinear: weights in front have even codes, so that with an odd bias no sum is 0, and the step
of their sums is spread, so that every sum but 0 is clipped to a code. ONNX Runtime runs that in
float, where a sum of one step and more is as safe. Zero padding adds 0, neither -1 nor 1.
"""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from qcompile.compiler.errors import UsageError
from qcompile.compiler.quantize.encoding import Encoding, Parameters
from qcompile.compiler.quantize.exact_scales import settle, unit_step
from qcompile.compiler.quantize.layer import (
    WEIGHT_LIMIT,
    Layer,
    LayerCodes,
    bias_scales,
    layers_of,
    symmetric_scales,
)
from qcompile.compiler.quantize.low_bit import TwoLevels, binary_codes, two_levels
from qcompile.compiler.quantize.observe import Observations
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import SAME_CODES, Network
from qcompile.compiler.quantize.schemes.ternary import Binary
from qcompile.compiler.quantize.sources import sources_of

EVEN_LIMIT = WEIGHT_LIMIT // 2
"""Half of the largest even code."""
BIAS_LIMIT = 2**30 - 1
"""Half of the largest odd bias, about."""


class Xnor(Binary):
    """Signs instead of Relus where all that reads them is an inner layer."""

    def __init__(self, options: Options) -> None:
        for name, asked in (
            ("--bias-correction", options.bias_correction),
            ("--rounding search", options.rounding != "nearest"),
        ):
            if asked:
                raise UsageError(
                    f"{name} has no meaning in scheme xnor, whose signs are no rounded values",
                    help="leave it out, or take scheme binary",
                )
        super().__init__(options)
        self.levels: dict[str, TwoLevels] = {}
        """Of each sign, by its tensor."""
        self.before: Observations | None = None

    def rewrite(self, network: Network, observations: Observations) -> None:
        """Relus that become signs go, and the biases around them move.

        What is left is no equivalent float network: ranges come from the one before.
        """
        super().rewrite(network, observations)
        self.before = observations
        sources, layers = sources_of(network), layers_of(network)
        found = {}
        for layer in layers:
            relu = network.only_consumer(layer.node.output[0])
            if relu is not None and self._becomes_sign(network, layer, relu):
                found[layer.result] = two_levels(observations.values(layer.node.output[0]))
        for layer in layers:
            moved = np.zeros(1)
            if layer.result in found:
                moved = moved - found[layer.result].threshold
            if sources[layer.operand] in found:
                moved = moved + found[sources[layer.operand]].centre * _weight_sums(layer)
            if moved.any():
                _move_bias(network, layer, moved)
        for name in found:
            _remove(network, name)
        self.levels = found

    def _becomes_sign(self, network: Network, layer: Layer, relu: NodeProto) -> bool:
        """Whether a Relu behind a layer that can have a bias feeds inner layers alone."""
        readers = _readers(network, relu.output[0])
        return (
            relu.op_type == "Relu"
            and layer.node.op_type != "MatMul"
            and None not in readers
            and all(one.name in self.inner and one.op_type != "MatMul" for one in readers if one)
        )

    def encodings(
        self, network: Network, observations: Observations, tensors: list[str]
    ) -> dict[str, Encoding]:
        """Signs have codes -1 and 1, all others are as in scheme affine."""
        assert self.before is not None, "rewrite comes first"
        others = [name for name in tensors if name not in self.levels]
        found = super().encodings(network, self.before, others)
        scales = {name: one.scale for name, one in found.items()}
        scales |= {name: np.float32(one.spread) for name, one in self.levels.items()}
        sources = sources_of(network)
        pairs = [
            (sources[layer.operand], layer.result)
            for layer in layers_of(network)
            if layer.result in self.levels
        ]
        settled = settle(scales, pairs, fixed=others)
        signs = {
            name: Parameters(scale=settled[name], zero_point=0, low=-1, high=1)
            for name in self.levels
        }
        return {name: signs.get(name) or found[name] for name in tensors}

    def layer(self, layer: Layer, operand: Encoding, result: Encoding | None) -> LayerCodes:
        """In front of a sign only the sums' signs count: channels share one scale of weights."""
        if layer.result not in self.levels:
            return super().layer(layer, operand, result)
        assert result is not None and layer.bias is not None, "encodings and rewrite gave them"
        step = unit_step(operand.scale, result.scale)
        assert step is not None, "encodings settled it"
        if layer.node.name in self.inner:
            codes, scales = binary_codes(layer)
            limit = 1
        else:
            scales, limit = symmetric_scales(layer, EVEN_LIMIT), EVEN_LIMIT
            real = layer.weights / layer.by_channel(scales.astype(np.float64))
            codes = np.clip(np.rint(real), -limit, limit).astype(np.int8)
        # Codes are doubled and the bias, in steps of these sums, is odd.
        half = (layer.bias / bias_scales(layer, scales, operand.scale) * 2 - 1) / 2
        bias = 2 * np.clip(np.rint(half), -BIAS_LIMIT, BIAS_LIMIT) + 1
        return LayerCodes(
            weights=2 * codes,
            scales=np.asarray(step, np.float32),
            bias=bias.astype(np.int32),
            levels=tuple(code for code in range(-2 * limit, 2 * limit + 1, 2) if code or limit > 1),
        )


def _readers(network: Network, name: str) -> list[NodeProto | None]:
    """Nodes that read a tensor, or its codes behind moves; None for the network's output."""
    found: list[NodeProto | None] = [None] if name in network.outputs else []
    for node in network.consumers(name):
        if node.op_type in SAME_CODES:
            found += _readers(network, node.output[0])
        else:
            found.append(node)
    return found


def _weight_sums(layer: Layer) -> np.ndarray:
    """Of each output channel's binary weights."""
    codes, scales = binary_codes(layer)
    others = tuple(one for one in range(codes.ndim) if one != layer.axis)
    return np.asarray(np.tile(codes.sum(axis=others, dtype=np.int64) * scales, layer.repeats))


def _move_bias(network: Network, layer: Layer, moved: np.ndarray) -> None:
    """Add to a layer's bias, one number or one a channel; it gets one where it has none."""
    channels = layer.weights.shape[layer.axis] * layer.repeats
    bias = np.zeros(channels) if layer.bias is None else layer.bias
    name = f"{layer.node.name}/moved_bias"
    network.constants[name] = (bias + moved).astype(np.float32)
    del layer.node.input[2:]
    layer.node.input.append(name)


def _remove(network: Network, name: str) -> None:
    """Take away the Relu that makes a tensor; the layer in front makes it then."""
    relu = next(node for node in network.nodes if name in node.output)
    maker = next(node for node in network.nodes if relu.input[0] in node.output)
    network.nodes.remove(relu)
    maker.output[0] = name
