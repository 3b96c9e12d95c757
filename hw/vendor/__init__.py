"""What the generic description cannot say: device primitives behind one function each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcompile.hw.vendor.ice40_dsp import DualMultiplier, Ice40DualMultiplier
from qcompile.hw.vendor.ice40_logic import LogicDualMultiplier
from qcompile.hw.vendor.ice40_spram import Ice40SinglePortMemory, SinglePortMemory
from qcompile.hw.vendor.xilinx_dsp import DualMac, XilinxDualMac
from qcompile.hw.vendor.xilinx_logic import LogicDualMac

if TYPE_CHECKING:
    from qcompile.hw.config import AcceleratorConfig
    from qcompile.hw.lines.config import DspStyle


def multiplier(config: AcceleratorConfig) -> DualMultiplier:
    """Two signed 8x8 multipliers with registered products."""
    if config.vendor == "ice40":
        return Ice40DualMultiplier()
    return LogicDualMultiplier() if config.vendor == "ice40hx" else DualMultiplier()


def dual_mac(style: DspStyle, acc_width: int) -> DualMac:
    """Two multiply-accumulators with a shared operand, for 7-series."""
    if style == "instance":
        return XilinxDualMac(acc_width)
    return LogicDualMac(acc_width) if style == "none" else DualMac(acc_width)


def bank_memory(config: AcceleratorConfig) -> SinglePortMemory:
    """One memory bank, of words of 16 or 32 bits."""
    kind = Ice40SinglePortMemory if config.vendor == "ice40" else SinglePortMemory
    return kind(config.bank_words, config.word_bits)
