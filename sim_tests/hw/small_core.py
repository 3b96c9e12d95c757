"""A component with the accelerator's ports that copies its program into memory; for tests only."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.runtime.protocol import CoreError, State

LAYER_WORDS = 64
"""Program words that count as a layer."""
END_WORD = 0xF000
"""A program word that tells that the next one is the CRC."""


class SmallCore(wiring.Component):  # type: ignore[type-arg]  # generic in the stubs only
    """Every program word goes to memory, the first to address 0x4000, up to END_WORD and a CRC.

    It pauses, stops and fails as the accelerator does, takes `pace` cycles a word, and keeps
    host accesses waiting for two cycles.
    """

    def __init__(self, *, pace: int = 1) -> None:
        self._pace = pace
        super().__init__(
            {
                "program": In(stream.Signature(16)),
                "program_crc_ok": In(1),
                "program_start": Out(1),
                "program_stop": Out(1),
                "host_valid": In(1),
                "host_ready": Out(1),
                "host_write": In(1),
                "host_address": In(15),
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
        this: Any = self
        ram: Any = memory.Memory(shape=32, depth=1 << 15, init=[])
        m.submodules.memory = ram
        write, read = ram.write_port(), ram.read_port()
        count = Signal(16)
        ended = Signal()
        wait = Signal(2)
        pace = Signal(range(self._pace + 1))
        running = this.state == State.RUNNING
        taken = this.program.valid & this.program.ready
        access = this.host_valid & this.host_ready

        m.d.comb += [
            this.program_start.eq(this.start),
            this.program_stop.eq(this.abort | (ended & ~this.start)),
            this.program.ready.eq(running & (pace == 0)),
            this.host_ready.eq((wait == 2) & ~running),
            this.host_data.eq(read.data),
            read.addr.eq(this.host_address),
            read.en.eq(1),
        ]
        m.d.sync += wait.eq(0)
        with m.If(this.host_valid & (wait != 2)):
            m.d.sync += wait.eq(wait + 1)
        m.d.sync += this.host_data_valid.eq(access & ~this.host_write)
        with m.If(running):
            m.d.sync += this.cycles.eq(this.cycles + 1)
            m.d.comb += [
                write.en.eq(taken),
                write.addr.eq(0x4000 + count),
                write.data.eq(this.program.payload),
            ]
            with m.If(this.layers_done == this.stop_after):
                m.d.sync += this.state.eq(State.PAUSED)
                m.d.comb += this.program.ready.eq(0)
        with m.Else():
            m.d.comb += [
                write.en.eq(access & this.host_write),
                write.addr.eq(this.host_address),
                write.data.eq(this.host_write_data),
            ]
        self._take(m, taken, count, ended, pace)
        with m.If(this.resume):
            m.d.sync += this.state.eq(State.RUNNING)
        with m.If(this.start | this.abort):
            m.d.sync += [
                this.state.eq(State.IDLE),
                this.error.eq(0),
                this.layers_done.eq(0),
                this.cycles.eq(0),
                count.eq(0),
                ended.eq(0),
            ]
        with m.If(this.start):
            m.d.sync += this.state.eq(State.RUNNING)
        return m

    def _take(self, m: Module, taken: Any, count: Signal, ended: Signal, pace: Signal) -> None:
        this: Any = self
        last = Signal()
        with m.If(pace != 0):
            m.d.sync += pace.eq(pace - 1)
        with m.If(taken):
            m.d.sync += [
                pace.eq(self._pace - 1),
                count.eq(count + 1),
                last.eq(this.program.payload == END_WORD),
            ]
            with m.If((count & (LAYER_WORDS - 1)) == LAYER_WORDS - 1):
                m.d.sync += this.layers_done.eq(this.layers_done + 1)
            with m.If(last):
                m.d.sync += [last.eq(0), ended.eq(1), this.state.eq(State.DONE)]
                with m.If(~this.program_crc_ok):
                    m.d.sync += [this.state.eq(State.ERROR), this.error.eq(CoreError.STREAM_CRC)]
