"""What the generic description cannot say: device primitives behind one function each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcompile.hw.vendor.ice40_dsp import DualMultiplier, Ice40DualMultiplier
from qcompile.hw.vendor.ice40_logic import LogicDualMultiplier
from qcompile.hw.vendor.ice40_spram import Ice40SinglePortMemory, SinglePortMemory

if TYPE_CHECKING:
    from qcompile.hw.config import AcceleratorConfig


def multiplier(config: AcceleratorConfig) -> DualMultiplier:
    """Two signed 8x8 multipliers with registered products."""
    if config.vendor == "ice40":
        return Ice40DualMultiplier()
    return LogicDualMultiplier() if config.vendor == "ice40hx" else DualMultiplier()


def bank_memory(config: AcceleratorConfig) -> SinglePortMemory:
    """One 32-bit memory bank."""
    if config.vendor == "ice40":
        return Ice40SinglePortMemory(config.bank_words)
    return SinglePortMemory(config.bank_words)
