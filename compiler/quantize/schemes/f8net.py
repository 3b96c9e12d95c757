"""Scheme f8net: fixed-point formats of 8 bits, all multiplications of 8 bits, all rescaling shifts.

Source: Jin et al., F8Net (ICLR 2022), and its code; here without training. Every activation has a
format, unsigned behind a Relu, whose fractional length FL comes from the standard deviation or from
a search, and PACT's factor eta = 2**FL * alpha / (2**bits - 1) with the clip threshold alpha that
the calibration gives. A layer's effective weights are W * eta_x / eta_y, its bias b / eta_y: what
is left to do behind its sums is a shift by FL_x + FL_w - FL_y. In ONNX a code's scale is
eta * 2**-FL.

Addends and sum of a residual Add share the eta of the sum, whose next layer is the master child,
and keep their own FL. A mean of n pixels has 2**k / n in its eta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler.quantize.encoding import LOWEST, Encoding, Parameters
from qcompile.compiler.quantize.exact_scales import (
    least_result_scale,
    mean_scale,
    settle,
    shifted_scales,
)
from qcompile.compiler.quantize.fixed_point import (
    Format,
    clamped,
    clip_threshold,
    fraction_by_search,
    fraction_by_std,
    most_fraction,
    pact_factor,
)
from qcompile.compiler.quantize.layer import (
    Layer,
    layers_of,
)
from qcompile.compiler.quantize.observe import Observations
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import Network
from qcompile.compiler.quantize.schemes.shift import Shift
from qcompile.compiler.quantize.sources import sources_of

Array = npt.NDArray[Any]
RECTIFIED_STD = 0.584
"""Deviation of max(x, 0) where x is normal: times this of x's, sqrt(1/2 - 1/(2 pi))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPoint(Parameters):
    """Codes of a format: `real = eta * code * 2**-FL`, an unsigned code as int8 with 128 less."""

    format: Format
    eta: float


class F8Net(Shift):
    """Formats by `fl` (grid unless said), clip thresholds by `range` (mse unless said)."""

    READS = frozenset({"range", "ranges", "fl"})
    METHODS = ("minmax", "percentile", "mse")

    def __init__(self, options: Options) -> None:
        super().__init__(replace(options, range=options.range or "mse", fl=options.fl or "grid"))
        self.formats: dict[str, tuple[FixedPoint, Format, FixedPoint]] = {}

    def encodings(
        self, network: Network, observations: Observations, tensors: list[str]
    ) -> dict[str, Encoding]:
        """A format and an eta each; eta moves by float32 steps so that all shifts are exact."""
        chosen = _Formats(network, observations, self.options, self.pools)
        for name in tensors:
            chosen.choose(name)
        etas = settle(chosen.etas, chosen.pairs())
        return {name: _encoding(chosen.formats[name], etas[chosen.roots[name]]) for name in tensors}

    def scales(
        self, layer: Layer, step: np.float32, operand: Encoding, result: Encoding
    ) -> npt.NDArray[np.float32]:
        """One for the layer: that of the effective weights' format."""
        if not (isinstance(operand, FixedPoint) and isinstance(result, FixedPoint)):
            return shifted_scales(layer, step)  # an activation of another form
        effective = layer.weights * (operand.eta / result.eta)
        weights = clamped(weight_fraction(effective, self.options), signed=True)
        self.formats[layer.node.name] = operand, weights, result
        return np.asarray(np.ldexp(step, -_shift(operand, weights, result)), np.float32)

    def notes(self) -> list[str]:
        """Formats of each layer's operand, weights and result, u for unsigned and s for signed."""
        if not self.formats:
            return []
        width = max(len(name) for name in self.formats)
        head = f"{'layer':{width}}  input  weights  result  shift  eta input   eta result"
        return [
            head,
            *(
                f"{name:{width}}  {x.format!s:>5}  {w!s:>7}  {y.format!s:>6}  "
                f"{_shift(x, w, y):>5}  {x.eta:<10.5g}  {y.eta:<10.5g}"
                for name, (x, w, y) in self.formats.items()
            ),
        ]


def _shift(operand: FixedPoint, weights: Format, result: FixedPoint) -> int:
    """Of the layer's sums: FL_x + FL_w - FL_y, never to the left."""
    return max(operand.format.fraction + weights.fraction - result.format.fraction, 0)


def weight_fraction(effective: Array, options: Options) -> int:
    """The fractional length that effective weights ask for, which may be above 7."""
    if options.fl == "grid":
        return fraction_by_search(effective, signed=True)
    return fraction_by_std(float(np.std(effective)), signed=True)


def _encoding(chosen: Format, eta: np.float32) -> FixedPoint:
    return FixedPoint(
        scale=np.float32(np.ldexp(eta, -chosen.fraction)),
        zero_point=0 if chosen.signed else LOWEST,
        format=chosen,
        eta=float(eta),
    )


class _Formats:
    """Formats and etas while they are being chosen, in the order of execution.

    `roots` names, for each tensor, whose eta it shares; `own` are formats that eta was made of.
    """

    def __init__(
        self,
        network: Network,
        observations: Observations,
        options: Options,
        pools: frozenset[str],
    ) -> None:
        self.network = network
        self.observations = observations
        self.options = options
        self.sources = sources_of(network)
        self.layers = {self.sources[one.result]: one for one in layers_of(network)}
        self.pools = pools
        self.makers = {node.output[0]: node for node in network.nodes}
        self.roots = _shared_roots(network, self.sources)
        self.formats: dict[str, Format] = {}
        self.etas: dict[str, np.float32] = {}
        self.own: dict[str, Format] = {}

    def pairs(self) -> list[tuple[str, str]]:
        """Roots of every layer's operand and result."""
        return [
            (self.roots[self.sources[layer.operand]], self.roots[result])
            for result, layer in self.layers.items()
        ]

    def choose(self, name: str) -> None:
        """The format of a tensor, and eta if it is the first that has it."""
        root = self.roots[name]
        if root not in self.etas:
            self.etas[root] = np.float32(self._eta(root, self.layers.get(name)))
        eta = float(self.etas[root])
        chosen = self.own.get(name) or self._by_rule(name, eta)
        self.formats[name] = self._coarse(name, chosen, eta)

    def _eta(self, root: str, layer: Layer | None) -> float:
        """PACT's factor of a tensor; `layer` makes it, or an addend that shares it.

        alpha fixes eta * 2**-FL alone: another FL than the rule's changes eta, and with it the
        layer's effective weights. It is taken where these would need an FL that formats lack.
        """
        if layer is not None and layer.node.name in self.pools:
            before = self._eta_of(layer.operand)
            return mean_scale(layer, before, before)
        signed = self._signed(root)
        self.own[root] = self._by_rule(root, 1.0)
        if root not in self.makers:  # an input's values are 1 at most in F8Net
            self.own[root] = Format(signed=signed, fraction=most_fraction(signed))
        alpha = self._clip(root)
        eta = pact_factor(alpha, self.own[root])
        if layer is not None:
            effective = layer.weights * (self._eta_of(layer.operand) / eta)
            wanted = weight_fraction(effective, self.options)
            lacking = wanted - clamped(wanted, signed=True).fraction
            self.own[root] = clamped(self.own[root].fraction - lacking, signed=signed)
        return pact_factor(alpha, self.own[root])

    def _eta_of(self, name: str) -> float:
        return float(self.etas[self.roots[self.sources[name]]])

    def _is_mean(self, name: str) -> bool:
        return name in self.layers and self.layers[name].node.name in self.pools

    def _clip(self, name: str) -> float:
        given = (self.options.ranges or {}).get(name)
        if given is not None:
            return max(-given.low, given.high)
        method = self.options.range or "mse"
        return clip_threshold(self.observations.values(name), method, signed=self._signed(name))

    def _by_rule(self, name: str, eta: float) -> Format:
        """The format of a tensor's values divided by eta, as F8Net chooses it."""
        signed, values = self._signed(name), self.observations.values(name)
        if self.options.fl == "grid":
            return clamped(fraction_by_search(values / eta, signed=signed), signed=signed)
        maker = self.makers.get(name)
        sigma = float(np.std(values)) / eta
        if not signed and maker is not None and maker.op_type in ("Relu", "Clip"):
            sigma = float(np.std(self.observations.values(maker.input[0]))) / eta
        elif not signed:
            sigma /= RECTIFIED_STD
        return clamped(fraction_by_std(sigma, signed=signed), signed=signed)

    def _signed(self, name: str) -> bool:
        """Whether values below 0 have codes: not behind a Relu, nor in an image without any."""
        maker = self.makers.get(name)
        if maker is None:
            return bool(self.observations.values(name).min() < 0)
        if self._is_mean(name):
            return self._signed(self.sources[self.layers[name].operand])
        return maker.op_type != "Relu" and not (
            maker.op_type == "Clip" and self.observations.values(name).min() >= 0
        )

    def _coarse(self, name: str, chosen: Format, eta: float) -> Format:
        """A format with so short a fraction that no requantization multiplies by more than 1."""
        layer = self.layers.get(name)
        if layer is None:
            return chosen
        before = self.sources[layer.operand]
        operand = np.float32(float(self.etas[self.roots[before]]) * self.formats[before].step)
        least = least_result_scale(layer, operand) * (127 if self._is_mean(name) else 1)
        lacking = math.ceil(math.log2(max(least, 1e-30) / (eta * chosen.step)) - 1e-6)
        return replace(chosen, fraction=max(chosen.fraction - max(lacking, 0), 0))


def _shared_roots(network: Network, sources: dict[str, str]) -> dict[str, str]:
    """For each tensor whose eta it has: addends have the sum's, a chain of sums the first one's."""
    roots = {name: name for name in sources.values()}
    for node in network.nodes:
        if node.op_type != "Add":
            continue
        result = roots[sources[network.behind_activation(node)]]
        joined = {roots[sources[name]] for name in node.input}
        sums = [name for name in roots.values() if name in joined]
        # An addend that is a root of others is an earlier sum.
        earlier = [one for one in sums if sum(root == one for root in roots.values()) > 1]
        master = earlier[0] if earlier else result
        for name, root in roots.items():
            if root in joined or root == result:
                roots[name] = master
    return roots
