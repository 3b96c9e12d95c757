"""The host link as AXI: what `hw/host_link.py` does with frames, with registers and streams."""

from __future__ import annotations

import struct
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.axi.arbiter import WordArbiter
from qcompile.hw.axi.lite_slave import AxiLiteSlave
from qcompile.hw.axi.signatures import AXI_STREAM, axi_lite
from qcompile.hw.axi.stream_sink import StreamSink
from qcompile.hw.axi.stream_source import StreamSource
from qcompile.hw.axi.window import MemoryWindow
from qcompile.hw.layouts import ADDRESS_BITS
from qcompile.hw.link_ports import MemoryShape, link_ports
from qcompile.runtime import protocol
from qcompile.runtime.protocol import REGISTER_ADDRESS_BITS, Control, Register, State, Status

SETTLE_CYCLES = 4
"""From a command to its response: the accelerator's state is right by then."""
FULL_STROBE = 0b1111


class AxiLink(wiring.Component):
    """Registers (docs/architecture.md section 6) and two streams in front of the accelerator.

    The response stands three cycles after address and data have come, of a memory word that is
    written one more, of one that is read two more, of a write to CONTROL three more. Nothing waits
    for a run to end but the streams of an accelerator whose memory is its own in a run: what the
    state forbids is answered at once, does nothing and leaves `Status.BUSY` in RESULT.
    Backpressure: see AxiLiteSlave, StreamSink and StreamSource.

    Parameters
    ----------
    info : protocol.Info
        What INFO tells; a memory word has `columns` bytes.
    address_bits : int
        Of memory words, 24 at most.
    queues : bool
        Memory takes the host's accesses during a run, after the accelerator's own, and
        `stop_after` may change then: the next input comes while the last one is computed.

    Attributes
    ----------
    axi : axi_lite(12), in
        Addresses are byte offsets of `protocol.Register`.
    words_i : AXI_STREAM, in; words_o : AXI_STREAM, out
        Memory words from IN_ADDRESS on; OUT_COUNT words from OUT_ADDRESS on.
    others : `link_ports.link_ports`
        `flash_address` and, unless inputs queue, `stop_after` are registers that cannot be
        written while they count.
    """

    axi: Any
    words_i: Any
    words_o: Any
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
        self, info: protocol.Info, *, address_bits: int = ADDRESS_BITS, queues: bool = False
    ) -> None:
        memory = MemoryShape(word_bits=8 * info.columns, address_bits=address_bits)
        self._info = struct.unpack("<4I", protocol.info_payload(info))
        super().__init__(
            {
                "axi": In(axi_lite(REGISTER_ADDRESS_BITS)),
                "words_i": In(AXI_STREAM),
                "words_o": Out(AXI_STREAM),
                **link_ports(memory),
            }
        )
        self._bus = AxiLiteSlave(REGISTER_ADDRESS_BITS)
        self._arbiter = WordArbiter(memory, clients=3)
        self._window = MemoryWindow(memory)
        self._sink = StreamSink(memory)
        self._source = StreamSource(memory)
        self._result = Signal(3)
        self._reading_flash = Signal()
        self._set_program_address = Signal()
        self._set_stop_after = Signal()
        self._busy = Signal()
        """The request must not be done now."""
        self._written = Signal(32)
        """A register's value after the write of those bytes that have a strobe."""
        self._running = self.state == State.RUNNING
        self._memory_taken: ValueLike = 0 if queues else self._running
        self._flash_taken = self._running | (self.state == State.PAUSED) | self._reading_flash
        sink, source = self._sink, self._source
        self._settings: dict[int, tuple[Signal, ValueLike]] = {
            Register.PROGRAM_ADDRESS: (self._set_program_address, self._flash_taken),
            Register.STOP_AFTER: (self._set_stop_after, self._memory_taken),
            Register.MEMORY_ADDRESS: (self._window.load, 0),
            Register.IN_ADDRESS: (sink.load, sink.busy),
            Register.OUT_ADDRESS: (source.load, source.busy),
            Register.OUT_COUNT: (source.start, source.busy),
        }
        """Pulses that take `_written`, and when that must not be."""

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.bus = bus = self._bus
        m.submodules.arbiter = self._arbiter
        m.submodules.window = self._window
        m.submodules.sink = self._sink
        m.submodules.source = self._source
        self._connect(m)
        written = [
            Mux(enabled, bus.data.word_select(byte, 8), bus.read_data.word_select(byte, 8))
            for byte, enabled in enumerate(bus.strobe)
        ]
        m.d.comb += [bus.done.eq(1), self._written.eq(Cat(written))]
        with m.Switch(bus.index):
            for register, value in self._values().items():
                with m.Case(register // 4):
                    m.d.comb += bus.read_data.eq(value)
                    self._request(m, register)
            with m.Default():
                m.d.comb += bus.refused.eq(1)
        with m.If(self._set_program_address):
            m.d.sync += self.flash_address.eq(self._written)
        with m.If(self._set_stop_after):
            m.d.sync += self.stop_after.eq(self._written)
        with m.If(bus.request & self._busy):
            m.d.sync += self._result.eq(Status.BUSY)
        return m

    def _connect(self, m: Module) -> None:
        arbiter = self._arbiter
        wiring.connect(m, wiring.flipped(self.axi), self._bus.axi)
        wiring.connect(m, wiring.flipped(self.words_i), self._sink.i)
        wiring.connect(m, wiring.flipped(self.words_o), self._source.o)
        clients = (self._window.access, self._sink.access, self._source.access)
        for client, access in zip(arbiter.clients, clients, strict=True):
            wiring.connect(m, client, access)
        for name in ("host_valid", "host_write", "host_address", "host_write_data"):
            m.d.comb += getattr(self, name).eq(getattr(arbiter, name))
        for name in ("host_ready", "host_data", "host_data_valid"):
            m.d.comb += getattr(arbiter, name).eq(getattr(self, name))
        m.d.comb += [self._window.write.eq(self._bus.write), self._window.data.eq(self._bus.data)]
        for address in (
            self._window.load_address,
            self._sink.load_address,
            self._source.load_address,
            self._source.start_count,
        ):
            m.d.comb += address.eq(self._written)

    def _values(self) -> dict[int, Value]:
        """What each register reads as; others do not exist."""
        info = {Register.INFO + 4 * i: Const(word, 32) for i, word in enumerate(self._info)}
        state = Cat(self.state, Const(0, 5), self.error, self.layers_done)
        window = self._window
        return {
            **info,
            Register.STATUS: state,
            Register.STATUS + 4: self.cycles,
            Register.RESULT: self._result,
            Register.CONTROL: Const(0, 32),
            Register.PROGRAM_ADDRESS: self.flash_address,
            Register.STOP_AFTER: self.stop_after,
            Register.FLASH_DATA: Cat(self.flash_i.payload, self.flash_i.valid),
            Register.MEMORY_ADDRESS: window.address,
            Register.MEMORY_DATA: Mux(window.request, window.read_data, 0),
            Register.IN_ADDRESS: self._sink.address,
            Register.OUT_ADDRESS: self._source.address,
            Register.OUT_COUNT: self._source.count,
        }

    def _request(self, m: Module, register: int) -> None:
        """What a request to this register does."""
        bus = self._bus
        strobed = bus.request & bus.write & bus.strobe.any()
        match register:
            case Register.RESULT:
                with m.If(strobed):
                    m.d.sync += self._result.eq(Status.OK)
            case Register.CONTROL:
                self._control(m, strobed)
            case Register.FLASH_DATA:
                m.d.comb += [
                    bus.refused.eq(bus.write),
                    self.flash_i.ready.eq(bus.request & ~bus.write),
                ]
            case Register.MEMORY_DATA:
                self._memory_data(m)
            case _ if register in self._settings:
                pulse, busy = self._settings[register]
                m.d.comb += pulse.eq(self._allowed(m, strobed, busy))
            case _:
                m.d.comb += bus.refused.eq(bus.write)

    def _allowed(self, m: Module, wanted: Value, busy: ValueLike) -> Value:
        """Whether what is wanted can be done; where it cannot, RESULT tells."""
        m.d.comb += self._busy.eq(wanted & Value.cast(busy))
        return wanted & ~Value.cast(busy)[0]

    def _memory_data(self, m: Module) -> None:
        """A beat through the window; a part of one is refused."""
        bus, window = self._bus, self._window
        whole = ~bus.write | (bus.strobe == FULL_STROBE)
        m.d.comb += [
            bus.refused.eq(~whole),
            window.request.eq(self._allowed(m, bus.request & whole, self._memory_taken)),
        ]
        with m.If(window.request):
            m.d.comb += bus.done.eq(window.done)

    def _control(self, m: Module, strobed: Value) -> None:
        """A command in the request's first cycle, the response when the state is right."""
        settle = Signal(range(SETTLE_CYCLES))
        with m.If(self._bus.request & self._bus.write):
            m.d.comb += self._bus.done.eq(settle == SETTLE_CYCLES - 1)
            m.d.sync += settle.eq(settle + 1)
        commands = (
            (Control.START, self.start, self._flash_taken),
            (Control.RESUME, self.resume, self.state != State.PAUSED),
            (Control.ABORT, self.abort, 0),
            (Control.READ_FLASH, self.flash_start, self._flash_taken | ~self.flash_ready),
            (Control.END_FLASH, self.flash_stop, 0),
        )
        taken: Value = strobed & (settle == 0)
        for bit, pulse, busy in commands:
            wanted = taken & (self._written & bit).any()
            with m.If(wanted):
                m.d.comb += pulse.eq(self._allowed(m, wanted, busy))
            taken = taken & ~(self._written & bit).any()
        with m.If(self.abort):
            m.d.comb += self.flash_stop.eq(1)
        with m.If(self.flash_start):
            m.d.sync += self._reading_flash.eq(1)
        with m.If(self.flash_stop):
            m.d.sync += self._reading_flash.eq(0)
