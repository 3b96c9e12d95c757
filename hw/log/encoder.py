"""The log-domain encoder: sums of an output become its code, by comparisons alone.

The code is the number of thresholds that sum and bias have reached (`compiler.golden.log_domain`).
It is found bit by bit, the highest first: a bit is set if the total has reached the threshold of
the code with this bit and those found before. All these thresholds are a few constants, shifted:
T >> n rounded up is what x << n >= T asks of x. With -T as the constant, rounding up becomes the
plain arithmetic shift, and the comparison the sign of a sum.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.delay import delay
from qcompile.hw.log.config import BIAS_BITS, CLASS_BITS, LogArrayConfig


class LogEncoder(wiring.Component):
    """Sums and a channel's constants in, a code out `LATENCY` cycles later; one every cycle.

    There is no backpressure. Exact where joined sum and bias fit `total_bits`. A total of 0 or
    less has code 0.

    Parameters
    ----------
    config : LogArrayConfig
        Levels and step of inputs and outputs.
    bits_per_stage : int
        Bits of the code found between two registers: more are smaller and slower.
    late : int
        Cycles by which limits come behind their sums, `join_latency` + 1 at most.

    Attributes
    ----------
    LATENCY : int
    valid : 1, in
    sums : acc_width x classes, in
        Class 0 lowest.
    bias : signed(32), in
        In units of class 0's sum.
    limits : limit_bits x classes, in
        -T of the last code lowest, then of the codes before it, as many as classes. One that is
        too large for its bits is replaced by the most negative value: such a channel reaches none.
    code : code_bits, out
    code_valid : 1, out
    joined : signed(total_bits), out
        The sum without the bias, `join_latency` cycles after `sums`.
    """

    LATENCY: int
    valid: Signal
    sums: Signal
    bias: Signal
    limits: Signal
    code: Signal
    code_valid: Signal
    joined: Signal

    def __init__(self, config: LogArrayConfig, bits_per_stage: int = 1, *, late: int = 0) -> None:
        if not 1 <= bits_per_stage <= config.code_bits:
            raise ValueError(
                f"bits_per_stage must be 1 to {config.code_bits}, not {bits_per_stage}"
            )
        self.config = config
        self.bits_per_stage = bits_per_stage
        self.late = late
        self.total_bits = config.total_bits
        self.limit_bits = config.limit_bits
        self.join_latency = JOIN_LATENCY if config.classes > 1 else 0
        self.LATENCY = encoder_latency(config, bits_per_stage)
        super().__init__(
            {
                "valid": In(1),
                "sums": In(config.sum_bits),
                "bias": In(signed(BIAS_BITS)),
                "limits": In(self.limit_bits * config.classes),
                "code": Out(config.code_bits),
                "code_valid": Out(1),
                "joined": Out(signed(self.total_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        classes, width = self.config.classes, self.config.acc_width
        sums = [self.sums.word_select(index, width).as_signed() for index in range(classes)]
        travelling = Signal(self.LATENCY)
        m.d.sync += travelling.eq(Cat(self.valid, travelling[:-1]))
        m.d.comb += self.code_valid.eq(travelling[-1])
        # First cycles: the classes' sums become one.
        waited = self.join_latency
        joined = sums[0] if classes == 1 else self._join(m, *sums)
        m.d.comb += self.joined.eq(joined)
        # Next cycle: bias.
        total: Value = Signal(signed(self.total_bits), name="total", reset_less=True)
        bias = delay(m, self.bias, waited, "bias").as_signed()
        m.d.sync += total.eq(joined + (bias if classes == 1 else bias << CLASS_BITS))
        held = delay(m, self.limits, waited + 1 - self.late, "limits")
        limits: list[Value] = [
            held.word_select(index, self.limit_bits).as_signed() for index in range(classes)
        ]
        # Last cycles: the code's bits.
        found: list[Value] = []
        stage = 0
        for bit in reversed(range(self.config.code_bits)):
            reached = self._reached(m, total, limits, bit)
            found.append(reached)
            limits = self._shifted(m, limits, bit, reached)
            if bit == 0 or len(found) % self.bits_per_stage == 0:
                # End of a cycle: everything into registers.
                held = delay(m, Cat(*found, total, *limits), 1, f"stage_{stage}")
                parts = _cut(held, [1] * len(found) + [len(total), *map(len, limits)])
                found, total = parts[: len(found)], parts[len(found)].as_signed()
                limits = [part.as_signed() for part in parts[len(found) + 1 :]]
                stage += 1
        m.d.comb += self.code.eq(Cat(*reversed(found)))
        return m

    def _reached(self, m: Module, total: Value, limits: list[Value], bit: int) -> Value:
        """Whether the code with this bit, those found and no lower ones is reached.

        It lies 2**bit - 1 codes below the one that the limits belong to, besides the shifts that
        they have behind them.
        """
        below = (1 << bit) - 1
        nearer = below % len(limits)
        octaves = (below - nearer) * self.config.step // 16
        difference = Signal(signed(self.limit_bits + 1), name=f"difference_{bit}")
        m.d.comb += difference.eq(total + (limits[nearer] >> octaves))
        return ~difference[-1]

    def _shifted(self, m: Module, limits: list[Value], bit: int, reached: Value) -> list[Value]:
        """The limits for the bits below: 2**bit codes lower where this one is not set."""
        if bit == 0:
            return []
        octaves = (self.config.step << bit) // 16
        return [Mux(reached, limit, limit >> octaves).as_signed() for limit in limits]

    def _join(self, m: Module, whole: Value, half: Value) -> Value:
        """32768 * whole + 46341 * half, `JOIN_LATENCY` cycles later.

        46341 = (5 * 9 << 10) + 256 + 5.
        """
        width = self.config.acc_width
        # Cycle 0: five times, and what has no other factor.
        five = Signal(signed(width + 3), reset_less=True)
        plain = Signal(signed(self.total_bits), reset_less=True)
        m.d.sync += [five.eq(half + (half << 2)), plain.eq((half << 8) + (whole << CLASS_BITS))]
        # Cycle 1: 45 times, and the rest.
        forty_five = Signal(signed(width + 6), reset_less=True)
        rest = Signal(signed(self.total_bits), reset_less=True)
        m.d.sync += [forty_five.eq(five + (five << 3)), rest.eq(five + plain)]
        # Cycle 2: all.
        joined = Signal(signed(self.total_bits), reset_less=True)
        m.d.sync += joined.eq(rest + (forty_five << 10))
        return joined


JOIN_LATENCY = 3


def encoder_latency(config: LogArrayConfig, bits_per_stage: int = 1) -> int:
    """`LATENCY` of an encoder: joining, bias, and the code's bits."""
    joining = JOIN_LATENCY if config.classes > 1 else 0
    return joining + 1 - (-config.code_bits // bits_per_stage)


def _cut(value: Value, widths: list[int]) -> list[Value]:
    """Parts of a value, lowest first."""
    parts, at = [], 0
    for width in widths:
        parts.append(value[at : at + width])
        at += width
    return parts
