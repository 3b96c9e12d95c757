"""The host link: UART frames to memory accesses, flash reads and control of the accelerator.

Frames and codes are those of `runtime/protocol.py` (docs/architecture.md section 6). Nothing is
buffered: words of WRITE_MEMORY go to memory as they arrive, those of READ_MEMORY leave as they are
read, and the CRC is computed bit by bit beside the UART.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.beat_window import BeatWindow
from qcompile.hw.crc import SerialCrc32
from qcompile.hw.layouts import ADDRESS_BITS
from qcompile.hw.link_ports import MemoryShape, link_ports
from qcompile.hw.uart import UartReceiver, UartTransmitter, clocks_per_bit
from qcompile.runtime import protocol
from qcompile.runtime.protocol import PARTIAL_WRITES, Command, State, Status

TIMER_LOW_BITS = 16
"""Bits of the frame timer that its end does not look at: it ends up to 3 ms late."""
PAYLOAD_BYTES = {
    Command.INFO: 0,
    Command.READ_MEMORY: 4,
    Command.READ_FLASH: 6,
    Command.START: 6,
    Command.STATUS: 0,
    Command.WAIT: 0,
    Command.ABORT: 0,
    Command.RESUME: 2,
}
"""Bytes of every request's payload but those of writes: there 2 and any number of words."""


class HostLink(wiring.Component):
    """Receives a request, does it, replies; one at a time.

    A byte takes ten bit times (80 to 100 cycles) and everything else a few cycles, so a memory
    that answers within 60 cycles never slows the link. Backpressure: none towards the UART.
    Bytes that arrive while a reply leaves are lost.

    The payload register holds, low to high, a 16-bit memory address and a 32-bit beat, or the
    flash address and `stop_after`; it changes only while the accelerator is not running. Where
    memory words have several beats, a `BeatWindow` stands between the register and memory.

    Parameters
    ----------
    info : protocol.Info
        What INFO tells; a memory word has `columns` bytes, and the `sync` domain's clock is
        `clock_hz`.
    address_bits : int
        Of memory words, 16 at most.
    baud : int

    Attributes
    ----------
    rx : 1, in; tx : 1, out
        The serial line; `rx` already synchronized.
    others : `link_ports.link_ports`
        The flash's address stays for a whole run, for no command that is accepted while running
        changes it. A flash that is not ready, and one in a run, is answered by BUSY.
    """

    rx: Signal
    tx: Signal
    host_valid: Signal
    host_ready: Signal
    host_write: Signal
    host_address: Signal
    host_write_data: Signal
    host_data: Signal
    host_data_valid: Signal
    start: Signal
    resume: Signal
    abort: Signal
    stop_after: Signal
    state: Signal
    error: Signal
    layers_done: Signal
    cycles: Signal
    flash_address: Signal
    flash_start: Signal
    flash_stop: Signal
    flash_i: stream.Interface
    flash_ready: Signal

    def __init__(
        self,
        info: protocol.Info,
        *,
        address_bits: int = ADDRESS_BITS,
        baud: int = protocol.BAUD,
    ) -> None:
        memory = MemoryShape(word_bits=8 * info.columns, address_bits=address_bits)
        self._clocks_per_bit = clocks_per_bit(info.clock_hz, baud)
        timeout_clocks = info.clock_hz * protocol.FRAME_TIMEOUT_SECONDS
        self._timeout = ceil(timeout_clocks / (1 << TIMER_LOW_BITS))
        self._info = protocol.info_payload(info)
        self._memory = memory
        super().__init__({"rx": In(1), "tx": Out(1), **link_ports(memory)})
        self._window = BeatWindow(memory) if memory.beats > 1 else None
        self._access: Any = self if self._window is None else self._window.beats
        """The host port that beats of 32 bits go through."""
        self._command = Signal(4)
        self._status = Signal(3)
        self._length = Signal(16)  # of the payload: bytes that are still to come or to go
        self._memory_address = Signal(16)
        self._word = Signal(32)
        self._index = Signal(4)
        self._writing = Signal()
        self._crc_wrong = Signal()
        # What the states do to these registers; `_registers` does it.
        self._word_shift = Signal()
        self._word_load = Signal()
        self._address_shift = Signal()
        self._address_step = Signal()
        self._length_shift = Signal()
        self._length_byte = Signal(8)
        self._length_step = Signal()
        self._index_step = Signal()
        self._index_clear = Signal()
        self._receiver = UartReceiver(clocks=self._clocks_per_bit)
        self._transmitter = UartTransmitter(clocks=self._clocks_per_bit)
        self._crc = SerialCrc32()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = self._receiver
        m.submodules.transmitter = self._transmitter
        m.submodules.crc = self._crc
        receiving = Signal()
        timer = Signal(TIMER_LOW_BITS + self._timeout.bit_length())

        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(self._transmitter.tx),
            self._crc.data_bit.eq(Mux(receiving, receiver.data_bit, self._transmitter.data_bit)),
            self._crc.enable.eq(
                Mux(receiving, receiver.data_bit_valid, self._transmitter.data_bit_valid)
            ),
            self._access.host_write.eq(self._writing),
            self._access.host_address.eq(self._memory_address),
            self._access.host_write_data.eq(self._word),
            self.flash_address.eq(Cat(self._memory_address, self._word)),
            self.stop_after.eq(self._word[16:]),
        ]
        with m.If(~receiving | receiver.valid):
            m.d.sync += timer.eq(0)
        with m.Else():
            m.d.sync += timer.eq(timer + 1)
        self._registers(m)
        if self._window is not None:
            self._connect(m, self._window)
        with m.FSM():
            self._receive(m, receiving, late=timer[TIMER_LOW_BITS:] == self._timeout)
            self._execute(m)
            self._reply(m)
        return m

    def _connect(self, m: Module, window: BeatWindow) -> None:
        """Beats go through the window, which forgets them where a frame or a reply begins."""
        m.submodules.window = window
        partial = Mux(self._command >= min(PARTIAL_WRITES), self._command[:2], 0)
        m.d.comb += [window.clear.eq(self._crc.clear), window.partial.eq(partial)]
        for name in ("host_valid", "host_write", "host_address", "host_write_data"):
            m.d.comb += getattr(self, name).eq(getattr(window, name))
        for name in ("host_ready", "host_data", "host_data_valid"):
            m.d.comb += getattr(window, name).eq(getattr(self, name))

    def _registers(self, m: Module) -> None:
        """Payload register, length and index, and the write of WRITE_MEMORY's complete words."""
        byte, word, address = self._receiver.data, self._word, self._memory_address
        with m.If(self._word_shift | self._word_load):
            m.d.sync += word.eq(Mux(self._word_load, self._access.host_data, Cat(word[8:], byte)))
        with m.If(self._address_shift | self._address_step):
            shifted = Cat(address[8:], word[:8])
            m.d.sync += address.eq(Mux(self._address_shift, shifted, address + 1))
        with m.If(self._length_shift | self._length_step):
            shifted = Cat(self._length[8:], self._length_byte)
            m.d.sync += self._length.eq(Mux(self._length_shift, shifted, self._length - 1))
        with m.If(self._index_clear):
            m.d.sync += self._index.eq(0)
        with m.Elif(self._index_step):
            m.d.sync += self._index.eq(self._index + 1)
        with m.If(self._writing):
            m.d.comb += self._access.host_valid.eq(1)
            m.d.comb += self._address_step.eq(self._access.host_ready)
            with m.If(self._access.host_ready):
                m.d.sync += self._writing.eq(0)

    def _receive(self, m: Module, receiving: Signal, *, late: Value) -> None:
        """States from the first byte of a request to its last."""
        receiver, crc, empty = self._receiver, self._crc, self._length == 0
        first = receiver.valid & (receiver.data == protocol.REQUEST_SYNC)
        with m.State("IDLE"):
            m.d.comb += crc.clear.eq(1)
            m.d.comb += self._index_clear.eq(1)
            m.d.sync += self._crc_wrong.eq(0)
            with m.If(first):
                m.next = "COMMAND"
        with m.State("COMMAND"):
            m.d.comb += receiving.eq(1)
            m.d.sync += self._command.eq(Mux(receiver.data[4:] == 0, receiver.data[:4], 0))
            with m.If(receiver.valid):
                m.next = "LENGTH"
            with m.Elif(late):
                m.next = "IDLE"
        with m.State("LENGTH"):
            m.d.comb += receiving.eq(1)
            with m.If(receiver.valid):
                m.d.comb += [
                    self._length_byte.eq(receiver.data),
                    self._length_shift.eq(1),
                    self._index_step.eq(1),
                ]
            with m.Elif(self._index[1]):
                self._check(m)
                m.next = "PAYLOAD"
            with m.Elif(late):
                m.next = "IDLE"
        with m.State("PAYLOAD"):
            m.d.comb += receiving.eq(1)
            with m.If(empty):
                m.d.comb += self._index_clear.eq(1)
                m.next = "CRC"
            with m.Elif(receiver.valid):
                self._take(m)
            with m.Elif(late):
                m.next = "IDLE"
        with m.State("CRC"):
            m.d.comb += [receiving.eq(1), crc.shift_only.eq(1)]
            with m.If(receiver.data_bit_valid & (receiver.data_bit == crc.low[0])):
                m.d.sync += self._crc_wrong.eq(1)
            with m.If(receiver.valid):
                m.d.comb += self._index_step.eq(1)
                with m.If(self._index[:2] == 3):
                    m.next = "EXECUTE"
            with m.Elif(late):
                m.next = "IDLE"
        with m.State("WAIT"):
            m.d.comb += crc.clear.eq(1)
            m.d.comb += self._index_clear.eq(1)
            m.d.sync += self._crc_wrong.eq(0)
            with m.If(receiver.valid):
                m.next = "IDLE"
                with m.If(first):
                    m.next = "COMMAND"
            with m.Elif(self.state != State.RUNNING):
                m.next = "SYNC"

    def _check(self, m: Module) -> None:
        """Whether command, length and state fit together: sets the reply's status.

        `_index` is 2 afterwards: a write's two address bytes count 2, 3, its first beat 4 to 7, the
        others 8 to 11.
        """
        running = self.state == State.RUNNING
        in_run = running | (self.state == State.PAUSED)
        length_ok = Signal()
        busy = Signal()
        known = Signal()
        with m.Switch(self._command):
            for command in self._commands():
                with m.Case(command):
                    m.d.comb += known.eq(1)
                    if command in PAYLOAD_BYTES:
                        m.d.comb += length_ok.eq(self._length == PAYLOAD_BYTES[command])
                    else:
                        words = 4 if command in PARTIAL_WRITES else self._memory.word_bits // 8
                        m.d.comb += length_ok.eq(self._length[: words.bit_length() - 1] == 2)
                    match command:
                        case Command.READ_MEMORY:
                            m.d.comb += busy.eq(running)
                        case _ if command not in PAYLOAD_BYTES:
                            m.d.comb += busy.eq(running)
                        case Command.START:
                            m.d.comb += busy.eq(in_run)
                        case Command.READ_FLASH:
                            m.d.comb += busy.eq(in_run | ~self.flash_ready)
                        case Command.RESUME:
                            m.d.comb += busy.eq(self.state != State.PAUSED)
        with m.If(~known):
            m.d.sync += self._status.eq(Status.UNKNOWN_COMMAND)
        with m.Elif(~length_ok):
            m.d.sync += self._status.eq(Status.BAD_LENGTH)
        with m.Elif(busy):
            m.d.sync += self._status.eq(Status.BUSY)
        with m.Else():
            m.d.sync += self._status.eq(Status.OK)

    def _commands(self) -> list[Command]:
        """Those that memory words of this width have."""
        beats = self._memory.beats
        return [c for c in Command if PARTIAL_WRITES.get(c, 0) < beats]

    def _take(self, m: Module) -> None:
        """One payload byte into the register; after a word's last one, ask for the write."""
        accepted = self._status == Status.OK
        write = accepted & (self._command == Command.WRITE_MEMORY)
        for command in self._commands():
            if command in PARTIAL_WRITES:
                write = write | (accepted & (self._command == command))
        m.d.comb += [
            self._length_step.eq(1),
            self._word_shift.eq(accepted),
            self._address_shift.eq(accepted & ~self._index[3]),
            self._index_step.eq(1),
        ]
        with m.If((self._index[:2] == 3) & (self._index[2:] != 0)):
            m.d.sync += self._writing.eq(write)
        with m.If(self._index == 11):
            m.d.sync += self._index.eq(8)

    def _execute(self, m: Module) -> None:
        """Act on a request whose last byte has come."""
        with m.State("EXECUTE"):
            m.next = "SYNC"
            with m.If(self._crc_wrong):
                m.d.sync += self._status.eq(Status.BAD_CRC)
            with m.Elif(self._status == Status.OK):
                m.d.comb += [
                    self.start.eq(self._command == Command.START),
                    self.resume.eq(self._command == Command.RESUME),
                    self.abort.eq(self._command == Command.ABORT),
                    self.flash_start.eq(self._command == Command.READ_FLASH),
                ]
                with m.If(self._command == Command.WAIT):
                    m.next = "WAIT"

    def _reply(self, m: Module) -> None:
        """States from the first byte of a reply to its last."""
        i, crc, empty = self._transmitter.i, self._crc, self._length == 0
        with m.State("SYNC"):
            m.d.comb += [i.payload.eq(protocol.REPLY_SYNC), i.valid.eq(1)]
            with m.If(i.ready):
                m.next = "STATUS"
        with m.State("STATUS"):  # the first byte's bits leave meanwhile: not for the CRC
            m.d.comb += [crc.clear.eq(1), i.payload.eq(self._status), i.valid.eq(1)]
            m.d.comb += self._index_clear.eq(1)
            with m.If(i.ready):
                m.next = "REPLY_LENGTH"
        with m.State("REPLY_LENGTH"):
            self._reply_length(m)
        with m.State("DATA"):
            with m.If(empty):
                m.d.comb += [
                    self.flash_stop.eq(self._command == Command.READ_FLASH),
                    self._index_clear.eq(1),
                ]
                m.next = "REPLY_CRC"
            with m.Else():
                self._send_data(m)
        with m.State("FETCH"):
            m.d.comb += self._access.host_valid.eq(1)
            with m.If(self._access.host_ready):
                m.d.comb += self._address_step.eq(1)
                m.next = "FETCHED"
        with m.State("FETCHED"), m.If(self._access.host_data_valid):
            m.d.comb += self._word_load.eq(1)
            m.d.sync += self._index.eq(4)
            m.next = "DATA"
        with m.State("REPLY_CRC"):  # the last byte's bits leave until the first is taken
            m.d.comb += [
                crc.shift_only.eq(self._index[:2] != 0),
                i.payload.eq(~crc.low),
                i.valid.eq(1),
            ]
            with m.If(i.ready):
                m.d.comb += self._index_step.eq(1)
                with m.If(self._index[:2] == 3):
                    m.next = "IDLE"

    def _reply_length(self, m: Module) -> None:
        """Send the two length bytes and keep them as the count of bytes to send.

        READ_MEMORY and READ_FLASH take their count, the last two bytes of their payload, from bit
        16 of the word; shifting it out moves READ_MEMORY's address to where it counts.
        """
        i, second = self._transmitter.i, self._index[0]
        byte = Signal(8)
        reads = Signal()
        with m.If(self._status == Status.OK), m.Switch(self._command):
            with m.Case(Command.INFO):
                m.d.comb += byte.eq(Mux(second, 0, len(self._info)))
            with m.Case(Command.STATUS, Command.WAIT):
                m.d.comb += byte.eq(Mux(second, 0, 8))
            with m.Case(Command.READ_FLASH):
                m.d.comb += [reads.eq(1), byte.eq(self._word[16:24])]
            with m.Case(Command.READ_MEMORY):  # beats, so four times as many bytes
                low = Mux(second, self._word[14:16], 0)
                m.d.comb += [reads.eq(1), byte.eq(Cat(low, self._word[16:22]))]
        m.d.comb += [i.payload.eq(byte), i.valid.eq(1), self._length_byte.eq(byte)]
        with m.If(i.ready):
            m.d.comb += [
                self._length_shift.eq(1),
                self._word_shift.eq(reads),
                self._address_shift.eq(reads),
                self._index_step.eq(1),
                self._index_clear.eq(second),
            ]
            with m.If(second):
                m.next = "DATA"

    def _send_data(self, m: Module) -> None:
        """One byte of the reply's payload.

        `_index` counts bytes; READ_MEMORY's has bit 2 set while a beat is there to be sent.
        """
        i, index = self._transmitter.i, self._index
        status = Cat(self.state, Const(0, 5), self.error, self.layers_done, self.cycles)
        info = Array(Const(byte, 8) for byte in self._info)
        word = self.flash_i.payload
        m.d.comb += i.valid.eq(1)
        with m.Switch(self._command):
            with m.Case(Command.INFO):
                m.d.comb += i.payload.eq(info[index])
            with m.Case(Command.READ_MEMORY):
                m.d.comb += [i.valid.eq(index[2]), i.payload.eq(self._word[:8])]
                with m.If(~index[2]):
                    m.next = "FETCH"
                m.d.comb += self._word_shift.eq(index[2] & i.ready)
            with m.Case(Command.READ_FLASH):
                m.d.comb += [
                    i.valid.eq(self.flash_i.valid),
                    i.payload.eq(Mux(index[0], word[8:], word[:8])),
                    self.flash_i.ready.eq(index[0] & i.ready),
                ]
            with m.Default():
                m.d.comb += i.payload.eq(status.word_select(index[:3], 8))
        with m.If(i.valid & i.ready):
            m.d.comb += [self._index_step.eq(1), self._length_step.eq(1)]
