"""The accelerator core: program stream and host port in, finished tensors in memory."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.engine import Engine
from qcompile.hw.layouts import ADDRESS_BITS
from qcompile.hw.memory import ActivationMemory
from qcompile.hw.sequencer import State


class Accelerator(wiring.Component):
    """Everything between the flash stream, the host link and the clock.

    Ports and their meaning: docs/architecture.md section 7. The memory keeps its contents over
    an abort; everything else is reset by `start` and `abort`.

    Host access takes one cycle a word while nothing runs; `host_ready` is low otherwise. A read's
    word stands at `host_data` with `host_data_valid` one cycle after the request was taken.
    """

    program: Any
    program_crc_ok: Signal
    program_start: Signal
    program_stop: Signal
    host_valid: Signal
    host_ready: Signal
    host_write: Signal
    host_address: Signal
    host_write_data: Signal
    host_data: Signal
    host_data_valid: Signal
    start: Signal
    stop_after: Signal
    resume: Signal
    abort: Signal
    state: Signal
    error: Signal
    layers_done: Signal
    cycles: Signal

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "program": In(stream.Signature(16)),
                "program_crc_ok": In(1),
                "program_start": Out(1),
                "program_stop": Out(1),
                "host_valid": In(1),
                "host_ready": Out(1),
                "host_write": In(1),
                "host_address": In(ADDRESS_BITS),
                "host_write_data": In(32),
                "host_data": Out(32),
                "host_data_valid": Out(1),
                "start": In(1),
                "stop_after": In(16),
                "resume": In(1),
                "abort": In(1),
                "state": Out(3),
                "error": Out(8),
                "layers_done": Out(16),
                "cycles": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = ActivationMemory(self.config)
        restart = Signal()
        engine = Engine(self.config)
        m.submodules.engine = ResetInserter(restart)(engine)
        starting = Signal()
        started = Signal()
        host_read = Signal()
        # Cycle 0: start or abort comes. Cycle 1: the engine is reset and the stream stopped.
        # Cycle 2: after a start, engine and stream start; a word of the stream before may still
        # stand at the port.
        stale = restart | started
        m.d.sync += [
            restart.eq(self.start | self.abort),
            starting.eq(self.start),
            started.eq(starting),
            engine.resume.eq(self.resume),
            host_read.eq(self.host_valid & self.host_ready & ~self.host_write),
        ]
        m.d.comb += [
            engine.start.eq(started),
            self.program_start.eq(started),
            self.program_stop.eq((restart & ~starting) | engine.ended),
            engine.stop_after.eq(self.stop_after),
            self.program.ready.eq(engine.program.ready & ~stale),
            engine.program.valid.eq(self.program.valid & ~stale),
            engine.program.payload.eq(self.program.payload),
            engine.program_crc_ok.eq(self.program_crc_ok),
            self.state.eq(Mux(starting | started, State.RUNNING, engine.state)),
            self.error.eq(engine.error),
            self.layers_done.eq(engine.layers_done),
            self.cycles.eq(engine.cycles),
            memory.feed.eq(engine.feed),
            memory.feed_bank.eq(engine.feed_bank),
            memory.feed_address.eq(engine.feed_address),
            engine.feed_data.eq(memory.feed_data),
            engine.other_ready.eq(memory.other_ready),
            engine.other_read.eq(memory.other_read),
            self.host_ready.eq(~engine.other & ~engine.feed & (self.state != State.RUNNING)),
            memory.other.eq(engine.other | (self.host_valid & self.host_ready)),
            memory.other_write.eq(Mux(engine.other, engine.other_write, self.host_write)),
            memory.other_address.eq(Mux(engine.other, engine.other_address, self.host_address)),
            memory.other_data.eq(Mux(engine.other, engine.other_data, self._from_bytes())),
            self.host_data.eq(self._to_bytes(memory.other_read)),
            self.host_data_valid.eq(host_read),
        ]
        return m

    def _from_bytes(self) -> Value:
        """A host's word of four bytes as a memory word."""
        if self.config.code_bits == 8:
            return self.host_write_data
        return Cat(self.host_write_data.word_select(c, 8)[:4] for c in range(self.config.columns))

    def _to_bytes(self, word: Value) -> Value:
        """A memory word as a host's."""
        if self.config.code_bits == 8:
            return word
        return Cat(Cat(word.word_select(c, 4), Const(0, 4)) for c in range(self.config.columns))
