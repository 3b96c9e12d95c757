"""What shift requantization costs a model: how far its scales are from powers of two."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qcompile.compiler.ir import Graph, Requant


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftCost:
    """Channels of all requantizations, how many change their scale, and the largest change.

    `worst` is relative: 0.25 means outputs a quarter too large or too small before rounding.
    """

    channels: int
    changed: int
    worst: float

    def text(self) -> str:
        """One sentence for a person."""
        if not self.changed:
            return "shift requantization is exact here: every scale is a power of two"
        return (
            f"shift requantization changes the scale of {self.changed:,} of {self.channels:,} "
            f"channels, by up to {self.worst:.0%}; measure what that costs with "
            "`qcompile sim MODEL --requant shift --engine golden --inputs X.npz`"
        )


def shift_cost(exact: Graph, shifted: Graph) -> ShiftCost:
    """Compare the scales of one model at the integer level in both requantization modes."""
    changes = [
        np.abs(_scales(approximate) / _scales(true) - 1)
        for true, approximate in zip(_requants(exact), _requants(shifted), strict=True)
    ]
    change = np.concatenate([np.atleast_1d(part) for part in changes] or [np.zeros(0)])
    return ShiftCost(
        channels=change.size,
        changed=int(np.count_nonzero(change)),
        worst=float(change.max(initial=0.0)),
    )


def _requants(graph: Graph) -> Iterator[Requant]:
    for op in graph.ops:
        requant = getattr(op, "requant", None)
        if isinstance(requant, Requant):
            yield requant


def _scales(requant: Requant) -> np.ndarray:
    """Real scales; a channel whose mantissa is 0 counts as unchanged."""
    scales = requant.mantissa.astype(np.float64) * 2.0 ** -requant.shift.astype(np.float64)
    return np.where(scales == 0, 1.0, scales)
