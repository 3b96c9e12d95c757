"""The program of the array of lines in a board's SPI flash: a stream of 64-bit words.

The flash reader takes a step every few cycles of the array's clock: `FlashTiming.divider`. That is
a slot, and in a slot with a flash clock this clock rises in its middle and falls at its end. The
reader samples a whole slot after the falling edge that brings the bits, as hw/flash_reader.py says.
Where the clock goes out through a STARTUPE2, this edge is later than one of an I/O cell: 7.5 ns at
most through the cell (DS181, configuration switching characteristics), 8 ns from clock to output
of an S25FL128S, and some 7 ns of routing, board and input set-up leave 7 ns of a slot of 30 ns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, EnableInserter, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.flash_reader import READ_COMMANDS, FlashPins, FlashReader, word_cycles
from qcompile.hw.lines.program_memory import WORD_BITS

ADDRESS_BITS = 21
"""Of a word in the flash: byte addresses have 24 bits."""
PIECES = 4
"""Words of the reader in a word."""
SETUP_CLOCKS = 8
"""Flash clocks after reset, while the flash is not selected: a STARTUPE2 swallows the first three
(UG470, "USRCCLKO")."""
QUIET_SLOTS = 6
"""From `start` to the reader's: by then it has left a read before, and waits for the next."""
READER_SLOTS = 45
"""From the reader's `start` to its first word, without the clocks of that word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashTiming:
    """How fast a flash is read.

    Attributes
    ----------
    clock_hz : int
        Clock of the array.
    divider : int
        Its cycles in a slot, 2 or more.
    lines : int
        Data lines between flash and FPGA: 1, 2 or 4.
    """

    clock_hz: int
    divider: int
    lines: int

    def __post_init__(self) -> None:
        if self.divider < 2:
            raise ValueError(f"divider must be 2 or more, not {self.divider}")
        if self.lines not in READ_COMMANDS:
            raise ValueError(f"lines must be 1, 2 or 4, not {self.lines}")

    @property
    def word_cycles(self) -> int:
        """Cycles from a word to the next, where none waits."""
        return PIECES * word_cycles(self.lines) * self.divider

    @property
    def start_cycles(self) -> int:
        """Cycles from `start` to slot 0, which has the reader's `start`."""
        return 2 + QUIET_SLOTS * self.divider

    @property
    def first_word_cycles(self) -> int:
        """Cycles from `start` to the first word, where the flash is awake."""
        slots = READER_SLOTS + PIECES * word_cycles(self.lines) + 1
        return self.start_cycles + slots * self.divider


class FlashProgram(wiring.Component):
    """Words of the flash that are read one after another; ports as `ProgramMemory` has them.

    `start` makes `o` begin at an address: its word is valid `FlashTiming.first_word_cycles` later,
    the next ones `word_cycles` apart. `stop` ends the stream in the next cycle. Both drop the word
    that stands at `o`. After reset the flash wakes up first; a start before that waits.
    Backpressure: a word waits at `o`, and up to two of the next one's pieces behind it; then the
    flash clock pauses.

    Parameters
    ----------
    timing : FlashTiming

    Attributes
    ----------
    start : 1, in; start_address : 21, in
        The address is that of a word.
    stop : 1, in
    o : stream of 64 bits, out
    ready : 1, out
        The flash is awake.
    error : 1, out
        The flash does not answer.
    pins : FlashPins, out
        Towards one register in each direction. Other than the reader's, `clock` is the level of
        the flash clock.
    """

    start: Signal
    start_address: Signal
    stop: Signal
    o: Any
    ready: Signal
    error: Signal
    pins: Any

    def __init__(self, timing: FlashTiming) -> None:
        self.timing = timing
        slot_hz = -(-timing.clock_hz // timing.divider)
        self._reader = FlashReader(clock_hz=slot_hz, lines=timing.lines)
        super().__init__(
            {
                "start": In(1),
                "start_address": In(ADDRESS_BITS),
                "stop": In(1),
                "o": Out(stream.Signature(WORD_BITS)),
                "ready": Out(1),
                "error": Out(1),
                "pins": Out(FlashPins),
            }
        )
        self._phase = Signal(range(timing.divider))
        self._setup = Signal(range(SETUP_CLOCKS + 1), init=SETUP_CLOCKS)
        self._halting = Signal()  # the reader's `stop`, to the end of a slot
        self._beginning = Signal()  # the reader's `start`, for slot 0

    def elaborate(self, platform: object) -> Module:
        m = Module()
        reader, divider = self._reader, self.timing.divider
        slot_ends = Signal()
        enable = Signal()
        m.submodules.reader = EnableInserter(enable)(reader)
        m.d.comb += [
            slot_ends.eq(self._phase == divider - 1),
            enable.eq(slot_ends & (self._setup == 0)),
            reader.stop.eq(self._halting),
            reader.start.eq(self._beginning),
            self.ready.eq(reader.ready),
            self.error.eq(reader.error),
        ]
        m.d.sync += self._phase.eq(Mux(slot_ends, 0, self._phase + 1))
        with m.If(slot_ends):
            m.d.sync += [
                self._halting.eq(0),
                self._beginning.eq(0),
                self._setup.eq(self._setup - (self._setup != 0)),
            ]
        self._connect_pins(m)
        self._assemble(m, enable)
        self._control(m)
        return m

    def _connect_pins(self, m: Module) -> None:
        """The reader's pins, with the clock's level.

        Bits are taken as they were at the falling edge behind theirs, where the pins' registers
        have them in the next slot's second cycle; the reader wants them a slot later.
        """
        inner, divider = self._reader.pins, self.timing.divider
        late = self._phase >= divider // 2
        m.d.comb += [
            self.pins.select.eq(inner.select),
            self.pins.clock.eq(late & (inner.clock | (self._setup != 0))),
            self.pins.d_o.eq(inner.d_o),
            self.pins.d_oe.eq(inner.d_oe),
        ]
        bits = Signal.like(inner.d_i)
        source = self.pins.d_i
        if divider > 2:
            source = Signal.like(inner.d_i)
            with m.If(self._phase == 1):
                m.d.sync += source.eq(self.pins.d_i)
        with m.If(self._phase == divider - 1):
            m.d.sync += bits.eq(source)
        m.d.comb += inner.d_i.eq(bits)

    def _assemble(self, m: Module, enable: Signal) -> None:
        """Pieces to words. `accepts` stands for a slot, since the flash clock hangs on it."""
        piece = self._reader.o
        accepts = Signal()
        index = Signal(range(PIECES))
        takes = enable & piece.valid & accepts & ~self._halting
        ends = takes & (index == PIECES - 1)
        m.d.comb += piece.ready.eq(accepts)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(takes):
            m.d.sync += [
                index.eq(index + 1),
                self.o.payload.eq(Cat(self.o.payload, piece.payload)[len(piece.payload) :]),
            ]
        with m.If(ends):
            m.d.sync += self.o.valid.eq(1)
        with m.If(enable):
            m.d.sync += accepts.eq(~ends & (~self.o.valid | self.o.ready))
        with m.If(self.start | self.stop):
            m.d.sync += [self.o.valid.eq(0), index.eq(0)]

    def _control(self, m: Module) -> None:
        """Starts and stops; slot 0 begins when the reader is at rest, whatever it did before."""
        wanted = Signal()
        quiet = Signal(range(QUIET_SLOTS * self.timing.divider + 1))
        address = Signal.like(self.start_address, reset_less=True)
        m.d.comb += self._reader.address[3:].eq(address)
        with m.If(self.start | self.stop):
            m.d.sync += [self._halting.eq(1), self._beginning.eq(0), wanted.eq(self.start)]
        with m.Elif(wanted):
            with m.If(quiet != 0):
                m.d.sync += quiet.eq(quiet - 1)
            with m.Elif(self.ready & ~self._reader.pins.select):
                m.d.sync += [wanted.eq(0), self._beginning.eq(1), self._phase.eq(0)]
        with m.If(self.start):
            m.d.sync += [
                address.eq(self.start_address),
                quiet.eq(QUIET_SLOTS * self.timing.divider),
            ]
