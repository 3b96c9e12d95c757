"""Two int8 multiply-accumulators in one DSP48E1 of Xilinx 7-series, inferred or instantiated.

One multiplication gives both products: (a1 * 2**16 + a0) * b = a1 * b * 2**16 + a0 * b. The sum P
of many of them holds the sum of a0 * b in its low 16 bits, modulo 2**16, and the sum of a1 * b
above, plus what the lower sum has spilled: its quotient H = floor(sum0 / 2**16). H is kept in
logic, and is enough for both exact sums. It is known from P:

* P's bit 16 is the parity of sum1 + H, and the parity of sum1 is one exclusive or of the lowest
  bits of a1 and b a product; so the parity of H is known in every cycle.
* A product is within -2**15 .. 2**15, so H changes by -1, 0 or 1 a product, by 0 where its parity
  stays. After a change by 1 the low 16 bits are what is left of a product: P's bit 15 is clear.
  After one by -1 it is set.
"""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

LANE_BITS = 16
"""Distance of the two sums in P: the bits of a product."""
P_BITS = 48
"""Of a DSP48E1's P port (Xilinx UG479, "7 Series DSP48E1 Slice")."""


def sum_of_upper(upper: Value, acc0: Value) -> Value:
    """acc1 of a `DualMac` from its outputs `upper` and `acc0`, or from copies of both."""
    return (upper - (acc0.as_signed() >> LANE_BITS))[: len(upper)].as_signed()


class DualMac(wiring.Component):
    """Two multiply-accumulators with a shared operand, in arithmetic that maps to one DSP48E1.

    acc0 gains a0 * b and acc1 gains a1 * b in a cycle with `valid`; with `first` too they become
    the products, so sums follow each other without a bubble. Both are exact however many products
    there are, as long as the sum at acc0 has fitted acc_width bits behind each of them (acc1 is
    exact modulo 2**acc_width). Operands and tags of one cycle are in the outputs `LATENCY` cycles
    later, and the outputs stay until the next product. There is no backpressure; before the first
    `first` the outputs are undefined. Reset drops the products that are under way.

    The shared operand may be a weight (a0, a1 of two pixels) or an activation (weights of two
    channels): all three take all of -128 .. 127.

    Parameters
    ----------
    acc_width : int
        Bits of a sum, one of 20, 24, 28, 32.

    Attributes
    ----------
    LATENCY : int
        Cycles from operands to sums: 3.
    a0, a1, b : signed(8), in
    valid, first : 1, in
    acc0, acc1 : signed(acc_width), out
    upper : signed(acc_width), out
        acc1 + floor(acc0 / 2**16). For who reads the sums later, one at a time, and would rather
        have one subtractor there (`sum_of_upper`) than acc1's here, which goes where acc1 is not
        connected.
    """

    LATENCY = 3

    a0: Signal
    a1: Signal
    b: Signal
    valid: Signal
    first: Signal
    acc0: Signal
    acc1: Signal
    upper: Signal

    def __init__(self, acc_width: int) -> None:
        self.acc_width = acc_width
        operands = {name: In(signed(8)) for name in ("a0", "a1", "b")}
        sums = {name: Out(signed(acc_width)) for name in ("acc0", "acc1", "upper")}
        super().__init__({**operands, "valid": In(1), "first": In(1), **sums})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid, load = self._delayed_tags(m)
        packed = self._accumulate(m, valid, load)
        quotient = self._track_quotient(m, packed, valid, load)
        m.d.comb += [
            self.acc0.eq(Cat(packed[:LANE_BITS], quotient)),
            self.upper.eq(packed[LANE_BITS:]),
            self.acc1.eq(sum_of_upper(self.upper, self.acc0)),
        ]
        return m

    def _delayed_tags(self, m: Module) -> tuple[Value, Value]:
        """`valid`, and `valid` with `first`, of the products that join the sums in this cycle."""
        valid, load = Signal(2), Signal(2)
        m.d.sync += [
            valid.eq(Cat(self.valid, valid)),
            load.eq(Cat(self.valid & self.first, load)),
        ]
        return valid[1], load[1]

    def _accumulate(self, m: Module, valid: Value, load: Value) -> Value:
        """P's bits as far as the sums need them, in registers that a DSP48E1 has inside."""
        product = self._multiply(m)
        # Cycle 2: accumulator.
        packed = Signal(signed(self.acc_width + LANE_BITS), reset_less=True)
        with m.If(valid):
            m.d.sync += packed.eq(Mux(load, 0, packed) + product)
        return packed

    def _multiply(self, m: Module) -> Signal:
        """a1 * b * 2**16 + a0 * b, behind cycle 1."""
        # Cycle 0: pre-adder D + A, and B.
        pair = Signal(signed(25), reset_less=True)
        shared = Signal(signed(8), reset_less=True)
        m.d.sync += [pair.eq((self.a1 << LANE_BITS) + self.a0), shared.eq(self.b)]
        # Cycle 1: multiplier.
        product = Signal(signed(33), reset_less=True, attrs={"use_dsp": "yes"})
        m.d.sync += product.eq(pair * shared)
        return product

    def _upper_parity(self, m: Module) -> Value:
        """The lowest bit of a1 * b, behind cycle 1."""
        parity = Signal(2, reset_less=True)
        m.d.sync += parity.eq(Cat(self.a1[0] & self.b[0], parity))
        return parity[1]

    def _track_quotient(self, m: Module, packed: Value, valid: Value, load: Value) -> Value:
        """floor(sum0 / 2**16) of the sum that stands in `packed`."""
        product_parity = self._upper_parity(m)
        # Cycle 2: parity of sum1.
        parity = Signal(reset_less=True)
        with m.If(valid):
            m.d.sync += parity.eq(Mux(load, 0, parity) ^ product_parity)
        # Cycle 3: the quotient before this product, 0 before a sum's first, and behind it.
        before = Signal(self.acc_width - LANE_BITS, reset_less=True)
        after = Signal.like(before)
        odd, negative = packed[LANE_BITS] ^ parity, packed[LANE_BITS - 1]
        carry = before[0] & ~odd & ~negative
        borrow = ~before[0] & odd & negative
        change = Cat(carry | borrow, borrow.replicate(len(before) - 2))
        m.d.comb += after.eq(Cat(odd, (before[1:] + change)[: len(change)]))
        m.d.sync += before.eq(Mux(load, 0, after))
        return after


class XilinxDualMac(DualMac):
    """`DualMac` with its DSP48E1 instantiated: same ports, same latency, same logic beside it."""

    def _accumulate(self, m: Module, valid: Value, load: Value) -> Value:
        packed = Signal(P_BITS)
        m.submodules.dsp = Instance(
            "DSP48E1",
            # AD <= D + A2 and B2 <= B; M <= AD * B2; P <= M + (C or P), in UG479's names.
            p_USE_DPORT="TRUE",
            p_USE_MULT="MULTIPLY",
            p_USE_SIMD="ONE48",
            p_USE_PATTERN_DETECT="NO_PATDET",
            **{f"p_{name}": Const(1, 32) for name in ("ADREG", "BREG", "BCASCREG", "MREG", "PREG")},
            **{f"p_{name}": Const(0, 32) for name in UNUSED_REGISTERS},
            i_CLK=ClockSignal(),
            i_A=_extended(self.a0, 30),
            i_D=_extended(Cat(Const(0, LANE_BITS), self.a1).as_signed(), 25),
            i_B=_extended(self.b, 18),
            i_C=Const(0, 48),
            i_CARRYIN=Const(0),
            i_CARRYINSEL=Const(0, 3),
            i_INMODE=Const(0b00100, 5),  # D + A2, B2
            i_ALUMODE=Const(0b0000, 4),  # Z + X + Y + CARRYIN
            i_OPMODE=Cat(Const(0b0101, 4), load, Const(0b01, 2)),  # X, Y: M; Z: C if load else P
            **{f"i_{name}": Const(1) for name in ("CEAD", "CEB2", "CEM")},
            i_CEP=valid,
            **{f"i_{name}": Const(0) for name in UNUSED_CONTROLS},
            o_P=packed,
        )
        return packed[: self.acc_width + LANE_BITS]


UNUSED_REGISTERS = (
    *("AREG", "ACASCREG", "CREG", "DREG"),
    *("INMODEREG", "OPMODEREG", "ALUMODEREG", "CARRYINREG", "CARRYINSELREG"),
)
UNUSED_CONTROLS = (
    *("CEA1", "CEA2", "CEB1", "CEC", "CED", "CEINMODE", "CECTRL", "CEALUMODE", "CECARRYIN"),
    *("RSTA", "RSTB", "RSTC", "RSTD", "RSTM", "RSTP"),
    *("RSTINMODE", "RSTCTRL", "RSTALUMODE", "RSTALLCARRYIN"),
)
"""Clock enables of registers that are not there, and resets: the data needs none."""


def _extended(value: Value, width: int) -> Value:
    """A signed value with its sign up to `width` bits."""
    return Cat(value, value[-1].replicate(width - len(value)))
