"""What layers cost on an array of lines, and the plan of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qcompile.compiler.layers import Layer, Shape3
from qcompile.compiler.lines.nests import candidates, words
from qcompile.compiler.lines.plan import LinePlan
from qcompile.compiler.lines.weight_ring import KEPT
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.program import COUNT_BITS

LAYER_CYCLES = 60
"""From the end of a layer to the next one's first product, and through the lanes."""
TABLE_CYCLES = 257
"""One table of the residual adder in the program stream of 64 bits."""
CODES_CYCLES = 33
"""A table of codes in the program stream."""


def best_plan(layer: Layer, config: LinesConfig, *, turned: bool = False) -> LinePlan | None:
    """The plan with the fewest cycles, then the fewest weight words; None: no loop nest fits.

    `turned`: the layer's input lies turned in the memory.
    """
    room = config.lines * config.weight_rows
    plans = [
        plan
        for plan in candidates(layer, config, turned=turned)
        if _is_countable(plan) and (not config.streams or plan.weight_words <= room)
    ]
    return min(
        plans,
        key=lambda plan: (plan.cycles_estimate(config), plan.weight_words),
        default=None,
    )


def _is_countable(plan: LinePlan) -> bool:
    return all(count <= 1 << bits for count, bits in zip(plan.counts, COUNT_BITS, strict=True))


@dataclass(frozen=True, slots=True)
class LinesMachine:
    """An array of lines with its weights in block RAM: a `Machine`."""

    config: LinesConfig

    @property
    def word_bytes(self) -> int:
        """Bytes of a memory word."""
        return self.word_channels

    @property
    def word_channels(self) -> int:
        """Channels of a memory word."""
        return self.config.columns

    @property
    def makes_weights(self) -> bool:
        """Weights stand in a memory that layers do not write."""
        return False

    @property
    def adds_in_place(self) -> bool:
        """Residual words are read ahead of the words that are written in their place."""
        return True

    @property
    def shifts(self) -> bool:
        """Its elements are DSP48E1s."""
        return False

    def most_channels(self, layer: Layer) -> int:
        """Output channels that one layer can have at once: what the counter, and of weights that
        come with the program a third of the memory, has room for."""
        v = self.config.columns
        most = 1 << COUNT_BITS[6]
        if self.config.streams:
            taps = int(np.prod(layer.weight.shape[-2:])) * layer.copies
            inputs = layer.weight.shape[2] if layer.kind == "dense" else 1
            words = taps * (-(-inputs // v) * v if layer.kind == "dense" else 1)
            most = min(most, self.config.lines * self.config.weight_rows // (KEPT + 1) // words)
        return v * max(1, most)

    def words(self, shape: Shape3) -> int:
        """Memory words of a tensor."""
        return words(shape, self.config.columns)

    def holds(self, shape: Shape3) -> bool:
        """Whether a set of the activation memory holds a tensor."""
        return self.words(shape) <= self.config.set_words

    def estimate(self, layers: Sequence[Layer]) -> int | None:
        """Cycles of all layers, roughly; None where one fits no loop nest."""
        plans = [best_plan(layer, self.config) for layer in layers]
        known = [plan for plan in plans if plan is not None]
        return self.estimate_plans(layers, known) if len(known) == len(plans) else None

    def estimate_plans(self, layers: Sequence[Layer], plans: Sequence[LinePlan]) -> int:
        """Cycles of layers whose plans are known, roughly."""
        total = 0
        for layer, plan in zip(layers, plans, strict=True):
            total += plan.cycles_estimate(self.config) + LAYER_CYCLES
            total += CODES_CYCLES if layer.table is not None else 0
            total += 2 * TABLE_CYCLES if layer.residual is not None else 0
        return total

    def sum_cycles(self, shape: Shape3) -> int:
        """Cycles that a stored constant of a shape costs as a residual operand: it is initialised
        with the memory, so that only the tables count."""
        return 2 * TABLE_CYCLES
