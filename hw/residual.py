"""Fetches the residual operand's words, each before its row of the drain starts."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.drain import STEP_LAYER
from qcompile.hw.layouts import BANK_ADDRESS_BITS

SLOTS = 8
"""Words on their way: one for each row in the requantization unit, and two more."""


class ResidualReader(wiring.Component):
    """Holds a row back until its residual word is granted, and hands out the words' codes in order.

    Words lie as those that the layer writes do, `offset` words on. The address moves on with the
    rows that start, by the step that the sequencer answers in the cycle after `step_entry`; so a
    row goes every six cycles at most. Words wait in block RAM for their row's codes.
    Backpressure: `request` waits for `grant`; the word follows one cycle later.

    Parameters
    ----------
    code_bits : int
        Bits of a code, 4 or 8.

    Attributes
    ----------
    enable : 1, in
        The layer has a residual operand; otherwise rows are always ready.
    begin : 1, in
        A layer starts.
    load_start : 1, in; step_word : 16, in; offset : 14, in
        The layer's first write address is at `step_word`.
    row_step : 1, in; step, step_held : 2, in
        A row's step is known in this cycle; what it is, and the same from the next cycle on.
    step_reading : 1, out; step_entry : 2, out; step_free : 1, in
        Asks the sequencer for a step; it has to be free.
    row_start : 1, in
    request : 1, out; address : 14, out; grant : 1, in; word : 4 x code_bits, in
    row_ready : 1, out
        The row may start: its word was granted.
    code : code_bits, out; take : 1, in
        The next code, and that it is used in this cycle.
    """

    enable: Signal
    begin: Signal
    load_start: Signal
    step_word: Signal
    offset: Signal
    row_step: Signal
    step: Signal
    step_held: Signal
    step_reading: Signal
    step_entry: Signal
    step_free: Signal
    row_start: Signal
    request: Signal
    address: Signal
    grant: Signal
    word: Signal
    row_ready: Signal
    code: Signal
    take: Signal

    def __init__(self, code_bits: int) -> None:
        super().__init__(
            {
                "enable": In(1),
                "begin": In(1),
                "load_start": In(1),
                "step_word": In(16),
                "offset": In(BANK_ADDRESS_BITS),
                "row_step": In(1),
                "step": In(2),
                "step_held": In(2),
                "step_reading": Out(1),
                "step_entry": Out(2),
                "step_free": In(1),
                "row_start": In(1),
                "request": Out(1),
                "address": Out(BANK_ADDRESS_BITS),
                "grant": In(1),
                "word": In(4 * code_bits),
                "row_ready": Out(1),
                "code": Out(code_bits),
                "take": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        stepped = self._steps(m)
        granted = Signal()
        fetched = Signal()
        m.d.comb += [
            granted.eq(self.request & self.grant),
            self.row_ready.eq(~self.enable | fetched),
        ]
        with m.If(self.begin | stepped):
            m.d.sync += self.request.eq(self.enable)
        with m.Elif(self.grant):
            m.d.sync += self.request.eq(0)
        with m.If(self.begin | self.row_start):
            m.d.sync += fetched.eq(0)
        with m.Elif(granted):
            m.d.sync += fetched.eq(1)
        if len(self.word) == 16:
            self._short_words(m, granted)
        else:
            self._words(m, granted)
        return m

    def _steps(self, m: Module) -> Signal:
        """The address; returns that it has moved on to the next row's at the end of this cycle."""
        pending = Signal()
        stepped = Signal()
        asks = self.row_step & (self.step != STEP_LAYER) & self.enable
        m.d.comb += [
            self.step_entry.eq(Mux(pending, self.step_held, self.step)),
            self.step_reading.eq((pending | asks) & self.step_free),
        ]
        m.d.sync += [
            pending.eq((pending | asks) & ~self.step_free),
            stepped.eq(self.step_reading),
        ]
        with m.If(stepped | self.load_start):
            base = Mux(self.load_start, self.offset, self.address)
            m.d.sync += self.address.eq(base + self.step_word[:BANK_ADDRESS_BITS])
        return stepped

    def _words(self, m: Module, granted: Signal) -> None:
        """Words go to block RAM in halves; the next byte always stands at `code`."""
        ram: memory.Memory = memory.Memory(shape=16, depth=2 * SLOTS, init=[])
        m.submodules.ram = ram
        write, read = ram.write_port(), ram.read_port()
        arriving = Signal(2)
        high = Signal(16, reset_less=True)
        half = Signal(range(2 * SLOTS))
        byte = Signal(range(4 * SLOTS))
        following = Signal.like(byte)
        m.d.sync += [arriving.eq(Cat(granted, arriving[0])), high.eq(self.word[16:])]
        with m.If(arriving.any()):
            m.d.sync += half.eq(half + 1)
        m.d.comb += [
            write.addr.eq(half),
            write.data.eq(Mux(arriving[0], self.word[:16], high)),
            write.en.eq(arriving.any()),
            # The address of the byte that is wanted in the next cycle.
            following.eq(byte + (self.take & self.enable)),
            read.addr.eq(following[1:]),
            read.en.eq(1),
            self.code.eq(Mux(byte[0], read.data[8:], read.data[:8])),
        ]
        m.d.sync += byte.eq(following)

    def _short_words(self, m: Module, granted: Signal) -> None:
        """Words of 16 bits go to block RAM whole; the next code always stands at `code`."""
        ram: memory.Memory = memory.Memory(shape=16, depth=SLOTS, init=[])
        m.submodules.ram = ram
        write, read = ram.write_port(), ram.read_port()
        arriving = Signal()
        slot = Signal(range(SLOTS))
        number = Signal(range(4 * SLOTS))
        following = Signal.like(number)
        m.d.sync += [arriving.eq(granted), number.eq(following)]
        with m.If(arriving):
            m.d.sync += slot.eq(slot + 1)
        m.d.comb += [
            write.addr.eq(slot),
            write.data.eq(self.word),
            write.en.eq(arriving),
            following.eq(number + (self.take & self.enable)),
            read.addr.eq(following[2:]),
            read.en.eq(1),
            self.code.eq(read.data.word_select(number[:2], 4)),
        ]
