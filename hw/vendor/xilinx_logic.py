"""Two int8 multiply-accumulators with a shared operand, in LUTs and carry chains of 7-series."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from qcompile.hw.vendor.xilinx_dsp import LANE_BITS, DualMac

ROW_BITS = 10
"""Of a row's sum, which lies within -340 .. 340."""


class LogicDualMac(DualMac):
    """`DualMac` without a DSP48E1: same ports, same latency.

    The shared operand is read as four digits -2 .. 2 of base 4 (Booth's recoding). A row adds
    digit * a to what is left of the rows before, and its lowest two bits are bits of the product.
    One LUT6 and its carry do a bit of a row: it takes three bits of b, two of a and one of the
    row before. A negative multiple is the inverted one with a carry into the row; the first row
    adds to nothing and has no carry chain: its carry goes into the accumulator.
    """

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid, load = self._delayed_tags(m)
        # Cycle 0: the bits of b's last two digits, and the first row's carry for cycle 2.
        last_digits = Signal(5, reset_less=True)
        carry = Signal(2, reset_less=True)
        m.d.sync += [last_digits.eq(self.b[3:]), carry.eq(Cat(self.b[1], carry))]
        sums = []
        for lane, a in enumerate((self.a0, self.a1)):
            product = self._product(m, lane, a, last_digits)
            total = Signal(signed(self.acc_width), name=f"sum{lane}", reset_less=True)
            # Cycle 2: accumulator.
            with m.If(valid):
                m.d.sync += total.eq(_sum(Mux(load, 0, total), product, carry[1]))
            sums.append(total)
        m.d.comb += [
            self.acc0.eq(sums[0]),
            self.acc1.eq(sums[1]),
            self.upper.eq(sums[1] + (sums[0] >> LANE_BITS)),
        ]
        return m

    def _product(self, m: Module, lane: int, a: Signal, last_digits: Signal) -> Signal:
        """a * b - b[1], in a register behind cycle 1."""
        # Cycle 0: two rows.
        row0 = _multiple(a, Cat(Const(0, 1), self.b[:2]))
        row1 = _row(row0 >> 2, a, self.b[1:4])
        held = Signal(signed(ROW_BITS), name=f"row{lane}", reset_less=True)
        low = Signal(2, name=f"low{lane}", reset_less=True)
        a_held = Signal(signed(8), name=f"a{lane}_held", reset_less=True)
        m.d.sync += [held.eq(row1), low.eq(row0[:2]), a_held.eq(a)]
        # Cycle 1: two more.
        row2 = Signal(signed(ROW_BITS), name=f"row{lane}_2")
        m.d.comb += row2.eq(_row(held >> 2, a_held, last_digits[:3]))
        row3 = _row(row2 >> 2, a_held, last_digits[2:])
        product = Signal(signed(16), name=f"product{lane}", reset_less=True)
        m.d.sync += product.eq(Cat(low, held[:2], row2[:2], row3))
        return product


def _multiple(a: Value, digit: Value) -> Value:
    """digit * a, inverted where negative, 9 bits; of Booth's digit's three bits, lowest first."""
    one = digit[0] ^ digit[1]
    two = (digit == 0b011) | (digit == 0b100)
    magnitude = Mux(two, a << 1, Mux(one, a, 0))
    return (magnitude[:9] ^ digit[2].replicate(9)).as_signed()


def _row(before: Value, a: Value, digit: Value) -> Value:
    """before + digit * a, `ROW_BITS` bits."""
    return _sum(before, _multiple(a, digit), digit[2])[:ROW_BITS].as_signed()


def _sum(a: Value, b: Value, carry: Value) -> Value:
    """a + b + carry as one carry chain: the carry comes of a position below."""
    return (Cat(carry, a).as_signed() + Cat(carry, b).as_signed())[1:].as_signed()
