"""What the log-domain machine has behind its accumulators: the encoder, and the larger of codes.

Its memory holds codes, in four bits each up to 16 levels. The last layers of a network may be
linear: their sums pass a requantization unit.
"""

from __future__ import annotations

from dataclasses import replace

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.config import ACC_WIDTHS, AcceleratorConfig
from qcompile.hw.delay import delay
from qcompile.hw.log.config import CLASS_BITS
from qcompile.hw.log.encoder import JOIN_LATENCY, LogEncoder, encoder_latency
from qcompile.hw.program import FRACTION_BITS, PAIR_WORDS
from qcompile.hw.requant import requant_latency, requantizer


class LogRequantizer(wiring.Component):
    """A requantization unit and the encoder beside it; a value's constants say which it needs.

    Ports are the `Requantizer`'s but for sums and constants. With two classes of sums a linear
    code is that of the joined sum, rounded, halves up, to `FRACTION_BITS` of a fraction for a unit
    `exact`, to a whole number for `shift`; the bias counts as much.

    Attributes
    ----------
    LATENCY : int
        Cycles from `sums` to `code`, the same for both.
    sums : sum_bits, in
        All classes, class 0 lowest.
    log : 1, in
        `constants_wait(config)` cycles behind `sums`: the value's code is logarithmic.
    constants : 16 * constant_words - 34, in
        With `log`. Between the bias and the flags: mantissa and shift, or the encoder's limits.
    """

    LATENCY: int
    valid: Signal
    sums: Signal
    bias: Signal
    log: Signal
    constants: Signal
    zero_point: Signal
    low: Signal
    high: Signal
    zero_point_inside: Signal
    fraction: Signal
    code: Signal
    code_valid: Signal

    def __init__(self, config: AcceleratorConfig) -> None:
        self.wait = constants_wait(config)
        self.encoder = LogEncoder(config.log, late=self.wait)
        self.linear = requantizer(_linear_config(config))
        self.fraction_bits = FRACTION_BITS if _keeps_fraction(config) else 0
        self.LATENCY = log_requant_latency(config)
        members = dict(self.linear.signature.members)
        for name in ("acc", "mantissa", "shift"):
            del members[name]
        super().__init__(
            {
                **members,
                "sums": In(config.sum_bits),
                "log": In(1),
                "constants": In(16 * config.constant_words - 34),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.linear = linear = self.linear
        m.submodules.encoder = encoder = self.encoder
        for name in ("zero_point", "low", "high", "zero_point_inside"):
            m.d.comb += getattr(linear, name).eq(getattr(self, name))
        m.d.comb += linear.fraction.eq(0 if self.fraction_bits else self.fraction)
        scale = len(linear.mantissa) + len(linear.shift)
        entered = delay(m, Cat(self.valid, self.bias), self.wait, "entered")
        m.d.comb += [
            linear.acc.eq(self._rounded(m, encoder)),
            Cat(linear.valid, linear.bias).eq(entered),
            Cat(linear.mantissa, linear.shift).eq(self.constants[:scale]),
            encoder.valid.eq(self.valid),
            encoder.sums.eq(self.sums),
            encoder.bias.eq(self.bias),
            encoder.limits.eq(self.constants),
        ]
        waits = self.LATENCY - encoder.LATENCY
        code = delay(m, encoder.code, waits, "code")
        log = delay(m, self.log, self.LATENCY - self.wait, "log")
        late = self.LATENCY - self.wait - linear.LATENCY
        linear_code = delay(m, linear.code, late, "linear_code")
        travelling = Signal(self.LATENCY)
        m.d.sync += travelling.eq(Cat(self.valid, travelling[:-1]))
        m.d.comb += [
            self.code.eq(Mux(log, code, linear_code)),
            self.code_valid.eq(travelling[-1]),
        ]
        return m

    def _rounded(self, m: Module, encoder: LogEncoder) -> Value:
        """The joined sum with as many bits of a fraction as the unit takes."""
        if encoder.config.classes == 1:
            return encoder.joined
        dropped = CLASS_BITS - self.fraction_bits
        rounded = Signal(signed(len(encoder.joined) - dropped), reset_less=True)
        m.d.sync += rounded.eq((encoder.joined + (1 << (dropped - 1))) >> dropped)
        return rounded


def log_requant_latency(config: AcceleratorConfig) -> int:
    """`LATENCY` of the `LogRequantizer` of a configuration."""
    linear = constants_wait(config) + requant_latency(_linear_config(config))
    return max(linear, encoder_latency(config.log))


def _keeps_fraction(config: AcceleratorConfig) -> bool:
    return config.log.keeps_fraction and config.requant == "exact"


def _linear_config(config: AcceleratorConfig) -> AcceleratorConfig:
    """What the requantization unit of linear codes is built for."""
    return replace(config, acc_width=ACC_WIDTHS[-1]) if _keeps_fraction(config) else config


def constants_wait(config: AcceleratorConfig) -> int:
    """Cycles in front of the requantization unit, and of the encoder's comparisons: the classes are
    joined, the sum rounded. As many later a value's constants are wanted."""
    return JOIN_LATENCY + 1 if config.log.classes > 1 else 0


class LargerCode(wiring.Component):
    """The larger of a code and a residual code, a pair every cycle; LATENCY is 1.

    Logarithmic codes are ordered as what they stand for. `enable` chooses between it and `code_a`
    itself; it must not change while a value is inside. No backpressure.

    Parameters
    ----------
    code_bits : int
        Bits of a residual code; a code that has more passes whole.
    built : bool
        Otherwise `enable` is not looked at.

    Attributes
    ----------
    LATENCY : int
    code_a : 8, in
    code_b : code_bits, in
    valid, enable : 1, in
    code : 8, out
    code_valid : 1, out
    """

    LATENCY = 1

    code_a: Signal
    code_b: Signal
    valid: Signal
    enable: Signal
    code: Signal
    code_valid: Signal

    def __init__(self, code_bits: int, *, built: bool = True) -> None:
        self.built = built
        super().__init__(
            {
                "code_a": In(8),
                "code_b": In(code_bits),
                "valid": In(1),
                "enable": In(1),
                "code": Out(8),
                "code_valid": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        larger = self.enable & (self.code_b > self.code_a) if self.built else 0
        m.d.sync += [
            self.code.eq(Mux(larger, self.code_b, self.code_a)),
            self.code_valid.eq(self.valid),
        ]
        return m


class PairTable(wiring.Component):
    """Any function of a code and a residual code of four bits, a pair every cycle; LATENCY is 1.

    `enable` chooses between it and `code_a` itself, with the same latency; it must not change while
    a value is inside. No backpressure. The table is written a word of four entries a cycle, that of
    the lowest pair lowest; the number of a pair has `code_a` below `code_b`. Contents are undefined
    until written; writing while a value with `enable` is inside changes its result.

    Attributes
    ----------
    LATENCY : int
    code_a : 8, in
    code_b : 4, in
    valid, enable : 1, in
    code : 8, out
    code_valid : 1, out
    write : 1, in; write_index : 10, in; write_data : 16, in
    """

    LATENCY = 1

    code_a: Signal
    code_b: Signal
    valid: Signal
    enable: Signal
    code: Signal
    code_valid: Signal
    write: Signal
    write_index: Signal
    write_data: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "code_a": In(8),
                "code_b": In(4),
                "valid": In(1),
                "enable": In(1),
                "code": Out(8),
                "code_valid": Out(1),
                "write": In(1),
                "write_index": In(10),
                "write_data": In(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ram: memory.Memory = memory.Memory(shape=16, depth=PAIR_WORDS, init=[])
        m.submodules.table = ram
        writer, reader = ram.write_port(), ram.read_port()
        passing = Signal(8, reset_less=True)
        m.d.comb += [
            writer.addr.eq(self.write_index),
            writer.data.eq(self.write_data),
            writer.en.eq(self.write),
            reader.addr.eq(Cat(self.code_a, self.code_b)[2:]),
            reader.en.eq(1),
            self.code.eq(Mux(self.enable, reader.data.word_select(passing[:2], 4), passing)),
        ]
        m.d.sync += [passing.eq(self.code_a), self.code_valid.eq(self.valid)]
        return m
