"""Corrections of a layer's codes, layer by layer, while everything in front is quantized already.

The float network and the quantized one run beside each other over the calibration inputs, node by
node; at each layer its corrections see what it reads in both and what it should give.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.quantize.encoding import Encoding
from qcompile.compiler.quantize.layer import Layer, LayerCodes, layers_of, quantize_bias
from qcompile.compiler.quantize.prepare import Network
from qcompile.compiler.quantize.run_node import NodeRunner
from qcompile.compiler.quantize.sessions import Say, batch_constants, batches, silent

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A layer among calibration inputs.

    Attributes
    ----------
    layer : Layer
    operand : Encoding
        Of what the layer reads.
    values : float32 [N, ...]
        What it reads when everything in front is quantized.
    wanted : float32 [N, M, ...], or [N, ..., M] of Gemm and MatMul
        What the float network's layer gives, in front of its Relu.
    run : function of weights and bias to the layer's result for `values`
    """

    layer: Layer
    operand: Encoding
    values: Array
    wanted: Array
    run: Callable[[Array, Array | None], Array]

    def result(self, codes: LayerCodes) -> Array:
        """What the coded layer gives."""
        bias = codes.real_bias(self.layer, self.operand.scale)
        return self.run(codes.real_weights(self.layer), bias)


class Correction(Protocol):
    """Changes a layer's codes so that its results come nearer to the float network's."""

    def correct(self, sample: Sample, codes: LayerCodes) -> LayerCodes:
        """Better codes, on the same levels and scales."""
        ...


class BiasCorrection:
    """Moves the bias by the mean error of each channel's results (the empirical form).

    Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction",
    ICCV 2019, section 4.2 and appendix D: the difference of the pre-activations' means.
    """

    def correct(self, sample: Sample, codes: LayerCodes) -> LayerCodes:
        """A MatMul, which has no bias in ONNX, stays."""
        layer = sample.layer
        if layer.node.op_type == "MatMul":
            return codes
        error = np.asarray(sample.wanted, np.float64) - sample.result(codes)
        channel = 1 if "Conv" in layer.node.op_type else error.ndim - 1
        mean = error.mean(axis=tuple(axis for axis in range(error.ndim) if axis != channel))
        bias = codes.real_bias(layer, sample.operand.scale)
        moved = mean if bias is None else bias.astype(np.float64) + mean
        return replace(codes, bias=quantize_bias(layer, moved, codes.scales, sample.operand.scale))


def correct_layers(
    network: Network,
    inputs: Mapping[str, Array],
    encodings: Mapping[str, Encoding],
    codes: Mapping[str, LayerCodes],
    corrections: Sequence[Correction],
    progress: Say = silent,
) -> dict[str, LayerCodes]:
    """Codes of every layer, by its name, after the corrections in their order."""
    if not batches(network, inputs):
        raise UnsupportedError(
            "bias correction and rounding search need a network that takes many inputs at once",
            help="export it so that the first axis of every tensor counts inputs",
        )
    walk = _Walk(network, inputs, encodings)
    layers = {layer.node.name: layer for layer in layers_of(network)}
    corrected = dict(codes)
    for node in network.nodes:
        runner = NodeRunner(node)
        if node.name not in layers:
            walk.step(node, runner)
            continue
        progress(f"correct layer {node.name}")
        sample = walk.sample(layers[node.name], runner)
        for correction in corrections:
            corrected[node.name] = correction.correct(sample, corrected[node.name])
        walk.finish(node, sample.wanted, sample.result(corrected[node.name]))
    return corrected


class _Walk:
    """Values of both networks at the point that was reached; those that nobody reads are gone."""

    def __init__(
        self,
        network: Network,
        inputs: Mapping[str, Array],
        encodings: Mapping[str, Encoding],
    ) -> None:
        self.network = network
        self.encodings = encodings
        self.constants = batch_constants(network)
        self.real: dict[str, Array] = dict(inputs)
        self.coded = {name: self._encoded(name, array) for name, array in inputs.items()}
        self.readers = {
            name: len(network.consumers(name))
            for name in (*inputs, *(node.output[0] for node in network.nodes))
        }

    def step(self, node: Any, runner: NodeRunner) -> None:
        """A node that is no layer, in both networks."""
        results = [runner.run({**self.constants, **values}) for values in (self.real, self.coded)]
        self.finish(node, *results)

    def sample(self, layer: Layer, runner: NodeRunner) -> Sample:
        """A layer, ready for its corrections."""
        node = layer.node
        values = self.coded[layer.operand]
        has_bias = len(node.input) > 2 and bool(node.input[2])

        def run(operand: Array, weights: Array, bias: Array | None) -> Array:
            feed = {layer.operand: operand, node.input[1]: weights.astype(np.float32)}
            if has_bias and bias is not None:
                feed[node.input[2]] = bias.astype(np.float32)
            result = runner.run(feed)
            return result if has_bias or bias is None else _plus(layer, result, bias)

        return Sample(
            layer=layer,
            operand=self.encodings[layer.operand],
            values=values,
            wanted=run(self.real[layer.operand], layer.weights, layer.bias),
            run=lambda weights, bias: run(values, weights, bias),
        )

    def finish(self, node: Any, real: Array, coded: Array) -> None:
        """Keep a node's results, the quantized one as its codes; forget what was read last."""
        name = node.output[0]
        self.real[name], self.coded[name] = real, self._encoded(name, coded)
        for operand in dict.fromkeys(node.input):
            if operand in self.readers:
                self.readers[operand] -= 1
                if not self.readers[operand]:
                    del self.real[operand], self.coded[operand]

    def _encoded(self, name: str, values: Array) -> Array:
        encoding = self.encodings.get(name)
        return values if encoding is None else encoding.rounded(values).astype(np.float32)


def _plus(layer: Layer, result: Array, bias: Array) -> Array:
    shape = [1] * result.ndim
    shape[1 if "Conv" in layer.node.op_type else -1] = -1
    return np.asarray(result + bias.reshape(shape), np.float32)
