"""Two independent signed 8x8 multipliers in one SB_MAC16 of iCE40 UltraPlus, and a plain twin.

Yosys infers SB_MAC16 for multiplications but never its dual 8x8 mode, so the primitive is
instantiated: the upper halves of A and B meet in the top multiplier, the lower halves in the
bottom one, and each product passes the register behind its multiplier (Lattice TN1295, "iCE40 DSP
Function Usage Guide", figure 2: registers F and G).
"""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

UNUSED_INPUTS = (
    *("AHOLD", "BHOLD", "CHOLD", "DHOLD", "IRSTTOP", "IRSTBOT", "ORSTTOP", "ORSTBOT"),
    *("OLOADTOP", "OLOADBOT", "ADDSUBTOP", "ADDSUBBOT", "OHOLDTOP", "OHOLDBOT"),
    *("CI", "ACCUMCI", "SIGNEXTIN"),
)
"""Inputs of accumulator, holds and resets; tied low."""


class DualMultiplier(wiring.Component):
    """Two signed 8x8 multipliers in plain arithmetic, for any device.

    p0 = a0 * b0 and p1 = a1 * b1 of one cycle stand at the outputs `LATENCY` cycles later: one
    with output registers only, two with input registers as well. A new pair may come every cycle;
    there is no enable, no reset and no backpressure, and the first `LATENCY` products are
    undefined.

    Parameters
    ----------
    input_registers : bool
        Register the operands too.

    Attributes
    ----------
    LATENCY : int
        Cycles from operands to products.
    a0, b0, a1, b1 : signed(8), in
    p0, p1 : signed(16), out
    """

    a0: Signal
    b0: Signal
    a1: Signal
    b1: Signal
    p0: Signal
    p1: Signal

    def __init__(self, *, input_registers: bool = False) -> None:
        self.input_registers = input_registers
        self.LATENCY = 2 if input_registers else 1
        operands = {name: In(signed(8)) for name in ("a0", "b0", "a1", "b1")}
        super().__init__({**operands, "p0": Out(signed(16)), "p1": Out(signed(16))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for a, b, product in ((self.a0, self.b0, self.p0), (self.a1, self.b1, self.p1)):
            result = Signal(signed(16), reset_less=True)
            if self.input_registers:
                # Cycle 0: operands into registers.
                a_held = Signal(signed(8), reset_less=True)
                b_held = Signal(signed(8), reset_less=True)
                m.d.sync += [a_held.eq(a), b_held.eq(b), result.eq(a_held * b_held)]
            else:
                m.d.sync += result.eq(a * b)
            m.d.comb += product.eq(result)
        return m


class Ice40DualMultiplier(DualMultiplier):
    """`DualMultiplier` in one SB_MAC16: same ports, same latency, no logic cells."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        registers = Const(int(self.input_registers))
        product = Signal(32)
        m.submodules.mac = Instance(
            "SB_MAC16",
            # Two 8x8 multipliers; outputs come from the registers behind them (select 2).
            p_MODE_8x8=Const(1),
            p_A_SIGNED=Const(1),
            p_B_SIGNED=Const(1),
            p_TOP_8x8_MULT_REG=Const(1),
            p_BOT_8x8_MULT_REG=Const(1),
            p_TOPOUTPUT_SELECT=Const(2, 2),
            p_BOTOUTPUT_SELECT=Const(2, 2),
            p_A_REG=registers,
            p_B_REG=registers,
            # No reset input is used: the products' registers hold data only.
            i_CLK=ClockSignal(),
            i_CE=Const(1),
            i_A=Cat(self.a0, self.a1),
            i_B=Cat(self.b0, self.b1),
            i_C=Const(0, 16),
            i_D=Const(0, 16),
            **{f"i_{name}": Const(0) for name in UNUSED_INPUTS},
            o_O=product,
        )
        m.d.comb += Cat(self.p0, self.p1).eq(product)
        return m
