"""Two signed 8x8 multipliers in logic cells, for iCE40 chips without SB_MAC16."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed

from qcompile.hw.vendor.ice40_dsp import DualMultiplier


class LogicDualMultiplier(DualMultiplier):
    """`DualMultiplier` as rows of conditional additions: same ports, same latency.

    A row adds `a` to what is left of the rows before where its bit of `b` is set, and its lowest
    bit is a bit of the product. A logic cell has the adder, the choice and, in the product's bits,
    the register: about 75 of them for a product, where Yosys takes about 180 for `a * b`.
    """

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for index, (a, b, product) in enumerate(
            ((self.a0, self.b0, self.p0), (self.a1, self.b1, self.p1))
        ):
            if self.input_registers:
                # Cycle 0: operands into registers.
                a_held = Signal(signed(8), name=f"a{index}_held", reset_less=True)
                b_held = Signal(signed(8), name=f"b{index}_held", reset_less=True)
                m.d.sync += [a_held.eq(a), b_held.eq(b)]
                a, b = a_held, b_held
            result = Signal(signed(16), name=f"result{index}", reset_less=True)
            m.d.sync += result.eq(self._rows(m, index, a, b))
            m.d.comb += product.eq(result)
        return m

    def _rows(self, m: Module, index: int, a: Signal, b: Signal) -> Value:
        """a * b: bits 0..6 of the rows as they come, then the nine bits of the last row.

        Behind row i stands floor(a * (b mod 2**(i + 1)) / 2**(i + 1)), eight bits signed.
        """
        low: list[Value] = [a[0] & b[0]]
        held: Value = Mux(b[0], a, 0)[1:8].as_signed()
        for bit in range(1, 7):
            row = Signal(signed(9), name=f"row{index}_{bit}")
            m.d.comb += row.eq(Mux(b[bit], held + a, held))
            low.append(row[0])
            held = row[1:].as_signed()
        # Bit 7 of b counts -128. h - a is ~(~h + a): the carry chain has no inverters.
        inverted = Signal(signed(8), name=f"inverted{index}")
        last = Signal(signed(9), name=f"row{index}_7")
        m.d.comb += [inverted.eq(~held), last.eq(~Mux(b[7], inverted + a, inverted))]
        return Cat(*low, last)
