"""What the requantization units of `hw.requant` share: sizes, ports, and the last three cycles."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.config import ACC_WIDTHS

MANTISSA_BITS = 24
INTEGER_BITS = 8
"""Bits of a result's magnitude before it saturates: |code - zero point| is at most 255."""
SHIFT_BITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class RequantConfig:
    """Sizes of a requantization unit.

    Attributes
    ----------
    acc_width : int
        Bits of the signed accumulator, one of 20, 24, 28, 32.
    max_shift : int
        Largest right shift of `RequantExact`; shifts max_shift - 31 .. max_shift are exact for
        every accumulator. One of 31, 39, 47, 55: 7 more than a multiple of 8 makes max_shift -
        shift cost no adder. 39 is enough for every scale of 2**-16 or more; each step of 8 costs
        about 330 logic cells.
    rows_per_stage : int
        Conditional additions between two registers: more are smaller and slower.
    """

    acc_width: int = 24
    max_shift: int = 39
    rows_per_stage: int = 4

    def __post_init__(self) -> None:
        if self.acc_width not in ACC_WIDTHS:
            raise ValueError(f"acc_width must be one of {ACC_WIDTHS}, not {self.acc_width}")
        if self.max_shift not in (31, 39, 47, 55):
            raise ValueError(f"max_shift must be 31, 39, 47 or 55, not {self.max_shift}")
        if not 1 <= self.rows_per_stage <= 12:
            raise ValueError(f"rows_per_stage must be 1 to 12, not {self.rows_per_stage}")

    @property
    def magnitude_bits(self) -> int:
        """Bits of the shifted magnitude, and rows of the multiplication."""
        return INTEGER_BITS + self.max_shift - (MANTISSA_BITS - 1)

    @property
    def row_stages(self) -> int:
        """Cycles of the multiplication behind row 0, which has no adder."""
        return -(-(self.magnitude_bits - 1) // self.rows_per_stage)

    @property
    def fraction_bits(self) -> int:
        """Bits of the product right of the binary point."""
        return self.max_shift


class Requantizer(wiring.Component):
    """Ports of a requantization unit; `RequantExact` and `RequantShift` are the two kinds.

    A value enters with its channel's constants and leaves `LATENCY` cycles later; a new one may
    come in every cycle, and `valid` becomes `code_valid`. There is no backpressure. The layer's
    constants (zero_point, low, high, zero_point_inside, fraction) are read where they are needed:
    they must not change from a layer's first value in to its last code out.

    Parameters
    ----------
    config : RequantConfig

    Attributes
    ----------
    LATENCY : int
        Cycles from `acc` to `code`.
    valid : 1, in
    acc : signed(acc_width), in
    bias : signed(32), in
        acc + bias must fit 32 bits.
    mantissa : 24, in
        0 or in [2**23, 2**24); not read by `RequantShift`.
    shift : 6, in
        Right shift n, in the range that the kind states.
    zero_point, low, high : signed(8), in
    zero_point_inside : 1, in
        Ties go to the even code, not to the even distance from the zero point.
    fraction : 1, in
        acc counts as acc << FRACTION_BITS; not read by `RequantShift`.
    code : signed(8), out
    code_valid : 1, out
    """

    LATENCY: int
    valid: Signal
    acc: Signal
    bias: Signal
    mantissa: Signal
    shift: Signal
    zero_point: Signal
    low: Signal
    high: Signal
    zero_point_inside: Signal
    fraction: Signal
    code: Signal
    code_valid: Signal

    def __init__(self, config: RequantConfig) -> None:
        self.config = config
        super().__init__(
            {
                "valid": In(1),
                "acc": In(signed(config.acc_width)),
                "bias": In(signed(32)),
                "mantissa": In(MANTISSA_BITS),
                "shift": In(SHIFT_BITS),
                "zero_point": In(signed(8)),
                "low": In(signed(8)),
                "high": In(signed(8)),
                "zero_point_inside": In(1),
                "fraction": In(1),
                "code": Out(signed(8)),
                "code_valid": Out(1),
            }
        )

    def follow_valid(self, m: Module) -> None:
        """`code_valid` is `valid`, `LATENCY` cycles later; cleared by a reset."""
        travelling = Signal(self.LATENCY)
        m.d.sync += travelling.eq(Cat(self.valid, travelling[:-1]))
        m.d.comb += self.code_valid.eq(travelling[-1])

    def round_and_clamp(
        self, m: Module, integer: Value, sign: Value, saturated: Value, round_up: Value
    ) -> None:
        """Magnitude and sign to the clamped code: the last `ROUND_LATENCY` cycles.

        zero_point - q is zero_point + ~q + 1, so the sign inverts bits and the rounding becomes a
        carry. A saturated magnitude is all ones, which every clamp cuts off.
        """
        # Cycle 0: sign and rounding as an operand and its carry.
        operand = Signal(signed(INTEGER_BITS + 1), reset_less=True)
        carry = Signal(reset_less=True)
        ones = saturated.replicate(INTEGER_BITS)
        m.d.sync += [
            operand.eq(Cat((integer | ones) ^ sign.replicate(INTEGER_BITS), sign)),
            carry.eq(sign ^ round_up),
        ]
        # Cycle 1: zero point. The lowest position only makes the carry.
        total = Signal(signed(INTEGER_BITS + 2), reset_less=True)
        left, right = (Cat(carry, value).as_signed() for value in (operand, self.zero_point))
        m.d.sync += total.eq((left + right) >> 1)
        # Cycle 2: clamp.
        code = Signal(signed(8), reset_less=True)
        below, above = total < self.low, total > self.high
        m.d.sync += code.eq(Mux(below, self.low, Mux(above, self.high, total[:8])))
        m.d.comb += self.code.eq(code)

    ROUND_LATENCY = 3
