"""Exact requantization with two wide multipliers: an accumulator becomes a code, one every cycle.

`RequantDsp` computes what `compiler.golden.numerics.requantize` defines, on signed numbers from
end to end: every rounding treats both signs alike, so nothing makes a magnitude.

* acc + bias is rounded to 24 significant bits where golden does so.
* The sum is shifted, not the product: sum << (47 - shift) fits 35 bits, signed, or the code
  saturates. For shifts of 48 and more the binary point moves instead, behind the product, by 3, 6
  or 9 places, and the sum is shifted by the 0, 1 or 2 that are too many.
* 35 bits times the mantissa are two signed multiplications of 25 x 18 bits, the size of a DSP48E1.
  The upper one adds what the lower one carries over, 17 places down: a cascade of the two.
* Of the second rounding only one question matters: does it land on a half? `_is_tie` answers it
  from 8 integer bits, 26 fraction bits and a sticky bit.
"""

from __future__ import annotations

from itertools import pairwise

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from qcompile.hw.delay import delay
from qcompile.hw.program import FRACTION_BITS
from qcompile.hw.requantizer import INTEGER_BITS, MANTISSA_BITS, RequantConfig, Requantizer

POINT = 47
"""Fraction bits of the product, for shifts up to here."""
POINT_STEP = 3
"""Places that the binary point moves at a time, for shifts of `POINT` + 1 and more."""
POINTS = 4
LARGEST_SHIFT = POINT + (POINTS - 1) * POINT_STEP
SPLIT = 17
"""Bits of the sum that the lower multiplier takes, and places between the two."""
SUM_BITS = SPLIT + 18
"""Bits of the shifted sum, signed: beyond them every mantissa saturates. Up to 33 bits are shifted
by 2 for a shift of 48, all others need fewer."""
ROUNDED_BITS = 31 - MANTISSA_BITS
"""Low bits that the first rounding may drop."""
KEPT_FRACTION_BITS = 26
"""Fraction bits that decide; those below count as one sticky bit. 24 significant bits of a value
in [1/4, 1/2) reach bit -25, and the bit below decides the rounding."""


class RequantDsp(Requantizer):
    """clamp(RNE(RNE24(RNE24(acc + bias) * mantissa) / 2**shift) + zero_point).

    Exact for every acc + bias of 32 bits, every mantissa and every shift from 0 to 56. With
    `fraction` it is (acc << FRACTION_BITS) + bias, and the innermost rounding is left out.

    Parameters
    ----------
    acc_width : int
        Bits of the signed accumulator, one of 20, 24, 28, 32.
    late : bool
        `mantissa` is not read with its value but `MANTISSA_DELAY` cycles later.
    """

    MANTISSA_DELAY = 5
    LATENCY = 13

    def __init__(self, acc_width: int, *, late: bool = False) -> None:
        self.late = late
        super().__init__(RequantConfig(acc_width=acc_width, max_shift=55))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self.follow_valid(m)
        # Cycles 0 to 2: bias, first rounding.
        rounded = self._round_sum(m)
        # Cycles 3 and 4: shift.
        left, further = self._split_shift(m)
        shifted, too_low, too_high = self._shift_left(m, rounded, left)
        # Cycles 5 to 7: multiply.
        mantissa = self.mantissa if self.late else delay(m, self.mantissa, 5, "mantissa")
        product, low_set = self._multiply(m, shifted, mantissa)
        # Cycle 8: binary point.
        live = mantissa[-1]  # a mantissa of 0 gives 0 whatever the sum
        too_low = delay(m, too_low & live, 3, "too_low")
        too_high = delay(m, too_high & live, 3, "too_high")
        window, sticky = self._place_point(product, delay(m, further, 5, "further"), low_set)
        fraction = delay(m, window[:KEPT_FRACTION_BITS], 1, "fraction")
        whole = window[KEPT_FRACTION_BITS:]
        outside = (
            whole[INTEGER_BITS:-1] ^ whole[-1].replicate(len(whole) - 1 - INTEGER_BITS)
        ).any()
        inside = ~too_low & ~too_high
        sign = delay(m, whole[-1], 1, "sign")
        too_low = delay(m, too_low | (inside & outside & whole[-1]), 1, "below")
        too_high = delay(m, too_high | (inside & outside & ~whole[-1]), 1, "above")
        integer = delay(m, whole[:INTEGER_BITS], 1, "integer")
        sticky = delay(m, sticky, 1, "sticky")
        # Cycles 9 and 10: second rounding.
        tie = self._is_tie(m, integer ^ sign.replicate(INTEGER_BITS), fraction, sticky, sign)
        integer = delay(m, Cat(integer, sign), 1, "integer_held")
        odd = integer[0] ^ (self.zero_point_inside & self.zero_point[0])
        upper_half = delay(m, fraction[-1], 1, "upper_half")
        round_up = delay(m, Mux(tie, odd, upper_half), 1, "round_up")
        # Cycles 11 and 12: zero point, clamp.
        self._clamp(
            m,
            delay(m, integer, 1, "rounded_down"),
            round_up,
            delay(m, too_low, 3, "too_low_held"),
            delay(m, too_high, 3, "too_high_held"),
        )
        return m

    def _round_sum(self, m: Module) -> Value:
        """acc + bias to 24 significant bits, ties to even: 33 bits, signed, three cycles later."""
        # Cycle 0: bias.
        total = Signal(signed(32), reset_less=True)
        # (Unsigned: Yosys then finds that a bit of it is one table.)
        scaled = Signal(32)
        m.d.comb += scaled.eq(Mux(self.fraction, self.acc << FRACTION_BITS, self.acc))
        m.d.sync += total.eq(self.bias.as_unsigned() + scaled)
        # Cycle 1: how many bits are too many; the lowest one that stays. -2**n looks a bit shorter
        # than 2**n here, which is no matter: the bits in question are zero.
        sign = total[-1]
        extra = total[MANTISSA_BITS:31] ^ sign.replicate(ROUNDED_BITS)
        drops = [extra[bit:].any() & ~self.fraction for bit in range(ROUNDED_BITS)]
        ends = [*drops[1:], Const(0)]
        lowest = Cat(total[bit + 1] & drops[bit] & ~ends[bit] for bit in range(ROUNDED_BITS)).any()
        carry = delay(m, lowest, 1, "carry")
        dropped = delay(m, Cat(*drops), 1, "dropped")
        held = delay(m, total, 1, "held")
        # Cycle 2: add half a step, less one if what stays is even.
        almost_half = dropped[1:]
        sum_ = Signal(signed(33), reset_less=True)
        left = Cat(carry, held).as_signed()
        right = Cat(carry, almost_half, Const(0, 1)).as_signed()
        m.d.sync += sum_.eq((left + right) >> 1)
        dropped = delay(m, dropped, 1, "dropped_held")
        return Cat(sum_[:ROUNDED_BITS] & ~dropped, sum_[ROUNDED_BITS:])

    def _split_shift(self, m: Module) -> tuple[Value, Value]:
        """What the sum is shifted by to the left, 0..32, and how often the point moves; in cycle 3.

        Shifts below 16 saturate whatever is not 0; they count as 32.
        """
        shift = delay(m, self.shift, 2, "shift")
        left, further = Signal(6), Signal(range(POINTS))
        with m.Switch(shift):
            for value in range(LARGEST_SHIFT + 1):
                moves = max(0, -(-(value - POINT) // POINT_STEP))
                steps = min(POINT + POINT_STEP * moves - value, 32)
                with m.Case(value):
                    m.d.comb += [left.eq(steps), further.eq(moves)]
        return delay(m, left, 1, "left"), delay(m, further, 1, "moves")

    def _shift_left(self, m: Module, rounded: Value, left: Value) -> tuple[Value, Value, Value]:
        """The sum shifted, and whether it is too low or too high for that; two cycles."""
        sign = rounded[-1]
        value: Value = Cat(rounded, sign.replicate(SUM_BITS - len(rounded)))
        lost = self._loses(value, left)
        # Cycle 3: by 0, 8, 16 or 24. Cycle 4: by 0 to 7.
        for levels in ((4, 3), (2, 1, 0)):
            for level in levels:
                step = 1 << level
                if level < 3:
                    top = value[-1 - step : -1]
                    lost = lost | (left[level] & (top ^ sign.replicate(step)).any())
                value = Mux(left[level], Cat(Const(0, step), value[:-step]), value)[:SUM_BITS]
            left = delay(m, left[:3], 1, f"left_{levels[0]}")
            value = delay(m, value, 1, f"shifted_{levels[0]}")
            sign = delay(m, sign, 1, f"sum_sign_{levels[0]}")
            lost = delay(m, lost, 1, f"lost_{levels[0]}")
        return value, lost & sign, lost & ~sign

    def _loses(self, value: Value, left: Value) -> Value:
        """Whether a shift by 8 * left[3:] loses a bit; by 32 or more, whether there is any."""
        bits = value ^ value[-1].replicate(len(value))
        ends = [len(value) - 1 - step for step in (0, 8, 16, 24)]
        top, middle, bottom = (bits[last:first].any() for first, last in pairwise(ends))
        any_left, far = left[3] | left[4], left[3] & left[4]
        others = bits[: ends[-1]].any() | value[-1]
        lost = (any_left & top) | (left[4] & middle) | (far & bottom)
        return lost | (left[5] & (top | middle | bottom | others))

    def _place_point(self, product: Value, further: Value, low_set: Value) -> tuple[Value, Value]:
        """The product from `KEPT_FRACTION_BITS` on, signed, and whether lower bits are set."""
        below = POINT - SPLIT - KEPT_FRACTION_BITS
        drop = [below + POINT_STEP * moves for moves in range(POINTS)]
        windows = [Cat(product[first:], product[-1].replicate(first - below)) for first in drop]
        pairs = [Mux(further[0], windows[i + 1], windows[i]) for i in (0, 2)]
        used = [Const(1), further != 0, further[1], further.all()]
        sticky = low_set
        for use, first, last in zip(used, (0, *drop), drop, strict=False):
            sticky = sticky | (use & product[first:last].any())
        return Mux(further[1], pairs[1], pairs[0]), sticky

    def _multiply(self, m: Module, value: Value, mantissa: Value) -> tuple[Value, Value]:
        """The product's bits from `SPLIT` on, and whether a lower one is set; three cycles."""
        factor = Cat(mantissa, Const(0, 1)).as_signed()
        lower = Cat(value[:SPLIT], Const(0, 1)).as_signed()
        upper = delay(m, value[SPLIT:], 1, "upper").as_signed()
        later_factor = Signal(signed(MANTISSA_BITS + 1), reset_less=True)
        # Cycle 5: the lower product. Cycle 6: the upper one. Cycle 7: their sum.
        low_product = Signal(signed(MANTISSA_BITS + SPLIT + 2), reset_less=True)
        low_held = Signal.like(low_product, reset_less=True)
        high_product = Signal(signed(MANTISSA_BITS + len(upper) + 1), reset_less=True)
        product = Signal(signed(SUM_BITS + MANTISSA_BITS - SPLIT), reset_less=True)
        m.d.sync += [
            later_factor.eq(factor),
            low_product.eq(lower * factor),
            low_held.eq(low_product),
            high_product.eq(upper * later_factor),
            product.eq(high_product + (low_held >> SPLIT)),
        ]
        return product, delay(m, low_held[:SPLIT].any(), 1, "low_set")

    def _is_tie(
        self, m: Module, magnitude: Value, fraction: Value, sticky: Value, sign: Value
    ) -> Value:
        """Whether 24 significant bits of a value are a whole number and a half, a cycle later.

        `fraction` counts up from the next lower whole number, whose absolute value, or one less
        for negative numbers, is `magnitude`. With k its bit length, a step of the rounding is
        2**(k - 24), and the value becomes a half if it is half a step or less away: rest, the
        distance from the half, has a boundary bit of weight half a step, and must have nothing
        there and above, or the boundary bit alone. Absolute values below 1/2 have half that step.
        """
        # Cycle 9: the boundary. reach[b]: it is bit b of rest or a lower one.
        upper = fraction[-1]
        short = [~magnitude[k:].any() for k in range(INTEGER_BITS)]
        reach = [short[0] & ~(upper ^ sign), *short]
        reaching = delay(m, Cat(*reach), 1, "reaching")
        inverted = fraction[:-1] ^ (~upper).replicate(len(fraction) - 1)
        rest = delay(m, inverted[: len(reach)], 1, "rest")
        boundary = delay(m, inverted[len(reach)], 1, "boundary")
        always = delay(m, inverted[len(reach) + 1 :].any(), 1, "far")
        upper, sticky = delay(m, upper, 1, "upper_bit"), delay(m, sticky, 1, "sticky_bit")
        # Cycle 10: what stands above, at and below it.
        above = (Cat(rest[1:], boundary) & reaching).any() | always
        from_boundary = (rest & reaching).any() | boundary
        below = (rest & ~reaching).any() | sticky
        alone = upper & ~below
        return ~above & (~from_boundary | alone)

    def _clamp(
        self, m: Module, integer: Value, round_up: Value, too_low: Value, too_high: Value
    ) -> None:
        """integer + round_up + zero_point, between low and high; two cycles.

        `too_low` and `too_high` come one cycle later than the number, which does not count then.
        """
        # The lowest position only makes the carry.
        total = Signal(signed(INTEGER_BITS + 2), reset_less=True)
        left, right = (Cat(round_up, value).as_signed() for value in (integer, self.zero_point))
        m.d.sync += total.eq((left + right) >> 1)
        below = too_low | ((total < self.low) & ~too_high)
        above = too_high | (total > self.high)
        code = Signal(signed(8), reset_less=True)
        m.d.sync += code.eq(Mux(below, self.low, Mux(above, self.high, total[:8])))
        m.d.comb += self.code.eq(code)
