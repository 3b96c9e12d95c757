"""The array of lines with its memories: program, weights and activations in, tensors out."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.flash_reader import FlashPins
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.contents import LinesContents
from qcompile.hw.lines.engine import LinesEngine
from qcompile.hw.lines.flash_program import ADDRESS_BITS, FlashProgram, FlashTiming
from qcompile.hw.lines.memory import LinesMemory
from qcompile.hw.lines.program_bytes import ProgramBytes
from qcompile.hw.lines.program_memory import ProgramMemory
from qcompile.hw.lines.weights import WeightMemory
from qcompile.hw.sequencer import State

ENGINE_TO_MEMORY = (
    *("feed", "feed_set", "feed_address", "feed_step", "feed_lines"),
    *("write", "write_set", "write_address", "write_word"),
    *("upper_write", "upper_address", "upper_word", "feed_turned", "write_turned"),
    *("residual", "residual_set", "residual_address"),
)
MEMORY_TO_ENGINE = ("words", "words_valid", "residual_grant", "residual_word")
HOST_TO_MEMORY = ("host_valid", "host_write", "host_set", "host_address", "host_data")
MEMORY_TO_HOST = ("host_ready", "host_word", "host_word_valid")
"""Ports that have one name on both sides."""
ProgramSource = int | FlashTiming
"""Where programs lie: in a program memory of so many words, or in a flash that is read so."""


class LinesAccelerator(wiring.Component):
    """Everything between the host link and the clock.

    The host reads and writes activation words (`host_*`, as `LinesMemory` has them) whenever the
    engine leaves a cycle for it, and writes words of the weight and the program memory while
    nothing runs. Memories keep their contents over an abort; everything else is reset by `start`
    and `abort`. Where programs lie in a flash, it takes the program memory's place.

    Parameters
    ----------
    config : LinesConfig
    source : int or FlashTiming
        Words of the program memory, or how the flash with the program is read.
    contents : LinesContents or None
        What program and weight memory hold from power-up on; None: undefined until written.

    Attributes
    ----------
    weight_write : 1, in; weight_address : in; weight_data : 8V, in
    program_write : 1, in; program_address : in; program_data : 64, in
        Of a program memory alone.
    flash : FlashPins, out; flash_ready, flash_error : 1, out
        Of a flash alone, as `FlashProgram` has them.
    start, resume, abort : 1, in; stop_after : 16, in
        Pulses; how many layers of the program to run in all, which may change during a run.
    start_address : in
        The program's first word, from `start` on for two cycles more.
    read_start, read_stop : 1, in; read_address : in; read_o : stream of 16 bits, out
        Bytes of program memory or flash from byte `read_address` on, low byte first; neither while
        it runs nor while it is paused. A start ends reading too; a stop ends nothing else.
    state : 3, out; error : 8, out; layers_done : 16, out; cycles : 32, out
    """

    host_valid: Signal
    host_ready: Signal
    host_write: Signal
    host_set: Signal
    host_address: Signal
    host_data: Signal
    host_word: Signal
    host_word_valid: Signal
    weight_write: Signal
    weight_address: Signal
    weight_data: Signal
    program_write: Signal
    program_address: Signal
    program_data: Signal
    flash: Any
    flash_ready: Signal
    flash_error: Signal
    start: Signal
    stop_after: Signal
    start_address: Signal
    resume: Signal
    abort: Signal
    read_start: Signal
    read_stop: Signal
    read_address: Signal
    read_o: Any
    state: Signal
    error: Signal
    layers_done: Signal
    cycles: Signal

    def __init__(
        self, config: LinesConfig, source: ProgramSource, contents: LinesContents | None = None
    ) -> None:
        self.config = config
        self.source = source
        self.contents = contents
        program_bits = (source - 1).bit_length() if isinstance(source, int) else ADDRESS_BITS
        of_flash = {"flash": Out(FlashPins), "flash_ready": Out(1), "flash_error": Out(1)}
        of_memory = {
            "program_write": In(1),
            "program_address": In(program_bits),
            "program_data": In(64),
        }
        super().__init__(
            {
                "host_valid": In(1),
                "host_ready": Out(1),
                "host_write": In(1),
                "host_set": In(1),
                "host_address": In(config.address_bits),
                "host_data": In(config.word_bits),
                "host_word": Out(config.word_bits),
                "host_word_valid": Out(1),
                "weight_write": In(1),
                "weight_address": In(config.weight_address_bits),
                "weight_data": In(config.word_bits),
                **(of_memory if isinstance(source, int) else of_flash),
                "start": In(1),
                "stop_after": In(16),
                "start_address": In(program_bits),
                "resume": In(1),
                "abort": In(1),
                "read_start": In(1),
                "read_stop": In(1),
                "read_address": In(program_bits + 3),
                "read_o": Out(stream.Signature(16)),
                "state": Out(3),
                "error": Out(8),
                "layers_done": Out(16),
                "cycles": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = LinesMemory(self.config)
        contents = self.contents
        m.submodules.weights = weights = WeightMemory(
            self.config, init=None if contents is None else contents.weights
        )
        m.submodules.program = program = self._program_source(m)
        restart = Signal()
        engine = LinesEngine(self.config)
        m.submodules.engine = ResetInserter(restart)(engine)
        host_reads = Signal()
        starting = Signal()
        started = Signal()
        # Cycle 0: start or abort comes. Cycle 1: the engine is reset. Cycle 2: after a start,
        # engine and program start.
        m.d.sync += [
            restart.eq(self.start | self.abort),
            starting.eq(self.start),
            started.eq(starting),
            engine.resume.eq(self.resume),
        ]
        stale = restart | starting | started
        m.d.comb += [
            program.start.eq(started | self.read_start),
            program.start_address.eq(Mux(started, self.start_address, self.read_address[3:])),
            program.stop.eq(restart | (self.read_stop & host_reads)),
            engine.start.eq(started),
            engine.stop_after.eq(self.stop_after),
            self.state.eq(Mux(starting | started, State.RUNNING, engine.state)),
            self.error.eq(engine.error),
            self.layers_done.eq(engine.layers_done),
            self.cycles.eq(engine.cycles),
        ]
        self._program(m, engine, program, stale, host_reads)
        self._memories(m, engine, memory, weights)
        return m

    def _program_source(self, m: Module) -> ProgramMemory | FlashProgram:
        """The program memory or the flash, with the ports that are its own."""
        if isinstance(self.source, FlashTiming):
            flash = FlashProgram(self.source)
            wiring.connect(m, wiring.flipped(self.flash), flash.pins)
            m.d.comb += [self.flash_ready.eq(flash.ready), self.flash_error.eq(flash.error)]
            return flash
        contents = self.contents
        memory = ProgramMemory(self.source, init=() if contents is None else contents.program)
        m.d.comb += [
            memory.write.eq(self.program_write),
            memory.write_address.eq(self.program_address),
            memory.write_word.eq(self.program_data),
        ]
        return memory

    def _program(
        self,
        m: Module,
        engine: LinesEngine,
        program: ProgramMemory | FlashProgram,
        stale: Value,
        host_reads: Signal,
    ) -> None:
        """Program words go to the engine, or to the host that reads them."""
        m.submodules.reader = reader = ProgramBytes()
        wiring.connect(m, wiring.flipped(self.read_o), reader.o)
        with m.If(self.read_stop | self.start):
            m.d.sync += host_reads.eq(0)
        with m.If(self.read_start):
            m.d.sync += host_reads.eq(1)
        m.d.comb += [
            reader.start.eq(self.read_start | self.read_stop | self.start),
            reader.offset.eq(self.read_address[:3]),
            reader.i.payload.eq(program.o.payload),
            reader.i.valid.eq(program.o.valid & host_reads),
            engine.program.payload.eq(program.o.payload),
            engine.program.valid.eq(program.o.valid & ~stale & ~host_reads),
        ]
        with m.If(host_reads):
            m.d.comb += program.o.ready.eq(reader.i.ready)
        with m.Else():
            m.d.comb += program.o.ready.eq(engine.program.ready & ~stale)

    def _memories(
        self, m: Module, engine: LinesEngine, memory: LinesMemory, weights: WeightMemory
    ) -> None:
        """Activations to and from engine and host, weights to the engine and from the host."""
        for source, target, names in (
            (engine, memory, ENGINE_TO_MEMORY),
            (memory, engine, MEMORY_TO_ENGINE),
            (self, memory, HOST_TO_MEMORY),
            (memory, self, MEMORY_TO_HOST),
        ):
            m.d.comb += [getattr(target, name).eq(getattr(source, name)) for name in names]
        m.d.comb += [
            weights.address.eq(engine.weight_address),
            weights.own.eq(engine.own),
            weights.enable.eq(engine.weight_enable),
            engine.weights.eq(weights.o),
            weights.write.eq(self.weight_write | engine.load_weights),
            weights.write_address.eq(
                Mux(engine.load_weights, engine.load_address, self.weight_address)
            ),
            weights.write_word.eq(Mux(engine.load_weights, engine.load_word, self.weight_data)),
        ]
