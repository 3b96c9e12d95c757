"""What layers cost on the small array of iCE40, for the choice between forms of one operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcompile.compiler.errors import CapacityError
from qcompile.compiler.layers import Layer, Shape3
from qcompile.compiler.passes.tile import plan_layer
from qcompile.hw.config import MAX_BANK_WORDS, AcceleratorConfig
from qcompile.hw.layouts import WORD_CHANNELS, tensor_words
from qcompile.hw.program import COUNT_BITS

WEIGHT_CYCLES = 8
"""Of one weight word in the program stream."""
LAYER_CYCLES = 200
"""Descriptor, and the wait for the layer before."""
TABLE_CYCLES = 2048
"""One table of the residual adder in the program stream."""
CODES_CYCLES = 516
"""A table of codes in the program stream."""
STORE_CYCLES = 8
"""A stored word in the program stream."""
ROW_CYCLES = 24
"""Of a written word with a residual operand; the cycle model has them exactly."""


@dataclass(frozen=True, slots=True)
class SmallMachine:
    """The array of 4 x 4 with its program in flash: a `Machine`."""

    word_channels: int = WORD_CHANNELS
    word_bytes: int = WORD_CHANNELS
    makes_weights: bool = True
    adds_in_place: bool = False
    shifts: bool = True

    def most_channels(self, layer: Layer) -> int:
        """Output channels that one layer can have at once."""
        return WORD_CHANNELS << COUNT_BITS[6]

    def words(self, shape: Shape3) -> int:
        """Memory words of a tensor."""
        return tensor_words(*shape)

    def holds(self, shape: Shape3) -> bool:
        """Whether a bank's addresses reach the whole tensor."""
        return tensor_words(*shape) <= MAX_BANK_WORDS

    def estimate(self, layers: Sequence[Layer]) -> int | None:
        """Cycles of all layers, roughly; None where one fits no loop nest."""
        config = AcceleratorConfig()
        total = 0
        for layer in layers:
            try:
                plan = plan_layer(layer, config)
            except CapacityError:
                return None
            words = plan.weights.shape[1] * (1 if plan.shared_weights else plan.groups)
            total += max(plan.cycles_estimate, words * WEIGHT_CYCLES) + LAYER_CYCLES
            total += CODES_CYCLES if layer.table is not None else 0
            if layer.residual is not None:
                total += TABLE_CYCLES + plan.rows_written * plan.groups * ROW_CYCLES
            total += sum(tensor_words(*s.codes.shape) for s in layer.stored) * STORE_CYCLES
        return total

    def sum_cycles(self, shape: Shape3) -> int:
        """Cycles that a stored constant of a shape costs as a residual operand."""
        return tensor_words(*shape) * (STORE_CYCLES + ROW_CYCLES)


SMALL_MACHINE = SmallMachine()


def small_machine(config: AcceleratorConfig) -> SmallMachine:
    """The machine of a configuration."""
    return SmallMachine(word_bytes=config.word_bits // 8)
