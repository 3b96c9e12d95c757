"""Reads an SPI flash on one, two or four data lines, as a stream of 16-bit words.

Timing, at the pins. All flash signals come from registers in the I/O cells. The flash clock is
low, and rises in the middle of those core clocks that carry bits, so what the FPGA sends changes
half a core clock before the flash samples it. The flash changes its outputs when its clock falls,
which is at a core clock's edge, and the I/O cells sample them a whole core clock later:
clock-to-output of the flash (7 ns at most for a W25Q128JV, datasheet section 9.6) and of the
FPGA's clock pin, board and input set-up share that time. At 30 MHz it is 33 ns; 40 MHz is safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

PIN_LATENCY = 2
"""Cycles from a flash clock (`FlashPins.clock`) to the bits that it reads at `d_i`."""
READ_COMMANDS = {1: 0x0B, 2: 0x3B, 4: 0x6B}
"""Fast read, and fast read with dual or quad output, by data lines."""

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
each line 1 where `d_o` drives it. Lines 0..3 are DI, DO, WP#, HOLD#; a board of one or two data
lines has the first two alone and pulls the others up, so they are always driven high here.
"""

QUAD_ENABLE = 0x02
"""Bit of status register 2 (W25Q128JV datasheet section 7.1)."""

# What the counter of a transaction's flash clocks counts down, the same for all commands. Below 0
# it goes on from all ones.
COUNT_FIRST = 31
COUNT_COMMAND = 24  # 31..24: bits of the command
COUNT_BYTE = 16  # 23..16: bits of a second byte; 23..0: an identification, or address of a read
COUNT_LONG = 0
DUMMY_CLOCKS = 8  # -1..-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A transaction: its command and second byte, and the counter's value at its last clock."""

    command: int
    second: int = 0
    last: int = COUNT_COMMAND


WAKE = Step(command=0xAB)  # release power-down
IDENTIFY = Step(command=0x9F, last=COUNT_LONG)
READ_STATUS = Step(command=0x35, last=COUNT_BYTE)  # status register 2
QUAD_STEPS = (
    Step(command=0xFF),  # mode reset: leaves a continuous-read mode
    WAKE,
    READ_STATUS,
    Step(command=0x50),  # volatile write enable
    Step(command=0x31, second=QUAD_ENABLE, last=COUNT_BYTE),  # write status register 2
    READ_STATUS,
)
"""What comes before the first read on four lines, in order."""
QUAD_FIRST_STATUS = 2
NARROW_STEPS = (WAKE, IDENTIFY)
"""The same on one or two lines."""

SINGLE_LINES = 0b1101
"""Lines driven during commands: DI, and WP# and HOLD# high; DO is the flash's."""
PULLED_UP = 0b1100
"""Lines that a board of one or two data lines pulls up."""
RESTART_GAP = 3
"""Counts that the flash stays unselected between reads: 100 ns or more, 50 ns are needed."""

WAKE_SECONDS = 3e-6
"""tRES1 of the datasheet: from 0xAB to the first command."""


def word_cycles(lines: int) -> int:
    """Core cycles of a 16-bit word on so many data lines."""
    return 16 // lines


class FlashReader(wiring.Component):
    """Wakes the flash once after reset, then streams words from the address of each `start`.

    After reset, on four lines: mode reset (0xFF), 0xAB, at least 3 us, status register 2 read; if
    its quad enable bit is clear it is set (volatile) and read again; about 550 cycles in all. On
    one or two lines: 0xAB, at least 3 us, and the identification (0x9F), whose bits must not be all
    alike. The read (0x0B, 0x3B or 0x6B, no continuous-read mode) takes 40 flash clocks, then
    brings a bit, two or four a clock: the first word comes 45 + 16 / `lines` cycles after `start`,
    then one every 16 / `lines` cycles.

    Backpressure pauses the flash clock: while a word stands at `o`, the next one's last clock is
    held back, and the flash itself keeps the bits. A consumer that takes words within 2 cycles
    gets the full rate.

    Parameters
    ----------
    clock_hz : int
        Clock of the `sync` domain, 40 MHz at most.
    lines : int
        Data lines between flash and FPGA: 1, 2 or 4.

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
        CRC-16/CCITT-FALSE of all words since `start` up to the one at `o` (bits in flash
        order) is zero. Belongs to `o`.
    ready : 1, out
        The flash is awake, and has its quad enable bit where that is needed.
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

    def __init__(self, *, clock_hz: int, lines: int) -> None:
        if not 0 < clock_hz <= 40_000_000:
            raise ValueError(f"clock_hz must be between 1 and 40000000, not {clock_hz}")
        if lines not in READ_COMMANDS:
            raise ValueError(f"lines must be 1, 2 or 4, not {lines}")
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
        self._lines = lines
        self._kept = 0 if lines == 4 else PULLED_UP  # lines driven while data comes
        before = QUAD_STEPS if lines == 4 else NARROW_STEPS
        self._steps = (*before, Step(command=READ_COMMANDS[lines], last=-DUMMY_CLOCKS))
        self._step_read = len(before)
        self._step_failed = len(before) + 1
        self._gap_count = (1 << gap_bits) - 1
        self._step = Signal(range(self._step_failed + 1))
        self._count = Signal(gap_bits, init=self._gap_count)
        self._first_bit = Signal()  # of an answer to a command
        self._changed = Signal()  # a later bit of the answer was another one
        self._wanted = Signal()  # a start that no transaction has taken up yet
        self._streaming = Signal()  # from the first clock of a read to stop or the next start
        self._run = Signal()  # a flash clock that reads data
        self._chunk = Signal(
            range(word_cycles(lines))
        )  # which part of a word the next clock brings

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += [
            self.ready.eq(self._step == self._step_read),
            self.error.eq(self._step == self._step_failed),
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
            pins.d_oe.eq(Mux((step == self._step_read) & (count != 0), self._kept, SINGLE_LINES)),
        ]
        m.d.sync += self._chunk.eq(0)
        with m.If(count != 0):
            m.d.sync += count.eq(count - 1)
        with m.Elif((step != self._step_failed) & ((step != self._step_read) | self._wanted)):
            m.d.sync += [count.eq(COUNT_FIRST), self._streaming.eq(step == self._step_read)]
            with m.If(step == self._step_read):
                m.d.sync += self._wanted.eq(0)
            m.next = "SEND"
        with m.If(count == self._gap_count):
            self._judge(m)

    def _judge(self, m: Module) -> None:
        """One cycle after a transaction's last clock: what its answer says of the flash."""
        step = self._step
        if self._lines != 4:
            with m.If((step == self._step_read) & ~self._changed):
                m.d.sync += step.eq(self._step_failed)
            return
        # Bit 7 (suspended) is 0 after power-up; a line that nobody drives may read 1 throughout.
        # The clock before the last one read the quad enable bit.
        enabled = self.pins.d_i[1] & ~self._first_bit
        with m.If((step == QUAD_FIRST_STATUS + 1) & enabled):
            m.d.sync += step.eq(self._step_read)
        with m.If((step == self._step_read) & ~enabled):
            m.d.sync += step.eq(self._step_failed)

    def _send(self, m: Module) -> None:
        """A transaction's clocks up to the data of a read."""
        pins, count, step = self.pins, self._count, self._step
        command = Signal(8)
        second = Signal(8)
        last = Signal.like(count)
        with m.Switch(step):
            for number, each in enumerate(self._steps):
                with m.Case(number):
                    m.d.comb += [
                        command.eq(each.command),
                        second.eq(each.second),
                        last.eq(each.last),
                    ]
        middle = Mux(step == self._step_read, self.address[16:], second)
        sent = Cat(self.address[:16], middle, command)
        m.d.comb += [
            pins.select.eq(1),
            pins.clock.eq(1),
            pins.d_o.eq(Cat(sent.bit_select(count[:5], 1), Const(0b111, 3))),
            pins.d_oe.eq(Mux(count[-1], self._kept, SINGLE_LINES)),  # released in dummy clocks
        ]
        m.d.sync += count.eq(count - 1)
        first = COUNT_COMMAND - 1 - PIN_LATENCY
        with m.If(count == first):
            m.d.sync += [self._first_bit.eq(pins.d_i[1]), self._changed.eq(0)]
        with m.Elif((count < first) & (pins.d_i[1] != self._first_bit)):
            m.d.sync += self._changed.eq(1)
        with m.If(count == last):
            m.next = "STREAM"
            with m.If(step != self._step_read):
                m.d.sync += [step.eq(step + 1), count.eq(self._gap_count)]
                m.next = "GAP"

    def _stream(self, m: Module) -> None:
        """The clocks of a word; the last waits until the word before is gone or going."""
        room = ~self.o.valid | self.o.ready
        last = word_cycles(self._lines) - 1
        m.d.comb += [
            self._run.eq(self._streaming & ((self._chunk != last) | room)),
            self.pins.select.eq(self._streaming),
            self.pins.clock.eq(self._run),
            self.pins.d_o.eq(PULLED_UP),
            self.pins.d_oe.eq(self._kept),
        ]
        m.d.sync += self._chunk.eq(self._chunk + self._run)
        with m.If(~self._streaming):
            m.d.sync += self._count.eq(RESTART_GAP)
            m.next = "GAP"

    def _assemble(self, m: Module) -> None:
        """What clocks bring, `PIN_LATENCY` cycles after them, to words and their CRC."""
        bits = self.pins.d_i[1:2] if self._lines == 1 else self.pins.d_i[: self._lines]
        arriving = Signal(PIN_LATENCY)
        completing = Signal(PIN_LATENCY)
        completed = Signal()
        before = Signal(16 - self._lines, reset_less=True)
        word = Cat(bits, before)  # its first byte above the second
        crc = Signal(16, init=0xFFFF)
        last = word_cycles(self._lines) - 1
        m.d.sync += [
            arriving.eq(Cat(self._run, arriving)),
            completing.eq(Cat(self._run & (self._chunk == last), completing)),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(completing[-1]):
            m.d.sync += self.o.payload.eq(Cat(word[8:], word[:8]))
        # One cycle later `crc` is that of all words up to this one.
        m.d.sync += completed.eq(completing[-1])
        with m.If(completed):
            m.d.sync += [self.o.valid.eq(1), self.crc_ok.eq(crc == 0)]
        with m.If(arriving[-1]):
            m.d.sync += [crc.eq(crc16_bits(crc, bits)), before.eq(word)]
        with m.If(~self._streaming | self.start | self.stop):
            m.d.sync += [self.o.valid.eq(0), crc.eq(0xFFFF)]


def crc16_bits(crc: Value, more: Value) -> Value:
    """CRC-16/CCITT-FALSE (polynomial 0x1021) after some more bits, most significant first."""
    bits = list(crc)
    for bit in reversed(list(more)):
        feedback = bits[15] ^ bit
        bits = [feedback, *bits[:15]]
        bits[5] = bits[5] ^ feedback
        bits[12] = bits[12] ^ feedback
    return Cat(*bits)
