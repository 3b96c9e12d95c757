"""The processor of a Zynq-7000 as the array uses it: a clock and one AXI3 master."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockSignal, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from qcompile.hw.axi.signatures import axi3

ID_BITS = 12
"""Of a transaction at M_AXI_GP0 (Xilinx UG585)."""
ADDRESS_BITS = 32


class ZynqPs7(wiring.Component):
    """A PS7 with M_AXI_GP0 and FCLK_CLK0; all else is as the boot loader leaves it.

    Attributes
    ----------
    clock : 1, out
        FCLK_CLK0, whose frequency the boot loader sets.
    axi : axi3(12, 32), out
        Addresses from 0x4000_0000 to 0x7FFF_FFFF, in the clock domain `sync`.
    """

    clock: Signal
    axi: Any

    def __init__(self) -> None:
        super().__init__({"clock": Out(1), "axi": Out(axi3(ID_BITS, ADDRESS_BITS))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        fabric_clocks = Signal(4)
        ports: list[Any] = [
            ("o", "FCLKCLK", fabric_clocks),
            ("i", "MAXIGP0ACLK", ClockSignal()),
        ]
        for name, member in self.axi.signature.members.items():
            direction = "o" if member.flow == Out else "i"
            ports.append((direction, f"MAXIGP0{name.upper()}", getattr(self.axi, name)))
        m.submodules.ps7 = Instance("PS7", *ports, ("a", "keep", 1))
        m.d.comb += self.clock.eq(fabric_clocks[0])
        return m
