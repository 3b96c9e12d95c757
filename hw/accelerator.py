"""The accelerator core: program stream and host port in, finished tensors in memory."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.activation import ActivationTable
from qcompile.hw.array import SystolicArray
from qcompile.hw.codebook import CodebookExpander
from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.drain import AccumulatorFifo, ConstantsFifo, DrainBack, DrainFront
from qcompile.hw.eltwise import EltwiseAdd
from qcompile.hw.feeder import Feeder
from qcompile.hw.layouts import ADDRESS_BITS, BANK_ADDRESS_BITS
from qcompile.hw.log.machine import LogRequantizer, PowerArray
from qcompile.hw.memory import ActivationMemory
from qcompile.hw.prefetch import Prefetch
from qcompile.hw.requant import RequantExact, RequantShift, requantizer
from qcompile.hw.residual import ResidualReader
from qcompile.hw.sequencer import Sequencer, State
from qcompile.hw.unpacker import Unpacker
from qcompile.hw.weight_fifo import WeightFifo


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
            memory.other_data.eq(Mux(engine.other, engine.other_data, self.host_write_data)),
            self.host_data.eq(memory.other_read),
            self.host_data_valid.eq(host_read),
        ]
        return m


class Engine(wiring.Component):
    """The accelerator without its memory: what an abort resets. Ports as the accelerator's."""

    program: Any
    program_crc_ok: Signal
    start: Signal
    resume: Signal
    stop_after: Signal
    ended: Signal
    state: Signal
    error: Signal
    layers_done: Signal
    cycles: Signal
    feed: Signal
    feed_bank: Signal
    feed_address: Signal
    feed_data: Signal
    other: Signal
    other_ready: Signal
    other_write: Signal
    other_address: Signal
    other_data: Signal
    other_read: Signal

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        super().__init__(
            {
                "program": In(stream.Signature(16)),
                "program_crc_ok": In(1),
                "start": In(1),
                "resume": In(1),
                "stop_after": In(16),
                "ended": Out(1),
                "state": Out(3),
                "error": Out(8),
                "layers_done": Out(16),
                "cycles": Out(32),
                "feed": Out(1),
                "feed_bank": Out(1),
                "feed_address": Out(BANK_ADDRESS_BITS),
                "feed_data": In(32),
                "other": Out(1),
                "other_ready": In(1),
                "other_write": Out(1),
                "other_address": Out(ADDRESS_BITS),
                "other_data": Out(32),
                "other_read": In(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        packed = self.config.codebook
        m.submodules.unpacker = unpacker = Unpacker(codebook=packed)
        m.submodules.sequencer = sequencer = Sequencer(codebook=packed)
        m.submodules.feeder = feeder = Feeder()
        m.submodules.weights = weights = WeightFifo(self.config.weight_depth, packed=packed)
        m.submodules.array = array = (
            PowerArray(self.config) if self.config.pe == "log" else SystolicArray(self.config)
        )
        m.submodules.accumulators = accumulators = AccumulatorFifo(self.config)
        m.submodules.constants = constants = ConstantsFifo()
        m.submodules.front = front = DrainFront()
        m.submodules.back = back = DrainBack()
        m.submodules.residual = residual = ResidualReader()
        m.submodules.prefetch = prefetch = Prefetch()
        self._program(m, unpacker, sequencer, weights, constants)
        self._prefetch(m, unpacker, weights, prefetch)
        self._control(m, unpacker, sequencer, feeder, front, back)
        self._feed(m, sequencer, feeder, weights, array, residual, prefetch)
        self._expand(m, unpacker, sequencer, weights, array)
        self._rows(m, feeder, array, accumulators, constants, front, residual)
        self._arithmetic(m, unpacker, sequencer, accumulators, constants, front, back, residual)
        self._other_port(m, sequencer, front, back, residual, prefetch)
        return m

    def _program(
        self,
        m: Module,
        unpacker: Unpacker,
        sequencer: Sequencer,
        weights: WeightFifo,
        constants: ConstantsFifo,
    ) -> None:
        wiring.connect(m, wiring.flipped(self.program), unpacker.i)
        wiring.connect(m, unpacker.layers, sequencer.i)
        wiring.connect(m, unpacker.constants, constants.i)
        m.d.sync += unpacker.idle.eq(sequencer.idle)
        m.d.comb += [
            unpacker.crc_ok.eq(self.program_crc_ok),
            self.ended.eq(unpacker.ended),
            self.error.eq(unpacker.error),
        ]

    def _prefetch(
        self, m: Module, unpacker: Unpacker, weights: WeightFifo, prefetch: Prefetch
    ) -> None:
        """Weights come from the stream or from the prefetch store, in program order."""
        wiring.connect(m, unpacker.store, prefetch.store)
        wiring.connect(m, unpacker.recall, prefetch.recall)
        m.d.comb += [
            prefetch.index.eq(unpacker.index),
            prefetch.room.eq(weights.room),
            weights.word.eq(prefetch.o),
            weights.word_valid.eq(prefetch.o_valid),
            weights.i.payload.eq(unpacker.weights.payload),
            weights.i.valid.eq(unpacker.weights.valid & ~prefetch.pending),
            unpacker.weights.ready.eq(weights.i.ready & ~prefetch.pending),
        ]

    def _control(
        self,
        m: Module,
        unpacker: Unpacker,
        sequencer: Sequencer,
        feeder: Feeder,
        front: DrainFront,
        back: DrainBack,
    ) -> None:
        """A layer ends when its last word is written and its last row dropped."""
        written = Signal()
        m.d.comb += [
            sequencer.start.eq(self.start),
            sequencer.resume.eq(self.resume),
            sequencer.stop_after.eq(self.stop_after),
            sequencer.ended.eq(unpacker.ended),
            sequencer.failed.eq(unpacker.error != 0),
            self.state.eq(sequencer.state),
            self.layers_done.eq(sequencer.layers_done),
            self.cycles.eq(sequencer.cycles),
            sequencer.layer_done.eq(written & ~front.active),
            feeder.begin.eq(sequencer.begin),
            front.begin.eq(sequencer.begin),
        ]
        with m.If(back.layer_end):
            m.d.sync += written.eq(1)
        with m.Elif(sequencer.layer_done):
            m.d.sync += written.eq(0)

    def _feed(
        self,
        m: Module,
        sequencer: Sequencer,
        feeder: Feeder,
        weights: WeightFifo,
        array: SystolicArray | PowerArray,
        residual: ResidualReader,
        prefetch: Prefetch,
    ) -> None:
        registers = sequencer.registers
        read_bank = registers["flags"]["read_bank"]
        blocked = (residual.request & (registers["flags"]["residual_bank"] == read_bank)) | (
            prefetch.request & (prefetch.address[-1] == read_bank)
        )
        pad = registers["pad_code"].replicate(4)
        m.d.comb += [
            feeder.registers.eq(registers),
            feeder.load_start.eq(sequencer.load_start),
            sequencer.level.eq(feeder.level),
            feeder.delta.eq(sequencer.delta),
            feeder.ready.eq(weights.enough & ~blocked),
            weights.take.eq(feeder.issue),
            weights.tile_end.eq(feeder.issue_tile_end),
            weights.last_tile.eq(feeder.last_tile),
            weights.pass_reads.eq(feeder.pass_reads),
            self.feed.eq(feeder.access),
            self.feed_bank.eq(read_bank),
            self.feed_address.eq(feeder.address),
            array.word.eq(Mux(feeder.in_bounds, self.feed_data, pad)),
            array.load.eq(feeder.load),
            array.tags.eq(feeder.tags),
        ]

    def _expand(
        self,
        m: Module,
        unpacker: Unpacker,
        sequencer: Sequencer,
        weights: WeightFifo,
        array: SystolicArray | PowerArray,
    ) -> None:
        """From the weight FIFO to the array, through the layer's codebook where there are any."""
        if not self.config.codebook:
            m.d.comb += array.weights.eq(weights.o)
            return
        m.submodules.expander = expander = CodebookExpander()
        m.d.comb += [
            weights.packed.eq(sequencer.packed),
            expander.packed.eq(sequencer.packed),
            expander.codebook.eq(sequencer.codebook),
            expander.indices.eq(weights.indices),
            expander.word.eq(weights.o),
            expander.write.eq(unpacker.codebook.valid),
            expander.write_index.eq(unpacker.index),
            expander.write_data.eq(unpacker.codebook.payload),
            unpacker.codebook.ready.eq(1),
            array.weights.eq(expander.o),
        ]

    def _rows(
        self,
        m: Module,
        feeder: Feeder,
        array: SystolicArray | PowerArray,
        accumulators: AccumulatorFifo,
        constants: ConstantsFifo,
        front: DrainFront,
        residual: ResidualReader,
    ) -> None:
        m.d.comb += [
            front.registers.eq(feeder.registers),
            feeder.tile_ready.eq(accumulators.tile_ready),
            accumulators.i.eq(array.o),
            accumulators.i_valid.eq(array.o_valid),
            accumulators.tile_issued.eq(feeder.issue_tile_start),
            accumulators.tile_done.eq(front.tile_done),
            accumulators.pop.eq(front.row_start),
            accumulators.skip.eq(front.skip),
            front.available.eq(accumulators.available),
            front.row_ready.eq(residual.row_ready & constants.available),
            constants.column.eq(front.column_next),
            constants.group_done.eq(front.group_done),
        ]

    def _arithmetic(
        self,
        m: Module,
        unpacker: Unpacker,
        sequencer: Sequencer,
        accumulators: AccumulatorFifo,
        constants: ConstantsFifo,
        front: DrainFront,
        back: DrainBack,
        residual: ResidualReader,
    ) -> None:
        """Requantization, residual adder and table, one value a cycle; the step follows beside."""
        requant: RequantExact | RequantShift | LogRequantizer
        if self.config.pe == "log":
            requant = LogRequantizer(self.config)
            m.d.comb += requant.log.eq(constants.o.zero[0])
        else:
            requant = requantizer(self.config)
        m.submodules.requant = requant
        m.submodules.add = add = EltwiseAdd(tables=self.config.adder)
        m.submodules.table = table = ActivationTable()
        registers, flags = sequencer.registers, sequencer.registers["flags"]
        width = self.config.acc_width
        m.d.comb += [
            requant.acc.eq(accumulators.o.word_select(front.column, width).as_signed()),
            requant.bias.eq(constants.o.bias.as_signed()),
            requant.mantissa.eq(constants.o.mantissa),
            requant.shift.eq(constants.o.shift),
            requant.zero_point.eq(registers["zero_point"].as_signed()),
            requant.low.eq(registers["low"].as_signed()),
            requant.high.eq(registers["high"].as_signed()),
            requant.zero_point_inside.eq(flags["zero_point_inside"]),
            requant.fraction.eq(flags["fraction"]),
            requant.valid.eq(front.valid),
            add.code_a.eq(requant.code),
            add.code_b.eq(residual.code.as_signed()),
            add.valid.eq(requant.code_valid),
            add.enable.eq(flags["residual"]),
            residual.take.eq(requant.code_valid),
            table.i.eq(add.code),
            table.valid.eq(add.code_valid),
            table.enable.eq(flags["table"]),
            back.code.eq(table.o),
            back.valid.eq(table.o_valid),
        ]
        for target in (unpacker.table, unpacker.add_a, unpacker.add_b):
            m.d.comb += target.ready.eq(1)
        m.d.comb += [
            table.write.eq(unpacker.table.valid),
            table.write_index.eq(unpacker.index),
            table.write_data.eq(unpacker.table.payload),
            add.write_a.eq(unpacker.add_a.valid),
            add.write_b.eq(unpacker.add_b.valid),
            add.write_index.eq(unpacker.index),
            add.write_data.eq(unpacker.add_a.payload),
        ]
        step: Any = front.tag.step
        for stage in range(requant.LATENCY + add.LATENCY + table.LATENCY):
            following = Signal(2, name=f"step_{stage}", reset_less=True)
            m.d.sync += following.eq(step)
            step = following
        m.d.comb += back.step.eq(step)

    def _other_port(
        self,
        m: Module,
        sequencer: Sequencer,
        front: DrainFront,
        back: DrainBack,
        residual: ResidualReader,
        prefetch: Prefetch,
    ) -> None:
        """Finished words first, then residual reads, which both never meet a busy written bank;
        then the prefetch store."""
        registers, flags = sequencer.registers, sequencer.registers["flags"]
        m.d.comb += [
            back.load_start.eq(sequencer.load_write),
            sequencer.step_entry.eq(Mux(back.step_reading, back.step_entry, residual.step_entry)),
            residual.step_free.eq(~back.step_reading),
            residual.load_start.eq(sequencer.load_write),
            residual.step_word.eq(sequencer.step_word),
            residual.offset.eq(registers["residual_offset"]),
            residual.row_step.eq(front.row_step),
            residual.step.eq(front.step),
            residual.step_held.eq(front.tag.step),
            back.step_word.eq(sequencer.step_word),
            residual.enable.eq(flags["residual"] if self.config.adder else 0),
            residual.begin.eq(sequencer.begin),
            residual.row_start.eq(front.row_start),
            residual.grant.eq(self.other_ready & ~back.write),
            residual.word.eq(self.other_read),
            prefetch.grant.eq(self.other_ready & ~back.write & ~residual.request),
            prefetch.word.eq(self.other_read),
            self.other.eq(back.write | residual.request | prefetch.request),
            self.other_write.eq(back.write | (~residual.request & prefetch.write)),
            self.other_data.eq(Mux(back.write, back.word, prefetch.data)),
        ]
        with m.If(back.write):
            m.d.comb += self.other_address.eq(Cat(back.address, flags["write_bank"]))
        with m.Elif(residual.request):
            m.d.comb += self.other_address.eq(Cat(residual.address, flags["residual_bank"]))
        with m.Else():
            m.d.comb += self.other_address.eq(prefetch.address)
