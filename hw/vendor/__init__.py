"""What the generic description cannot say: device primitives behind one function each."""

from qcompile.hw.vendor.ice40_dsp import DualMultiplier, Ice40DualMultiplier
from qcompile.hw.vendor.ice40_spram import Ice40SinglePortMemory, SinglePortMemory


def multiplier(vendor: str) -> DualMultiplier:
    """Two signed 8x8 multipliers with registered products, for "ice40" or "plain"."""
    return Ice40DualMultiplier() if vendor == "ice40" else DualMultiplier()


def bank_memory(vendor: str) -> SinglePortMemory:
    """One 32-bit memory bank, for "ice40" or "plain"."""
    return Ice40SinglePortMemory() if vendor == "ice40" else SinglePortMemory()
