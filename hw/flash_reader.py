"""Reads a W25Q-style SPI flash, four lines wide, as a stream of 16-bit words.

Timing, at the pins. All flash signals come from registers in the I/O cells. The flash clock is
low, and rises in the middle of those core clocks that carry a bit or nibble, so what the FPGA
sends changes half a core clock before the flash samples it. The flash changes its outputs when
its clock falls, which is at a core clock's edge, and the I/O cells sample them a whole core clock
later: clock-to-output of the flash (7 ns at most for a W25Q128JV, datasheet section 9.6) and of
the FPGA's clock pin, board and input set-up share that time. At 30 MHz it is 33 ns; 40 MHz is
safe.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

PIN_LATENCY = 2
"""Cycles from a flash clock (`FlashPins.clock`) to the nibble that it reads at `d_i`."""

FlashPins = wiring.Signature(
    {
        "select": Out(1),
        "clock": Out(1),
        "d_o": Out(4),
        "d_oe": Out(4),
        "d_i": In(4),
    }
)
"""Towards the I/O cells: one register in each direction.

`select` is 1 while the flash is selected, `clock` 1 in a cycle that has a flash clock, `d_oe` for
each line 1 where `d_o` drives it. Lines 0..3 are DI, DO, WP#, HOLD#.
"""

QUAD_ENABLE = 0x02
"""Bit of status register 2 (W25Q128JV datasheet section 7.1)."""

STEPS = (
    (0xFF, 0),  # mode reset: leaves a continuous-read mode
    (0xAB, 0),  # release power-down
    (0x35, 0),  # read status register 2
    (0x50, 0),  # volatile write enable
    (0x31, QUAD_ENABLE),  # write status register 2
    (0x35, 0),  # read status register 2
    (0x6B, 0),  # fast read quad output
)
"""Command and second byte in the order in which they are sent; the last one at every start."""
STEP_FIRST_STATUS, STEP_SECOND_STATUS, STEP_READ, STEP_FAILED = 2, 5, 6, 7

# What the counter of a transaction's flash clocks counts down, the same for all commands. Below 0
# it goes on from all ones.
COUNT_FIRST = 31
COUNT_COMMAND = 24  # 31..24: bits of the command
COUNT_BYTE = 16  # 23..16: bits of a second byte; 23..0: address of a read
DUMMY_CLOCKS = 8  # -1..-8
LAST_COUNTS = (
    COUNT_COMMAND,
    COUNT_COMMAND,
    COUNT_BYTE,
    COUNT_COMMAND,
    COUNT_BYTE,
    COUNT_BYTE,
    -DUMMY_CLOCKS,
)
"""The counter's last value in each step: 8 or 16 clocks; 40 for the read."""

SINGLE_LINES = 0b1101
"""Lines driven during commands: DI, and WP# and HOLD# high; DO is the flash's."""
RESTART_GAP = 3
"""Counts that the flash stays unselected between reads: 100 ns or more, 50 ns are needed."""

WAKE_SECONDS = 3e-6
"""tRES1 of the datasheet: from 0xAB to the first command."""


class FlashReader(wiring.Component):
    """Wakes the flash once after reset, then streams words from the address of each `start`.

    After reset: mode reset (0xFF), 0xAB, at least 3 us, status register 2 read; if
    its quad enable bit is clear it is set (volatile) and read again; about 550 cycles in all. The
    read (0x6B, no continuous-read mode) takes 40 flash clocks, then brings a nibble a clock: the
    first word comes 49 cycles after `start`, then one every 4 cycles.

    Backpressure pauses the flash clock: while a word stands at `o`, the next one's last clock is
    held back, and the flash itself keeps the nibble. A consumer that takes words within 2 cycles
    gets the full rate.

    Parameters
    ----------
    clock_hz : int
        Clock of the `sync` domain, 40 MHz at most.

    Attributes
    ----------
    start : 1, in
        Pulse: read from `address`, also in the middle of another read; before `ready` it waits.
    address : 24, in
        Byte address; must stay for 100 cycles after `start`.
    stop : 1, in
        Pulse: stop reading; no word comes after it.
    o : stream of 16 bits, out
        Low byte first in flash.
    crc_ok : 1, out
        CRC-16/CCITT-FALSE of all words since `start` up to the one at `o` (nibbles in flash
        order) is zero. Belongs to `o`.
    ready : 1, out
        The flash is awake and has its quad enable bit.
    error : 1, out
        The flash does not answer, or its quad enable bit cannot be set.
    pins : FlashPins, out
    """

    start: Signal
    address: Signal
    stop: Signal
    o: stream.Interface
    crc_ok: Signal
    ready: Signal
    error: Signal
    pins: Any

    def __init__(self, *, clock_hz: int) -> None:
        if not 0 < clock_hz <= 40_000_000:
            raise ValueError(f"clock_hz must be between 1 and 40000000, not {clock_hz}")
        gap_bits = int(clock_hz * WAKE_SECONDS + 1).bit_length()
        gap_bits = max(gap_bits, COUNT_FIRST.bit_length() + 1)
        super().__init__(
            {
                "start": In(1),
                "address": In(24),
                "stop": In(1),
                "o": Out(stream.Signature(16)),
                "crc_ok": Out(1),
                "ready": Out(1),
                "error": Out(1),
                "pins": Out(FlashPins),
            }
        )
        self._gap_count = (1 << gap_bits) - 1
        self._step = Signal(range(len(STEPS) + 1))
        self._count = Signal(gap_bits, init=self._gap_count)
        self._silent = Signal()
        self._wanted = Signal()  # a start that no transaction has taken up yet
        self._streaming = Signal()  # from the first clock of QUAD_READ to stop or the next start
        self._run = Signal()  # a flash clock that reads a nibble
        self._nibble = Signal(2)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += [
            self.ready.eq(self._step == STEP_READ),
            self.error.eq(self._step == STEP_FAILED),
        ]
        self._assemble(m)
        with m.FSM():
            with m.State("GAP"):
                self._gap(m)
            with m.State("SEND"):
                self._send(m)
            with m.State("STREAM"):
                self._stream(m)
        with m.If(self.start):
            m.d.sync += [self._wanted.eq(1), self._streaming.eq(0)]
        with m.If(self.stop):
            m.d.sync += [self._wanted.eq(0), self._streaming.eq(0)]
        return m

    def _gap(self, m: Module) -> None:
        """Not selected: long enough to wake up, or until a start; then the next transaction."""
        pins, count, step = self.pins, self._count, self._step
        m.d.comb += [
            pins.d_o.eq(0xF),
            pins.d_oe.eq(Mux((step == STEP_READ) & (count != 0), 0, SINGLE_LINES)),
        ]
        m.d.sync += self._nibble.eq(0)
        with m.If(count != 0):
            m.d.sync += count.eq(count - 1)
        with m.Elif((step != STEP_FAILED) & ((step != STEP_READ) | self._wanted)):
            m.d.sync += [count.eq(COUNT_FIRST), self._streaming.eq(step == STEP_READ)]
            with m.If(step == STEP_READ):
                m.d.sync += self._wanted.eq(0)
            m.next = "SEND"
        # The last clock, one cycle before this count's first, read the status register's bit 0;
        # the one before read its quad enable bit.
        with m.If(count == self._gap_count - (PIN_LATENCY - 2)):
            enabled = pins.d_i[1] & ~self._silent
            with m.If((step == STEP_FIRST_STATUS + 1) & enabled):
                m.d.sync += step.eq(STEP_READ)
            with m.If((step == STEP_SECOND_STATUS + 1) & ~enabled):
                m.d.sync += step.eq(STEP_FAILED)

    def _send(self, m: Module) -> None:
        """A transaction's clocks up to the data of a read."""
        pins, count, step = self.pins, self._count, self._step
        command = Signal(8)
        second = Signal(8)
        last = Signal.like(count)
        with m.Switch(step):
            for number, (code, second_byte) in enumerate(STEPS):
                with m.Case(number):
                    m.d.comb += [
                        command.eq(code),
                        second.eq(second_byte),
                        last.eq(LAST_COUNTS[number]),
                    ]
        middle = Mux(step == STEP_READ, self.address[16:], second)
        sent = Cat(self.address[:16], middle, command)
        m.d.comb += [
            pins.select.eq(1),
            pins.clock.eq(1),
            pins.d_o.eq(Cat(sent.bit_select(count[:5], 1), Const(0b111, 3))),
            pins.d_oe.eq(Mux(count[-1], 0, SINGLE_LINES)),  # released in dummy clocks
        ]
        m.d.sync += count.eq(count - 1)
        # Bit 7 (suspended) is 0 after power-up; a line that nobody drives may read 1 throughout.
        with m.If(count == COUNT_COMMAND - 1 - PIN_LATENCY):
            m.d.sync += self._silent.eq(pins.d_i[1])
        with m.If(count == last):
            m.next = "STREAM"
            with m.If(step != STEP_READ):
                m.d.sync += [step.eq(step + 1), count.eq(self._gap_count)]
                m.next = "GAP"

    def _stream(self, m: Module) -> None:
        """Four clocks a word; the fourth waits until the word before is gone or going."""
        room = ~self.o.valid | self.o.ready
        m.d.comb += [
            self._run.eq(self._streaming & ((self._nibble != 3) | room)),
            self.pins.select.eq(self._streaming),
            self.pins.clock.eq(self._run),
        ]
        m.d.sync += self._nibble.eq(self._nibble + self._run)
        with m.If(~self._streaming):
            m.d.sync += self._count.eq(RESTART_GAP)
            m.next = "GAP"

    def _assemble(self, m: Module) -> None:
        """Nibbles, `PIN_LATENCY` cycles after their clocks, to words and their CRC."""
        d_i = self.pins.d_i
        arriving = Signal(PIN_LATENCY)
        completing = Signal(PIN_LATENCY)
        completed = Signal()
        nibbles = Signal(12, reset_less=True)
        crc = Signal(16, init=0xFFFF)
        crc_next = crc16_nibble(crc, d_i)
        m.d.sync += [
            arriving.eq(Cat(self._run, arriving)),
            completing.eq(Cat(self._run & (self._nibble == 3), completing)),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(completing[-1]):
            m.d.sync += self.o.payload.eq(Cat(nibbles[4:12], d_i, nibbles[:4]))
        # One cycle later `crc` is that of all words up to this one.
        m.d.sync += completed.eq(completing[-1])
        with m.If(completed):
            m.d.sync += [self.o.valid.eq(1), self.crc_ok.eq(crc == 0)]
        with m.If(arriving[-1]):
            m.d.sync += [crc.eq(crc_next), nibbles.eq(Cat(d_i, nibbles))]
        with m.If(~self._streaming | self.start | self.stop):
            m.d.sync += [self.o.valid.eq(0), crc.eq(0xFFFF)]


def crc16_nibble(crc: Value, nibble: Value) -> Value:
    """CRC-16/CCITT-FALSE (polynomial 0x1021) after four more bits, most significant first."""
    bits = list(crc)
    for index in reversed(range(4)):
        feedback = bits[15] ^ nibble[index]
        bits = [feedback, *bits[:15]]
        bits[5] = bits[5] ^ feedback
        bits[12] = bits[12] ^ feedback
    return Cat(*bits)
