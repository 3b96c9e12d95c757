"""Requantization: a signed accumulator becomes an int8 code, one every cycle.

`RequantExact` computes what `compiler.golden.numerics.requantize` defines, without a multiplier
and without a wide shifter. With a = acc + bias, the code is a * mantissa / 2**shift, first rounded
to 24 significant bits, then to a whole number (ties to even), plus the zero point, clamped.

* The accumulator is shifted, not the product: a << (max_shift - shift) fits
  `integer bits + max_shift - 23` bits or the code saturates. So the product's binary point never
  moves, and its low bits are needed as one sticky bit only.
* A negative a is shifted as ~a with ones filled in, which is (|a| << n) - 1. The missing one is
  added in row 0 of the multiplication, where it costs nothing: that row selects 0, 1 or 2 times
  the mantissa. No adder makes the magnitude.
* The multiplication is a chain of conditional additions (`Mux(bit, high + mantissa, high)` is one
  logic cell a bit), low bits first, `rows_per_stage` of them between two registers.
* Rounding twice differs from rounding once only where the first rounding lands on a half exactly.
  `_is_tie` finds these cases from the product's bits instead of rounding it.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.delay import delay
from qcompile.hw.program import FRACTION_BITS
from qcompile.hw.requantizer import INTEGER_BITS, MANTISSA_BITS, RequantConfig, Requantizer

KEPT_FRACTION_BITS = 26
"""Fraction bits that decide; those below count as one sticky bit. 24 significant bits of a value
in [1/4, 1/2) reach bit -25, and the bit below decides the first rounding."""


class RequantExact(Requantizer):
    """clamp(RNE(RNE24(|acc + bias| * mantissa) / 2**shift) with its sign + zero_point).

    Exact for every accumulator and every shift from max_shift - 31 to max_shift, as long as
    |acc + bias| is at most 2**24 or max_shift at most 39 (larger magnitudes saturate then), and for
    every (acc << FRACTION_BITS) + bias with `fraction`, where golden does not round it either.

    Logic cells and clock on iCE40UP5K: docs/budget.md, or
    `python -m sim_tests.hw.measure requant`.
    """

    def __init__(self, config: RequantConfig) -> None:
        super().__init__(config)
        self.LATENCY = exact_latency(config)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self.follow_valid(m)
        # Cycle 0: bias.
        total = Signal(signed(32), reset_less=True)
        m.d.sync += total.eq(Mux(self.fraction, self.acc << FRACTION_BITS, self.acc) + self.bias)
        left_shift = delay(m, self._left_shift(), 1, "left_shift")
        mantissa = delay(m, self.mantissa, 1, "mantissa_early")
        # Cycle 1: align, row 0 of the multiplication.
        sign = total[-1]
        magnitude, lost = self._align(m, total, left_shift)
        once, twice = magnitude[0] ^ sign, magnitude[0] & sign
        partial = Cat(
            (below & twice) | (bit & once)
            for below, bit in zip(
                Cat(Const(0, 1), mantissa), Cat(mantissa, Const(0, 1)), strict=True
            )
        )
        live = mantissa[-1]  # a mantissa of 0 gives 0 whatever the accumulator
        overflow = delay(m, lost & live, 1 + self.config.row_stages, "overflow")
        sign = delay(m, sign, 1 + self.config.row_stages, "sign")
        # Cycles 2 and on: the other rows.
        product, sticky = self._multiply(
            m,
            delay(m, partial, 1, "partial"),
            delay(m, magnitude[1:], 1, "magnitude"),
            delay(m, mantissa, 1, "mantissa"),
        )
        # Last three cycles: round, add the zero point, clamp.
        integer = product[self.config.fraction_bits :]
        saturated = overflow | integer[INTEGER_BITS]
        fraction = product[: self.config.fraction_bits][-KEPT_FRACTION_BITS:]
        tie = self._is_tie(integer[:INTEGER_BITS], fraction, sticky)
        odd = integer[0] ^ (self.zero_point_inside & self.zero_point[0])
        round_up = Mux(tie, odd, fraction[-1])
        self.round_and_clamp(m, integer[:INTEGER_BITS], sign, saturated, round_up)
        return m

    def _left_shift(self) -> Value:
        """(max_shift - shift) modulo 32, which is wiring and one gate: see `RequantConfig`."""
        high = self.config.max_shift >> 3
        borrow = [(high - bit) >> 1 & 1 for bit in range(2)]
        return Cat(
            ~self.shift[:3],
            self.shift[3] ^ (high & 1),
            self.shift[4] ^ Mux(self.shift[3], borrow[1], borrow[0]),
        )

    def _align(self, m: Module, total: Signal, left_shift: Value) -> tuple[Value, Value]:
        """|total| << left_shift, less one if negative, and whether bits were lost."""
        width = self.config.magnitude_bits
        sign = total[-1]
        lost = (total[min(width, 31) : 31] ^ sign.replicate(31 - min(width, 31))).any()
        bits: Value = Cat(total[: min(width, 31)], sign.replicate(width - min(width, 31)))
        bits = bits ^ sign.replicate(width)
        for level in reversed(range(5)):
            step = 1 << level
            moved = Cat(sign.replicate(step), bits[:-step])
            lost = lost | (left_shift[level] & bits[-step:].any())
            aligned = Signal(width, name=f"aligned_{step}")
            m.d.comb += aligned.eq(Mux(left_shift[level], moved, bits))
            bits = aligned
        return bits, lost

    def _multiply(
        self, m: Module, partial: Value, magnitude: Value, mantissa: Value
    ) -> tuple[Value, Value]:
        """Rows 1 and on: the product without its lowest bits, and whether one of those is set.

        The bits left out are replaced by zeros, so that the product keeps its binary point.
        """
        dropped = self.config.fraction_bits - KEPT_FRACTION_BITS
        low: list[Value] = []
        sticky: Value = Const(0)
        for stage in range(self.config.row_stages):
            rows = min(self.config.rows_per_stage, len(magnitude))
            for bit in range(rows):
                low.append(partial[0])
                partial = self._row(m, partial[1:], mantissa, magnitude[bit])
            sticky = sticky | Cat(*low[:dropped]).any()
            low[:dropped] = [Const(0)] * len(low[:dropped])
            # End of a stage's cycle: everything into registers.
            name = f"stage_{stage}"
            partial = delay(m, partial, 1, f"{name}_partial")
            sticky = delay(m, sticky, 1, f"{name}_sticky")
            if kept := low[dropped:]:
                low[dropped:] = list(delay(m, Cat(*kept), 1, f"{name}_low"))
            magnitude = delay(m, magnitude[rows:], 1, f"{name}_magnitude")
            mantissa = delay(m, mantissa, 1, f"{name}_mantissa")
        return Cat(*low, partial), sticky

    def _row(self, m: Module, high: Value, mantissa: Value, bit: Value) -> Value:
        """high + mantissa if the bit is set, a bit longer; a logic cell for each of its bits.

        The carry is gated by hand: a multiplexer there would become a register's reset, which
        takes a cell more and restricts placement.
        """
        total = Signal(MANTISSA_BITS + 1)
        m.d.comb += total.eq(high + mantissa)
        return Cat(Mux(bit, total[:MANTISSA_BITS], high), total[MANTISSA_BITS] & bit)

    def _is_tie(self, integer: Value, fraction: Value, sticky: Value) -> Value:
        """Whether 24 significant bits of integer.fraction are a whole number and a half.

        With k the integer's bit length, rounding to 24 bits drops the fraction's bits below
        2 + k. The result is a half if the top bit is 1 and the rest at most half a step, or the
        top bit is 0 and the rest within half a step of overflowing: in both cases the bits from
        1 + k on differ from the top bit. The one more case is a rest of exactly half a step,
        which rounds down to even.
        """
        top = fraction[-1]
        rest = fraction[:-1] ^ (~top).replicate(len(fraction) - 1)
        # shorter[k]: the integer has at most k bits.
        shorter = [~integer[k:].any() for k in range(INTEGER_BITS)] + [Const(1)]
        boundary = range(1, 2 + INTEGER_BITS)
        always = rest[2 + INTEGER_BITS :].any()
        # A value below 1/2 has one significant bit more.
        always |= rest[0] & ~top & shorter[0]
        above = Cat(rest[bit] & shorter[bit - 2] for bit in boundary[1:]).any() | always
        from_boundary = Cat(rest[bit] & shorter[bit - 1] for bit in boundary).any()
        below = Cat(rest[bit] & ~shorter[bit - 1] for bit in boundary[:-1]).any()
        exactly_half = top & ~(below | rest[0] | sticky)
        return ~above & (~from_boundary | exactly_half)


class RequantShift(Requantizer):
    """clamp(RNE((acc + bias) / 2**shift) + zero_point), for shifts from 0 to 31.

    For models whose scales are powers of two. The mantissa is not read.
    """

    LATENCY = 2 + Requantizer.ROUND_LATENCY

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self.follow_valid(m)
        # Cycle 0: bias.
        total = Signal(signed(32), reset_less=True)
        m.d.sync += total.eq(self.acc + self.bias)
        shift = delay(m, self.shift, 1, "shift_early")
        # Cycle 1: right shift. floor = integer, what was lost is a half and a sticky bit.
        shifted, sticky = self._shift_right(m, total, shift)
        integer = delay(m, shifted[1:], 1, "integer")
        half = delay(m, shifted[0], 1, "half")
        sticky = delay(m, sticky, 1, "sticky")
        # Last three cycles: round, add the zero point, clamp.
        sign = integer[-1]
        too_large = (integer[INTEGER_BITS:-1] ^ sign.replicate(32 - 1 - INTEGER_BITS)).any()
        odd = integer[0] ^ (self.zero_point_inside & self.zero_point[0])
        round_up = half & (sticky | odd)
        # `integer` is rounded down, not towards zero: negative ones are handed over inverted, and
        # what rounds them up makes the inverted magnitude smaller by one.
        magnitude = integer[:INTEGER_BITS] ^ sign.replicate(INTEGER_BITS)
        self.round_and_clamp(m, magnitude, sign, too_large, round_up ^ sign)
        return m

    def _shift_right(self, m: Module, total: Signal, shift: Value) -> tuple[Value, Value]:
        """2 * total >> shift, rounded down, and whether lower bits were lost: 33 bits, 1 bit."""
        sign = total[-1]
        bits: Value = Cat(Const(0, 1), total)
        sticky: Value = Const(0)
        for level in range(5):
            step = 1 << level
            sticky = sticky | (shift[level] & bits[:step].any())
            shifted = Signal(33, name=f"shifted_{step}")
            m.d.comb += shifted.eq(Mux(shift[level], Cat(bits[step:], sign.replicate(step)), bits))
            bits = shifted
        return bits, sticky


def exact_latency(config: RequantConfig) -> int:
    """Cycles of `RequantExact`: bias, alignment, rows, rounding."""
    return 2 + config.row_stages + Requantizer.ROUND_LATENCY


def requantizer(config: AcceleratorConfig) -> RequantExact | RequantShift:
    """The unit that an accelerator's configuration asks for."""
    sizes = _sizes(config)
    return RequantExact(sizes) if config.requant == "exact" else RequantShift(sizes)


def requant_latency(config: AcceleratorConfig) -> int:
    """`LATENCY` of the unit that an accelerator's configuration asks for."""
    return exact_latency(_sizes(config)) if config.requant == "exact" else RequantShift.LATENCY


def _sizes(config: AcceleratorConfig) -> RequantConfig:
    return RequantConfig(acc_width=config.acc_width, max_shift=config.max_shift)
