"""The array of lines without its memories: what an abort resets."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.delay import delay
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.constants import LinesConstants
from qcompile.hw.lines.feeder import LinesFeeder
from qcompile.hw.lines.line import Line
from qcompile.hw.lines.memory import LinesMemory
from qcompile.hw.lines.pace import TilePace
from qcompile.hw.lines.program import ADDRESS_BITS
from qcompile.hw.lines.residual import LinesResidual
from qcompile.hw.lines.sequencer import LinesSequencer
from qcompile.hw.lines.tile_drain import LinesWriter, TileDrain
from qcompile.hw.lines.tile_reader import TileReader
from qcompile.hw.lines.unpacker import LinesUnpacker
from qcompile.hw.lines.weight_loader import WeightLoader
from qcompile.hw.lines.weights import WeightMemory, WeightReader

SIGNED_SETTINGS = ("zero_point", "low", "high")
FLAG_SETTINGS = ("zero_point_inside", "fraction", "residual", "table")


class LinesEngine(wiring.Component):
    """Program and words in, finished words out; docs/lines.md.

    Attributes
    ----------
    program : stream of 64 bits, in
    start, resume : 1, in; stop_after : 16, in
    state, error, layers_done, cycles : out
        As `hw.accelerator.Accelerator` has them.
    feed, feed_set, feed_address, feed_step, feed_lines : out; words, words_valid : in
        The feeder's port of `LinesMemory`.
    weight_enable : 1, out; weight_address : out; own : 1, out; weights : 8V x P, in
        The weight memory's port; `own` is constant while a layer runs.
    load_weights : 1, out; load_address : out; load_word : 8V, out
        A word for the weight memory.
    residual : 1, out; residual_set : 1, out; residual_address : out
    residual_grant : 1, in; residual_word : 8V, in
        The residual port of `LinesMemory`.
    write, write_set, write_address, write_word, upper_write, upper_address, upper_word : out
    """

    program: Any
    start: Signal
    resume: Signal
    stop_after: Signal
    state: Signal
    error: Signal
    layers_done: Signal
    cycles: Signal
    feed: Signal
    feed_set: Signal
    feed_address: Signal
    feed_step: Signal
    feed_lines: Signal
    words: Signal
    words_valid: Signal
    weight_enable: Signal
    weight_address: Signal
    own: Signal
    weights: Signal
    load_weights: Signal
    load_address: Signal
    load_word: Signal
    residual: Signal
    residual_set: Signal
    residual_address: Signal
    residual_grant: Signal
    residual_word: Signal
    write: Signal
    write_set: Signal
    write_address: Signal
    write_word: Signal
    upper_write: Signal
    upper_address: Signal
    upper_word: Signal
    feed_turned: Signal
    write_turned: Signal

    def __init__(self, config: LinesConfig) -> None:
        self.config = config
        words = config.word_bits * config.lines
        super().__init__(
            {
                "program": In(stream.Signature(64)),
                "start": In(1),
                "resume": In(1),
                "stop_after": In(16),
                "state": Out(3),
                "error": Out(8),
                "layers_done": Out(16),
                "cycles": Out(32),
                "feed": Out(1),
                "feed_set": Out(1),
                "feed_address": Out(ADDRESS_BITS),
                "feed_step": Out(ADDRESS_BITS),
                "feed_lines": Out(config.lines),
                "words": In(words),
                "words_valid": In(config.lines),
                "weight_enable": Out(1),
                "weight_address": Out(config.weight_address_bits),
                "own": Out(1),
                "weights": In(words),
                "load_weights": Out(1),
                "load_address": Out(config.weight_address_bits),
                "load_word": Out(config.word_bits),
                "residual": Out(1),
                "residual_set": Out(1),
                "residual_address": Out(ADDRESS_BITS),
                "residual_grant": In(1),
                "residual_word": In(config.word_bits),
                "write": Out(1),
                "write_set": Out(1),
                "write_address": Out(ADDRESS_BITS),
                "write_word": Out(config.word_bits),
                "upper_write": Out(1),
                "upper_address": Out(ADDRESS_BITS),
                "upper_word": Out(config.word_bits),
                "feed_turned": Out(1),
                "write_turned": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.unpacker = unpacker = LinesUnpacker()
        m.submodules.sequencer = sequencer = LinesSequencer()
        m.submodules.feeder = feeder = LinesFeeder(self.config)
        m.submodules.reader = reader = WeightReader(self.config)
        m.submodules.constants = constants = LinesConstants(self.config)
        m.submodules.drain = drain = TileDrain(self.config)
        m.submodules.writer = writer = LinesWriter(self.config)
        residual = None
        if self.config.adder:
            residual = LinesResidual(self.config, read_latency=LinesMemory.LATENCY)
            m.submodules.residual = residual
        lines = [Line(self.config, number) for number in range(self.config.lines)]
        for number, line in enumerate(lines):
            m.submodules[f"line_{number}"] = line
        self._control(m, unpacker, sequencer, constants, writer)
        if self.config.streams:
            m.submodules.loader = loader = WeightLoader(self.config)
            m.d.comb += [
                loader.i.eq(unpacker.weights),
                self.load_weights.eq(loader.write),
                self.load_address.eq(loader.address),
                self.load_word.eq(loader.word),
            ]
        self._feed(m, sequencer, feeder, reader, lines)
        self._pace(m, sequencer, feeder, drain, constants, residual)
        self._drain(m, unpacker, sequencer, drain, writer, constants, lines, residual)
        if residual is not None:
            self._residual(m, sequencer, feeder, drain, residual)
        return m

    def _residual(
        self,
        m: Module,
        sequencer: LinesSequencer,
        feeder: LinesFeeder,
        drain: TileDrain,
        residual: LinesResidual,
    ) -> None:
        """Residual words come ahead of the tiles whose rows need them."""
        registers, flags = sequencer.registers, sequencer.registers.flags
        m.d.comb += [
            residual.registers.eq(registers),
            residual.begin.eq(sequencer.begin),
            residual.grant.eq(self.residual_grant),
            residual.word.eq(self.residual_word),
            residual.tile_issued.eq(feeder.tile_issued),
            residual.take.eq(
                delay(
                    m,
                    Mux(flags.own, drain.tile_done, drain.row_done),
                    TileReader.LATENCY,
                    "residual_take",
                    reset=True,
                )
            ),
            self.residual.eq(residual.request),
            self.residual_set.eq(flags.residual_set),
            self.residual_address.eq(residual.address),
        ]

    def _control(
        self,
        m: Module,
        unpacker: LinesUnpacker,
        sequencer: LinesSequencer,
        constants: LinesConstants,
        writer: LinesWriter,
    ) -> None:
        wiring.connect(m, wiring.flipped(self.program), unpacker.i)
        wiring.connect(m, unpacker.layers, sequencer.i)
        wiring.connect(m, unpacker.constants, constants.i)
        m.d.comb += [
            unpacker.idle.eq(sequencer.idle),
            sequencer.start.eq(self.start),
            sequencer.resume.eq(self.resume),
            sequencer.stop_after.eq(self.stop_after),
            sequencer.ended.eq(unpacker.ended),
            sequencer.failed.eq(unpacker.error != 0),
            sequencer.layer_done.eq(writer.layer_done),
            self.state.eq(sequencer.state),
            self.error.eq(unpacker.error),
            self.layers_done.eq(sequencer.layers_done),
            self.cycles.eq(sequencer.cycles),
        ]

    def _feed(
        self,
        m: Module,
        sequencer: LinesSequencer,
        feeder: LinesFeeder,
        reader: WeightReader,
        lines: list[Line],
    ) -> None:
        """Reads out, words and weights into the arrays."""
        registers, flags = sequencer.registers, sequencer.registers.flags
        bits = self.config.word_bits
        # A cycle for registers that follow the descriptor's.
        begin = delay(m, sequencer.begin, 1, "begin", reset=True)
        wait = feeder.TAKE_DELAY - WeightMemory.LATENCY
        m.d.comb += [
            feeder.registers.eq(registers),
            feeder.begin.eq(begin),
            self.feed.eq(feeder.feed),
            self.feed_set.eq(flags.read_set),
            self.feed_turned.eq(flags.read_turned),
            self.feed_address.eq(feeder.address),
            self.feed_step.eq(registers.line_address),
            self.feed_lines.eq(feeder.feed_lines),
            reader.load.eq(begin),
            reader.base.eq(registers.weights),
            reader.own.eq(flags.own),
            reader.take.eq(feeder.take),
            reader.tile_end.eq(feeder.tags.last),
            reader.last_tile.eq(feeder.last_tile),
            self.weight_enable.eq(delay(m, feeder.take, wait, "weight_enable", reset=True)),
            self.weight_address.eq(delay(m, reader.address, wait, "weight_address")),
            self.own.eq(flags.own),
        ]
        inside = delay(m, feeder.inside, LinesMemory.LATENCY, "inside")
        tags = delay(m, feeder.tags.as_value(), feeder.TAKE_DELAY, "tags", reset=True)
        for number, line in enumerate(lines):
            word = Signal(bits, name=f"word_{number}", reset_less=True)
            shift = Signal(name=f"shift_{number}")
            m.d.sync += [
                word.eq(self.words.word_select(number, bits)),
                shift.eq(self.words_valid[number]),
            ]
            m.d.comb += [
                line.word.eq(word),
                line.in_picture.eq(inside[number]),
                line.pad.eq(registers.pad_code),
                line.shift.eq(shift),
                line.load.eq(feeder.load),
                line.apart.eq(flags.apart),
                line.weights.eq(self.weights.word_select(number, bits)),
                line.tags.as_value().eq(tags),
            ]

    def _pace(
        self,
        m: Module,
        sequencer: LinesSequencer,
        feeder: LinesFeeder,
        drain: TileDrain,
        constants: LinesConstants,
        residual: LinesResidual | None,
    ) -> None:
        """When a tile's last pass may start."""
        m.submodules.pace = pace = TilePace(self.config)
        fetched = Const(1) if residual is None else residual.tile_ready
        m.d.comb += [
            pace.registers.eq(sequencer.registers),
            pace.begin.eq(sequencer.begin),
            pace.tile_issued.eq(feeder.tile_issued),
            pace.group_ends.eq(feeder.group_ends),
            pace.last_group.eq(feeder.last_group),
            pace.tile_cycles.eq(drain.tile_cycles),
            pace.completes.eq(constants.completes),
            feeder.ready.eq(1),
            feeder.tile_ready.eq(pace.tile_ready & fetched),
        ]

    def _drain(
        self,
        m: Module,
        unpacker: LinesUnpacker,
        sequencer: LinesSequencer,
        drain: TileDrain,
        writer: LinesWriter,
        constants: LinesConstants,
        lines: list[Line],
        residual: LinesResidual | None,
    ) -> None:
        """Captured tiles through readers and lanes to the writer."""
        config, registers, flags = self.config, sequencer.registers, sequencer.registers.flags
        ahead = TileReader.LATENCY
        step = delay(m, drain.step, ahead, "step", reset=True)
        valid = delay(m, Mux(drain.active, drain.lines, 0), ahead, "valid", reset=True)
        wait = ahead - constants.LATENCY
        m.d.comb += [
            drain.registers.eq(registers),
            drain.begin.eq(sequencer.begin),
            drain.captured.eq(lines[0].captured),
            constants.step.eq(delay(m, drain.step, wait, "constants_step", reset=True)),
            constants.group_done.eq(delay(m, drain.group_done, wait, "group_done", reset=True)),
        ]
        for number, line in enumerate(lines):
            self._lanes(m, line, drain, sequencer, constants)
            m.d.comb += [
                line.valid.eq(valid[number]),
                line.step.eq(step),
                line.writes.eq(unpacker.writes),
            ]
            if residual is not None:
                m.d.comb += line.residual.eq(residual.words.word_select(number, config.word_bits))
        slot = delay(m, drain.slot.as_value(), ahead + lines[0].lanes_latency, "slot", reset=True)
        m.d.comb += [
            writer.registers.eq(registers),
            writer.begin.eq(sequencer.begin),
            writer.slot.as_value().eq(slot),
            writer.words.eq(Cat(line.finished for line in lines)),
            self.write.eq(writer.write),
            self.write_set.eq(flags.write_set),
            self.write_turned.eq(flags.write_turned),
            self.write_address.eq(writer.address),
            self.write_word.eq(writer.word),
            self.upper_write.eq(writer.upper_write),
            self.upper_address.eq(writer.upper_address),
            self.upper_word.eq(writer.upper_word),
        ]

    def _lanes(
        self,
        m: Module,
        line: Line,
        drain: TileDrain,
        sequencer: LinesSequencer,
        constants: LinesConstants,
    ) -> None:
        """What all lines' lanes get."""
        registers, flags = sequencer.registers, sequencer.registers.flags
        step_bits = (self.config.columns // self.config.lanes - 1).bit_length()
        settings = line.settings
        m.d.comb += [
            line.index.eq(Cat(drain.step[:step_bits], drain.row)),
            line.bias.eq(constants.bias),
            line.exponent.eq(constants.shift),
            line.mantissa.eq(constants.mantissa),
            *(settings[name].eq(registers[name].as_signed()) for name in SIGNED_SETTINGS),
            *(settings[name].eq(flags[name]) for name in FLAG_SETTINGS),
        ]
