"""What the lowering of a graph must know of the machine that will run its layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from qcompile.compiler.layers import Layer, Shape3


class Machine(Protocol):
    """A kind of array, of one size.

    Attributes
    ----------
    word_channels : int
        Channels of a memory word, V; output channels that are computed at once.
    word_bytes : int
        Bytes of a memory word.
    makes_weights : bool
        Whether a layer can write the weights of a later one.
    adds_in_place : bool
        Whether a layer may write its output over its residual operand.
    shifts : bool
        Whether an array for logarithmic codes can be built.
    """

    @property
    def word_channels(self) -> int: ...

    @property
    def word_bytes(self) -> int: ...

    @property
    def makes_weights(self) -> bool: ...

    @property
    def adds_in_place(self) -> bool: ...

    @property
    def shifts(self) -> bool: ...

    def most_channels(self, layer: Layer) -> int:
        """Output channels that one layer can have at once, whole words."""
        ...

    def words(self, shape: Shape3) -> int:
        """Memory words of a tensor."""
        ...

    def holds(self, shape: Shape3) -> bool:
        """Whether an input of a shape has room in the memory at all."""
        ...

    def estimate(self, layers: Sequence[Layer]) -> int | None:
        """Cycles of layers, roughly; None where one fits no loop nest."""
        ...

    def sum_cycles(self, shape: Shape3) -> int:
        """Cycles that a stored constant of a shape costs as a residual operand."""
        ...


def cheapest(machine: Machine, forms: Sequence[tuple[Layer, ...]]) -> tuple[Layer, ...]:
    """The form with the smallest estimate; the first one where none fits."""
    costs = [machine.estimate(form) for form in forms]
    known = [cost for cost in costs if cost is not None]
    return forms[costs.index(min(known))] if known else forms[0]
