"""UART 8N1 at a whole number of clocks a bit: a receiver and a transmitter.

Both tell every data bit as it passes (`data_bit`, `data_bit_valid`), so a bit-serial CRC can sit
beside them.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import io, stream, wiring
from amaranth.lib.wiring import In, Out

MAX_BAUD_ERROR = 0.015
"""Largest error of clock_hz / clocks_per_bit against the baud; the other end may be as far off."""


def clocks_per_bit(clock_hz: int, baud: int) -> int:
    """Clocks a bit, checked: at least 6, and within `MAX_BAUD_ERROR` of the baud rate."""
    clocks = round(clock_hz / baud)
    if clocks < 6:
        raise ValueError(f"{baud} baud needs a clock of {6 * baud} Hz or more, not {clock_hz}")
    error = abs(clock_hz / clocks / baud - 1)
    if error > MAX_BAUD_ERROR:
        raise ValueError(f"a clock of {clock_hz} Hz makes {baud} baud only within {error:.1%}")
    return clocks


def connect_uart(m: Module, pins: Any, *, rx: Signal, tx: Signal) -> None:
    """A serial line's pins through registers in their cells: one out; two in, against
    metastability."""
    m.submodules.rx = receiver = io.FFBuffer(io.Direction.Input, pins.rx)
    m.submodules.tx = transmitter = io.FFBuffer(io.Direction.Output, pins.tx)
    m.d.sync += rx.eq(receiver.i)
    m.d.comb += transmitter.o.eq(tx)


class UartReceiver(wiring.Component):
    """Bytes from a serial line, sampled in the middle of each bit.

    A falling edge starts a byte; a start bit that is high in its middle was a glitch and is
    dropped. `valid` pulses one cycle after the last data bit's sample (the stop bit is not
    waited for), and the byte stays until the next start bit. No backpressure: take it.

    Parameters
    ----------
    clocks : int
        Clocks a bit, 6 or more.

    Attributes
    ----------
    rx : 1, in
        The line, already synchronized to the clock.
    data : 8, out
    valid : 1, out
    data_bit, data_bit_valid : 1, out
        Each data bit as it is sampled, least significant first; the last one comes one cycle
        before `valid`.
    """

    rx: Signal
    data: Signal
    valid: Signal
    data_bit: Signal
    data_bit_valid: Signal

    def __init__(self, *, clocks: int) -> None:
        self._clocks = clocks
        super().__init__(
            {
                "rx": In(1),
                "data": Out(8),
                "valid": Out(1),
                "data_bit": Out(1),
                "data_bit_valid": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        marker = 1 << 8  # falls out of bit 0 with the ninth sample: start bit and eight data bits
        bits = Signal(9, init=marker)
        timer = Signal(range(self._clocks))
        active = Signal()
        first = Signal()
        previous = Signal(init=1)
        sample = Signal()

        m.d.comb += [
            sample.eq(active & (timer == 0)),
            self.data_bit.eq(self.rx),
            self.data_bit_valid.eq(sample & ~first),
            self.data.eq(bits[1:]),
        ]
        m.d.sync += [
            previous.eq(self.rx),
            self.valid.eq(sample & bits[0]),
            timer.eq(timer - 1),
        ]
        with m.If(~active):
            # The edge is seen one cycle late, and counts as the bit's first clock.
            m.d.sync += timer.eq(self._clocks // 2 - 1)
            with m.If(previous & ~self.rx):
                m.d.sync += [active.eq(1), first.eq(1), bits.eq(marker)]
        with m.Elif(sample):
            m.d.sync += [
                timer.eq(self._clocks - 1),
                first.eq(0),
                bits.eq(Cat(bits[1:], self.rx)),
                active.eq(~(bits[0] | (first & self.rx))),
            ]
        return m


class UartTransmitter(wiring.Component):
    """Bytes to a serial line.

    `i.ready` is 1 while the line is idle, so a byte takes ten bit times and the transmitter holds
    no second one: a byte waits at `i` while the one before leaves.

    Parameters
    ----------
    clocks : int
        Clocks a bit, 6 or more.

    Attributes
    ----------
    i : stream of 8 bits, in
    tx : 1, out
        The line, straight from a register.
    data_bit, data_bit_valid : 1, out
        Each data bit as it ends, least significant first.
    """

    i: stream.Interface
    tx: Signal
    data_bit: Signal
    data_bit_valid: Signal

    def __init__(self, *, clocks: int) -> None:
        self._clocks = clocks
        super().__init__(
            {
                "i": In(stream.Signature(8)),
                "tx": Out(1),
                "data_bit": Out(1),
                "data_bit_valid": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = Signal(10, init=1)  # the stop bit is the marker: alone in bit 0 it is the last
        timer = Signal(range(self._clocks))
        first = Signal()
        shift = Signal()
        last = Signal()

        m.d.comb += [
            last.eq(bits[1:] == 0),
            shift.eq((timer == 0) & ~last),
            self.tx.eq(bits[0]),
            self.data_bit.eq(bits[0]),
            self.data_bit_valid.eq(shift & ~first),
            self.i.ready.eq((timer == 0) & last),
        ]
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Elif(shift):
            m.d.sync += [timer.eq(self._clocks - 1), first.eq(0), bits.eq(bits >> 1)]
        with m.Elif(self.i.valid):
            m.d.sync += [
                timer.eq(self._clocks - 1),
                first.eq(1),
                bits.eq(Cat(Const(0, 1), self.i.payload, Const(1, 1))),
            ]
        return m
