"""The clock of a 7-series board's array: a PLL, and reset until it is stable."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Elaboratable, Instance, Module, Signal

from qcompile.hw.pll import reset_until_locked

VCO_HZ = (800_000_000, 1_600_000_000)
"""Range of the PLL's VCO, slowest speed grade (Xilinx DS181 and DS187, PLL switching
characteristics)."""
DETECTOR_HZ = 19_000_000
"""Least frequency at the phase detector, from the same tables."""
MULTIPLIERS = range(2, 65)
DIVIDERS = range(1, 129)
RESET_CYCLES = 16
"""Cycles of reset after the lock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PllSettings:
    """Output = input * multiply / (divide * output_divide)."""

    divide: int
    multiply: int
    output_divide: int


def find_pll_settings(input_hz: int, output_hz: int) -> PllSettings:
    """Settings that make `output_hz` exactly, the fastest VCO first; ValueError where none do."""
    low, high = VCO_HZ
    for divide in range(1, input_hz // DETECTOR_HZ + 1):
        for multiply in reversed(MULTIPLIERS):
            vco, rest = divmod(input_hz * multiply, divide)
            output_divide, uneven = divmod(vco, output_hz)
            if rest or uneven or not low <= vco <= high or output_divide not in DIVIDERS:
                continue
            return PllSettings(divide=divide, multiply=multiply, output_divide=output_divide)
    raise ValueError(f"the PLL cannot make {output_hz} Hz from {input_hz} Hz exactly")


class LinesClock(Elaboratable):
    """The array's clock and reset: PLLE2_BASE and BUFG, then 16 cycles of reset after the lock.

    Parameters
    ----------
    source : Signal
        The clock that feeds the PLL: behind a clock pin's buffer, or a processor's.
    input_hz, output_hz : int

    Attributes
    ----------
    clock, reset : 1, out
    """

    def __init__(self, source: Signal, *, input_hz: int, output_hz: int) -> None:
        self.source = source
        self.input_hz = input_hz
        self.settings = find_pll_settings(input_hz, output_hz)
        self.clock = Signal()
        self.reset = Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        locked = Signal()
        feedback = Signal()
        made = Signal()
        m.submodules.pll = Instance(
            "PLLE2_BASE",
            ("p", "CLKIN1_PERIOD", 1e9 / self.input_hz),
            ("p", "DIVCLK_DIVIDE", self.settings.divide),
            ("p", "CLKFBOUT_MULT", self.settings.multiply),
            ("p", "CLKOUT0_DIVIDE", self.settings.output_divide),
            ("i", "CLKIN1", self.source),
            ("i", "CLKFBIN", feedback),
            ("o", "CLKFBOUT", feedback),
            ("i", "RST", 0),
            ("i", "PWRDWN", 0),
            ("o", "CLKOUT0", made),
            ("o", "LOCKED", locked),
        )
        m.submodules.buffer = Instance("BUFG", ("i", "I", made), ("o", "O", self.clock))
        cycles = RESET_CYCLES - 1
        reset_until_locked(m, locked, clock=self.clock, reset=self.reset, cycles=cycles)
        return m
