"""The array of lines with its memories: program, weights and activations in, tensors out."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.engine import LinesEngine
from qcompile.hw.lines.memory import LinesMemory
from qcompile.hw.lines.program_memory import ProgramMemory
from qcompile.hw.lines.weights import WeightMemory
from qcompile.hw.sequencer import State

ENGINE_TO_MEMORY = (
    *("feed", "feed_set", "feed_address", "feed_step", "feed_lines"),
    *("write", "write_set", "write_address", "write_word"),
    *("residual", "residual_set", "residual_address"),
)
MEMORY_TO_ENGINE = ("words", "words_valid", "residual_grant", "residual_word")
HOST_TO_MEMORY = ("host_valid", "host_write", "host_set", "host_address", "host_data")
MEMORY_TO_HOST = ("host_ready", "host_word", "host_word_valid")
"""Ports that have one name on both sides."""


class LinesAccelerator(wiring.Component):
    """Everything between the host link and the clock.

    The host reads and writes activation words (`host_*`, as `LinesMemory` has them), and writes
    words of the weight and the program memory, all while nothing runs. Memories keep their contents
    over an abort; everything else is reset by `start` and `abort`.

    Attributes
    ----------
    weight_write : 1, in; weight_address : in; weight_data : 8V, in
    program_write : 1, in; program_address : in; program_data : 64, in
    start, resume, abort : 1, in; stop_after : 16, in
        Pulses; how many layers of the program to run in all.
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
    start: Signal
    stop_after: Signal
    resume: Signal
    abort: Signal
    state: Signal
    error: Signal
    layers_done: Signal
    cycles: Signal

    def __init__(self, config: LinesConfig, program_words: int) -> None:
        self.config = config
        self.program_words = program_words
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
                "program_write": In(1),
                "program_address": In((program_words - 1).bit_length()),
                "program_data": In(64),
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
        m.submodules.memory = memory = LinesMemory(self.config)
        m.submodules.weights = weights = WeightMemory(self.config)
        m.submodules.program = program = ProgramMemory(self.program_words)
        restart = Signal()
        engine = LinesEngine(self.config)
        m.submodules.engine = ResetInserter(restart)(engine)
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
            program.start.eq(started),
            program.start_address.eq(0),
            program.stop.eq(restart),
            engine.start.eq(started),
            engine.stop_after.eq(self.stop_after),
            engine.program.payload.eq(program.o.payload),
            engine.program.valid.eq(program.o.valid & ~stale),
            program.o.ready.eq(engine.program.ready & ~stale),
            self.state.eq(Mux(starting | started, State.RUNNING, engine.state)),
            self.error.eq(engine.error),
            self.layers_done.eq(engine.layers_done),
            self.cycles.eq(engine.cycles),
            program.write.eq(self.program_write),
            program.write_address.eq(self.program_address),
            program.write_word.eq(self.program_data),
        ]
        self._memories(m, engine, memory, weights)
        return m

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
            weights.write.eq(self.weight_write),
            weights.write_address.eq(self.weight_address),
            weights.write_word.eq(self.weight_data),
        ]
