"""The log-domain array and drain in the place of the int8 machine's.

Its memory holds what codes stand for, over the value of code 1: bytes 0, 1, 2, 4, ... 64. Numbers
with one bit set become codes where they enter the array, and codes become such numbers behind the
encoder, so that nothing else in the machine differs.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.delay import delay
from qcompile.hw.feeder import FeedTags
from qcompile.hw.log.array import LogArray
from qcompile.hw.log.config import LogArrayConfig
from qcompile.hw.log.encoder import LogEncoder
from qcompile.hw.requant import requantizer

LEVELS = 8


def log_config(config: AcceleratorConfig) -> LogArrayConfig:
    """The sizes of a machine's array."""
    return LogArrayConfig(
        rows=config.rows,
        columns=config.columns,
        levels=LEVELS,
        step=16,
        acc_width=config.acc_width,
    )


class PowerArray(wiring.Component):
    """`LogArray` behind the ports of the int8 array: bytes 0 or a power of two up to 64.

    Latency and tags are the int8 array's. Other bytes give sums without a meaning.
    """

    word: Signal
    load: Signal
    tags: Any
    weights: Signal
    o: Signal
    o_valid: Signal

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "word": In(8 * config.columns),
                "load": In(config.rows),
                "tags": In(FeedTags),
                "weights": In(8 * config.columns),
                "o": Out(config.acc_width * config.columns),
                "o_valid": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.array = array = LogArray(log_config(self.config))
        bytes_ = [self.word.word_select(c, 8) for c in range(self.config.columns)]
        m.d.comb += [
            array.word.eq(Cat(_code(byte) for byte in bytes_)),
            array.load.eq(self.load),
            array.tags.eq(self.tags),
            array.weights.eq(self.weights),
            self.o.eq(array.o),
            self.o_valid.eq(array.o_valid),
        ]
        return m


def _code(byte: Value) -> Value:
    """Number of the one bit that is set, counted from 1: 0 for none."""
    numbers = range(1, LEVELS)
    return Cat(
        Cat(byte[number - 1] for number in numbers if number >> bit & 1).any()
        for bit in range((LEVELS - 1).bit_length())
    )


class LogRequantizer(wiring.Component):
    """A requantization unit and the encoder beside it; a value's constants say which it needs.

    Ports are the `Requantizer`'s, and `log`: the value becomes a power of two or 0, and `mantissa`
    and `shift` together are the limit of its channel (`program.LIMIT_BITS`). `LATENCY` is that of
    the requantization unit, which is the longer one.

    Attributes
    ----------
    log : 1, in
    """

    valid: Signal
    acc: Signal
    bias: Signal
    mantissa: Signal
    shift: Signal
    log: Signal
    zero_point: Signal
    low: Signal
    high: Signal
    zero_point_inside: Signal
    fraction: Signal
    code: Signal
    code_valid: Signal

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self.linear = requantizer(config)
        self.LATENCY = self.linear.LATENCY
        super().__init__({**self.linear.signature.members, "log": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.linear = linear = self.linear
        m.submodules.encoder = encoder = LogEncoder(log_config(self.config))
        for name, member in linear.signature.members.items():
            port, inner = getattr(self, name), getattr(linear, name)
            if name != "code":
                m.d.comb += inner.eq(port) if member.flow == In else port.eq(inner)
        m.d.comb += [
            encoder.valid.eq(self.valid),
            encoder.sums.eq(self.acc),
            encoder.bias.eq(self.bias),
            encoder.limits.eq(Cat(self.mantissa, self.shift)),
        ]
        waits = self.LATENCY - encoder.LATENCY
        code = delay(m, encoder.code, waits, "code")
        log = delay(m, self.log, self.LATENCY, "log")
        power = Cat(code == number for number in range(1, LEVELS))
        m.d.comb += self.code.eq(Mux(log, power, linear.code))
        return m
