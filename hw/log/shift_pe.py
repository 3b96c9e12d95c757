"""The multiplier-free processing element: a weight is shifted by a code's octaves and added."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.log.config import LogArrayConfig


class ShiftPe(wiring.Component):
    """Sums of w << E, one for each residue class of the codes' exponents.

    The code's own bits are the shift: w << k is 2 * (w << (k - 1)), so with step 16 the lowest bit
    of the barrel shifter is left out and nothing is decoded. With step 8 the codes are pairs of
    half octaves, k = 2 * h + 1 for w << h in class 0 and k = 2 * h for w << (h - 1) in class 1.
    A logic cell has one bit of a multiplexer; the last stage's have the product's registers, and
    the adders' cells have the choice between sum and product.

    Cycle 0: `weight` and `code`. Cycle 1: `valid` and `first` of that product, which a first one's
    class takes instead of its sum, and the other class 0. `sums` holds them from cycle 2 on.

    Attributes
    ----------
    weight : signed(8), in
    code : code_bits, in
        0 adds nothing.
    valid, first : 1, in
        The product of the cycle before counts; it begins new sums.
    sums : acc_width x classes, out
        Class 0 lowest.
    """

    weight: Signal
    code: Signal
    valid: Signal
    first: Signal
    sums: Signal

    def __init__(self, config: LogArrayConfig) -> None:
        self.config = config
        super().__init__(
            {
                "weight": In(signed(8)),
                "code": In(config.code_bits),
                "valid": In(1),
                "first": In(1),
                "sums": Out(config.sum_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        classes = self.config.classes
        shifted = self._shift(m, self.code[classes - 1 :])
        live = self.code.any()
        # Cycle 0: the product's register.
        product = Signal(signed(self.config.product_bits), reset_less=True)
        if classes == 1:
            m.d.sync += product.eq((shifted[1:] & live.replicate(len(product))).as_signed())
            m.d.comb += self.sums.eq(self._sum(m, 0, product, self.valid, self.first))
            return m
        m.d.sync += product.eq(shifted)
        sums = []
        for index, value in enumerate((product, product[1:].as_signed())):
            mine = Signal(name=f"mine{index}", reset_less=True)
            m.d.sync += mine.eq(live & (self.code[0] ^ index))
            taken = self.valid & (mine | self.first)
            sums.append(self._sum(m, index, value, taken, self.first, clear=~mine))
        m.d.comb += self.sums.eq(Cat(*sums))
        return m

    def _shift(self, m: Module, amount: Value) -> Value:
        """weight << amount, a stage of multiplexers for each bit, the shortest first."""
        value: Value = self.weight
        for bit in range(len(amount)):
            moved = value << (1 << bit)
            stage = Signal(signed(len(moved)), name=f"shifted_{1 << bit}")
            m.d.comb += stage.eq(Mux(amount[bit], moved, value))
            value = stage
        return value

    def _sum(
        self,
        m: Module,
        index: int,
        value: Value,
        taken: Value,
        first: Value,
        clear: Value | None = None,
    ) -> Value:
        """Cycle 1: the sum becomes or gains `value` when `taken`, or becomes 0 if `clear` too."""
        width = self.config.acc_width
        held = Signal(signed(width), name=f"sum{index}", reset_less=True)
        total = Signal(signed(width), name=f"total{index}")
        m.d.comb += total.eq(held + value)
        with m.If(taken):
            m.d.sync += held.eq(Mux(first, value, total))
            if clear is not None:
                with m.If(clear):
                    m.d.sync += held.eq(0)
        return held
