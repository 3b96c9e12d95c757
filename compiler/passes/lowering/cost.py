"""What layers cost, for the choice between forms of one operation."""

from __future__ import annotations

from collections.abc import Sequence

from qcompile.compiler.errors import CapacityError
from qcompile.compiler.layers import Layer
from qcompile.compiler.passes.tile import plan_layer
from qcompile.hw.config import AcceleratorConfig

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


def estimate(layers: Sequence[Layer]) -> int | None:
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
    return total


def cheapest(forms: Sequence[tuple[Layer, ...]]) -> tuple[Layer, ...]:
    """The form with the smallest estimate; the first one where none fits."""
    costs = [estimate(form) for form in forms]
    known = [cost for cost in costs if cost is not None]
    return forms[costs.index(min(known))] if known else forms[0]
