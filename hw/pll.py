"""The core clock of iCE40 boards: a PLL, and reset until it is stable, as every PLL needs it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Instance, Module, Signal
from amaranth.lib import io

VCO_HZ = (533_000_000, 1_066_000_000)
"""Range of the VCO (iCE40 sysCLOCK PLL guide FPGA-TN-02052, table 3)."""
RESET_SECONDS = 15e-6
"""Block RAM reads zeros for about 3 us after configuration; with a margin of 5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PllSettings:
    """Output = input * (divf + 1) / 2**divq, with the reference divider at 1."""

    divf: int
    divq: int

    def output_hz(self, input_hz: int) -> int:
        """Frequency of the output, exact only where it is whole."""
        return input_hz * (self.divf + 1) >> self.divq


def find_pll_settings(input_hz: int, output_hz: int) -> PllSettings:
    """Settings that make `output_hz` exactly; ValueError where there are none."""
    low, high = VCO_HZ
    for divq in range(1, 7):
        vco = output_hz << divq
        if low <= vco <= high and vco % input_hz == 0 and vco // input_hz <= 128:
            return PllSettings(divf=vco // input_hz - 1, divq=divq)
    raise ValueError(f"the PLL cannot make {output_hz} Hz from {input_hz} Hz exactly")


class Ice40Clock(Elaboratable):
    """Makes the core's clock and reset from a pin: PLL, then a reset of 15 us after its lock.

    Parameters
    ----------
    pin : io.PortLike
        The clock pin.
    at_pll : bool
        The pin is the PLL's pad (SB_PLL40_PAD); otherwise the clock reaches the PLL from any input
        (SB_PLL40_CORE).
    input_hz, output_hz : int

    Attributes
    ----------
    clock, reset : 1, out
    """

    def __init__(self, pin: Any, *, at_pll: bool, input_hz: int, output_hz: int) -> None:
        self.pin = pin
        self.at_pll = at_pll
        self.output_hz = output_hz
        self.settings = find_pll_settings(input_hz, output_hz)
        self.clock = Signal()
        self.reset = Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        locked = Signal()
        m.submodules.pll = Instance(
            "SB_PLL40_PAD" if self.at_pll else "SB_PLL40_CORE",
            ("p", "FEEDBACK_PATH", "SIMPLE"),
            ("p", "DIVR", 0),
            ("p", "DIVF", self.settings.divf),
            ("p", "DIVQ", self.settings.divq),
            ("p", "FILTER_RANGE", 1),  # for a reference of 10 to 17 MHz
            self._source(m),
            ("i", "RESETB", 1),
            ("i", "BYPASS", 0),
            ("o", "PLLOUTGLOBAL", self.clock),
            ("o", "LOCK", locked),
        )
        cycles = int(RESET_SECONDS * self.output_hz)
        reset_until_locked(m, locked, clock=self.clock, reset=self.reset, cycles=cycles)
        return m

    def _source(self, m: Module) -> tuple[str, str, Any]:
        """The PLL's port for the pin."""
        if self.at_pll:
            return ("io", "PACKAGEPIN", self.pin.io)
        m.submodules.clock_input = buffer = io.Buffer(io.Direction.Input, self.pin)
        return ("i", "REFERENCECLK", buffer.i)


def reset_until_locked(
    m: Module, locked: Signal, *, clock: Signal, reset: Signal, cycles: int
) -> None:
    """Drive `reset` until so many cycles of `clock` have passed since `locked`, or up to twice as
    many: to the end of a counter that holds them."""
    done = Signal()
    m.domains.power_on = ClockDomain(reset_less=True, local=True)
    m.d.comb += [ClockSignal("power_on").eq(clock), reset.eq(~done)]
    timer = Signal(range(cycles + 1))
    lock_sync = Signal(2)
    m.d.power_on += lock_sync.eq(lock_sync << 1 | locked)
    with m.If(~lock_sync[1]):
        m.d.power_on += [timer.eq(0), done.eq(0)]
    with m.Elif(timer.all()):
        m.d.power_on += done.eq(1)
    with m.Else():
        m.d.power_on += timer.eq(timer + 1)
