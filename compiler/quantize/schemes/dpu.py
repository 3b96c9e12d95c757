"""Scheme dpu: what Xilinx's DPU computes with, positions in place of scales; see `positions`.

Weights have one position a layer, biases 8 bits and a position of their own, activations no zero
point. All rescaling is shifts within the DPU's limits; means are sums times the vendor's k / 2**n.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qcompile.compiler.errors import UsageError
from qcompile.compiler.quantize import positions
from qcompile.compiler.quantize.encoding import Encoding, Parameters
from qcompile.compiler.quantize.layer import Layer, LayerCodes, layers_of, quantize_layer
from qcompile.compiler.quantize.observe import Observations
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.pool_layers import pools_to_layers
from qcompile.compiler.quantize.prepare import Network
from qcompile.compiler.quantize.scheme import Scheme
from qcompile.compiler.quantize.sources import sources_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Positioned(Parameters):
    """`real = code * 2**-position`."""

    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifts:
    """Positions of a layer: operand, weights, bias (None without one) and result."""

    operand: int
    weights: int
    bias: int | None
    result: int


class Dpu(Scheme):
    """Positions by the vendor's search, changed where the DPU could not shift so far."""

    def __init__(self, options: Options) -> None:
        if options.bias_correction:
            raise UsageError(
                "--bias-correction has no meaning in scheme dpu, whose biases have 8 bits",
                help="leave it out, or take scheme shift or f8net",
            )
        super().__init__(options)
        self.pools: frozenset[str] = frozenset()
        self.shifts: dict[str, Shifts] = {}

    def rewrite(self, network: Network, observations: Observations) -> None:
        """Average pools become layers with the vendor's factors."""
        self.pools = pools_to_layers(network, positions.pool_factor)

    def encodings(
        self, network: Network, observations: Observations, tensors: list[str]
    ) -> dict[str, Encoding]:
        """A position each: inputs' clips nothing, a mean has its operand's."""
        inputs = {value.name for value in network.inputs}
        found = {}
        for name in tensors:
            values = observations.values(name)
            search = positions.whole_position if name in inputs else positions.activation_position
            found[name] = search(values)
        sources = sources_of(network)
        for layer in layers_of(network):
            if layer.node.name in self.pools:
                found[sources[layer.result]] = found[sources[layer.operand]]
        _limit_adds(network, sources, found)
        return {
            name: Positioned(scale=np.float32(2.0**-one), zero_point=0, position=one)
            for name, one in found.items()
        }

    def layer(self, layer: Layer, operand: Encoding, result: Encoding | None) -> LayerCodes:
        """The best position of its weights and of its bias that the DPU can shift to."""
        if not (isinstance(operand, Positioned) and isinstance(result, Positioned)):
            raise UsageError(
                "scheme dpu has int8 activations alone", help="leave out --activations"
            )
        wanted = positions.best_position(layer.weights)
        weights = positions.cut_weights(wanted, operand.position, result.position)
        sums = weights + operand.position
        bias = None
        if layer.bias is not None:
            bias = positions.cut_bias(positions.best_position(layer.bias), sums, result.position)
            layer = replace(layer, bias=positions.rounded(layer.bias, bias))
        self.shifts[layer.node.name] = Shifts(
            operand=operand.position, weights=weights, bias=bias, result=result.position
        )
        return quantize_layer(layer, np.asarray(2.0**-weights, np.float32), operand.scale)

    def notes(self) -> list[str]:
        """Positions of each layer and its shifts."""
        if not self.shifts:
            return []
        width = max(len(name) for name in self.shifts)
        return [
            f"{'layer':{width}}  pos x  pos w  pos b  pos y  shift_cut  shift_bias",
            *(_row(f"{name:{width}}", one) for name, one in self.shifts.items()),
        ]


def _row(name: str, one: Shifts) -> str:
    sums = one.operand + one.weights
    bias = "-" if one.bias is None else str(one.bias)
    shift = "-" if one.bias is None else str(sums - one.bias)
    return (
        f"{name}  {one.operand:>5}  {one.weights:>5}  {bias:>5}  {one.result:>5}  "
        f"{sums - one.result:>9}  {shift:>10}"
    )


def _limit_adds(network: Network, sources: dict[str, str], found: dict[str, int]) -> None:
    """Lower the position of an addend that is too far above the other one's."""
    for node in network.nodes:
        if node.op_type == "Add":
            addends = [sources[name] for name in node.input]
            least = min(found[name] for name in addends)
            for name in addends:
                found[name] = min(found[name], least + positions.READ_LIMIT)
