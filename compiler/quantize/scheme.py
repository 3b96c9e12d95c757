"""What a quantization scheme, a form of weights and a form of activations are.

A scheme decides on the numbers of a network in three steps: `rewrite` changes the float network
into an equivalent one, `encodings` gives activations their codes, `layer` gives a layer's weights
and bias theirs. Everything else (calibration, corrections layer by layer, ONNX, the report) is the
same for all. Forms change what a scheme chose, such as weights into entries of a codebook.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from qcompile.compiler.quantize.encoding import Encoding
from qcompile.compiler.quantize.layer import Layer, LayerCodes
from qcompile.compiler.quantize.observe import Observations
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import Network
from qcompile.compiler.quantize.ranges import METHODS, Method


class Scheme:
    """Base of all schemes: one file each in `schemes`, listed in `registry.SCHEMES`.

    Attributes
    ----------
    READS : frozenset of str
        Names of the options that only some schemes read and this one does: range, ranges, fl.
        Any other one that was asked for is refused before `__init__`.
    METHODS : tuple of str
        What `range` may be, where it is read.
    """

    READS: ClassVar[frozenset[str]] = frozenset()
    METHODS: ClassVar[tuple[Method, ...]] = METHODS

    def __init__(self, options: Options) -> None:
        self.options = options

    def rewrite(self, network: Network, observations: Observations) -> None:
        """Change the network, which is ours, into an equivalent one; by default nothing.

        `observations` are those of the network as it was; new ones are made afterwards.
        """

    def encodings(
        self, network: Network, observations: Observations, tensors: list[str]
    ) -> dict[str, Encoding]:
        """One for each of `tensors`: activations with codes of their own, in order of execution.

        `sources.sources_of(network)` says which others share them: moves and pools.
        """
        raise NotImplementedError

    def layer(self, layer: Layer, operand: Encoding, result: Encoding | None) -> LayerCodes:
        """A layer's codes; `result` encodes its output, behind its Relu, if anything does."""
        raise NotImplementedError

    def notes(self) -> list[str]:
        """Lines for the report beside the table of tensors, such as a format for each layer."""
        return []


class WeightForm(Protocol):
    """Changes the codes that a scheme chose for weights, such as into few levels."""

    def recode(self, layer: Layer, codes: LayerCodes, operand: Encoding) -> LayerCodes:
        """Codes of the same layer, with scales and bias to match."""
        ...


class ActivationForm(Protocol):
    """Changes the encodings that a scheme chose."""

    def rewrite(self, network: Network, observations: Observations) -> None:
        """Change the network, as `Scheme.rewrite` does, after the scheme."""
        ...

    def encodings(
        self, network: Network, observations: Observations, chosen: Mapping[str, Encoding]
    ) -> dict[str, Encoding]:
        """One for each tensor of `chosen`: another, or the same where the form does not fit.

        Tensors that are left out have no codes.
        """
        ...

    def notes(self) -> list[str]:
        """Lines for the report, as `Scheme.notes`."""
        ...
