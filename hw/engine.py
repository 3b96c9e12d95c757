"""The engine: sequencer, feeder, array and drain path, everything but the memory."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.activation import ActivationTable
from qcompile.hw.array import RowArray, SystolicArray
from qcompile.hw.codebook import CodebookExpander
from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.delay import delay
from qcompile.hw.drain import AccumulatorFifo, ConstantsFifo, DrainBack, DrainFront
from qcompile.hw.eltwise import EltwiseAdd
from qcompile.hw.feeder import Feeder
from qcompile.hw.layouts import ADDRESS_BITS, BANK_ADDRESS_BITS
from qcompile.hw.log.array import LogArray
from qcompile.hw.log.machine import (
    LargerCode,
    LogRequantizer,
    PairTable,
    constants_wait,
    log_requant_latency,
)
from qcompile.hw.prefetch import Prefetch
from qcompile.hw.program import HIGH_FLAG, LOG_FLAG
from qcompile.hw.requant import requant_latency, requantizer
from qcompile.hw.residual import ResidualReader
from qcompile.hw.sequencer import Sequencer
from qcompile.hw.unpacker import Unpacker
from qcompile.hw.weight_fifo import WeightFifo


def drain_latency(config: AcceleratorConfig) -> int:
    """Cycles from a row's value to its finished code."""
    if config.pe == "log":
        return log_requant_latency(config) + LargerCode.LATENCY + ActivationTable.LATENCY
    return requant_latency(config) + EltwiseAdd.LATENCY + ActivationTable.LATENCY


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
                "feed_data": In(config.word_bits),
                "other": Out(1),
                "other_ready": In(1),
                "other_write": Out(1),
                "other_address": Out(ADDRESS_BITS),
                "other_data": Out(config.word_bits),
                "other_read": In(config.word_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        packed = self.config.codebook
        store = self.config.stores_weights
        m.submodules.unpacker = unpacker = Unpacker(codebook=packed, store=store)
        m.submodules.sequencer = sequencer = Sequencer(codebook=packed)
        m.submodules.feeder = feeder = Feeder()
        m.submodules.weights = weights = WeightFifo(self.config.weight_depth, packed=packed)
        logarithmic = self.config.pe == "log"
        array: RowArray = LogArray(self.config.log) if logarithmic else SystolicArray(self.config)
        m.submodules.array = array
        m.submodules.accumulators = accumulators = AccumulatorFifo(self.config)
        late = constants_wait(self.config) if logarithmic else 0
        constants = ConstantsFifo(self.config.constant_words, late)
        m.submodules.constants = constants
        m.submodules.front = front = DrainFront()
        m.submodules.back = back = DrainBack(self.config.code_bits)
        m.submodules.residual = residual = ResidualReader(self.config.code_bits)
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
        """Weights come from the stream or from the prefetch store, in program order.

        Where the memory has no room for weight words the store gets nothing, and goes.
        """
        if self.config.stores_weights:
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
        array: RowArray,
        residual: ResidualReader,
        prefetch: Prefetch,
    ) -> None:
        registers = sequencer.registers
        read_bank = registers["flags"]["read_bank"]
        blocked = (residual.request & (registers["flags"]["residual_bank"] == read_bank)) | (
            prefetch.request & (prefetch.address[-1] == read_bank)
        )
        pad = registers["pad_code"][: self.config.code_bits].replicate(self.config.columns)
        word = Mux(feeder.in_bounds, self.feed_data, pad)
        bits = array.operand_bits
        if bits != self.config.code_bits:
            columns = range(self.config.columns)
            word = Cat(word.word_select(c, self.config.code_bits)[:bits] for c in columns)
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
            array.word.eq(word),
            array.load.eq(feeder.load),
            array.tags.eq(feeder.tags),
        ]

    def _expand(
        self,
        m: Module,
        unpacker: Unpacker,
        sequencer: Sequencer,
        weights: WeightFifo,
        array: RowArray,
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
        array: RowArray,
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
        """From sums to codes, one value a cycle; the step follows beside."""
        logarithmic = self.config.pe == "log"
        requant: Any = (LogRequantizer if logarithmic else requantizer)(self.config)
        m.submodules.requant = requant
        add = self._pair_unit()
        m.submodules.add = add
        m.submodules.table = table = ActivationTable()
        registers, flags = sequencer.registers, sequencer.registers["flags"]
        sums = accumulators.o.word_select(front.column, self.config.sum_bits)
        m.d.comb += [
            *([requant.sums.eq(sums)] if logarithmic else [requant.acc.eq(sums.as_signed())]),
            requant.bias.eq(constants.o.bias.as_signed()),
            *self._scale(requant, constants),
            requant.zero_point.eq(registers["zero_point"].as_signed()),
            requant.low.eq(registers["low"].as_signed()),
            requant.high.eq(registers["high"].as_signed()),
            requant.zero_point_inside.eq(flags["zero_point_inside"]),
            requant.fraction.eq(flags["fraction"]),
            requant.valid.eq(front.valid),
            add.code_a.eq(requant.code),
            add.code_b.eq(residual.code if logarithmic else residual.code.as_signed()),
            add.valid.eq(requant.code_valid),
            add.enable.eq(flags["residual"]),
            residual.take.eq(requant.code_valid),
            table.i.eq(add.code),
            table.valid.eq(add.code_valid),
            table.enable.eq(flags["table"]),
        ]
        latency = requant.LATENCY + add.LATENCY + table.LATENCY
        code: Value = table.o
        if self.config.code_bits == 4:
            flag = constants.o.flags[HIGH_FLAG]
            high = delay(m, flag, latency - constants.late, "high")
            code = Mux(high, table.o[4:], table.o[:4])
        m.d.comb += [back.code.eq(code), back.valid.eq(table.o_valid)]
        self._tables(m, unpacker, add, table)
        step: Any = front.tag.step
        for stage in range(latency):
            following = Signal(2, name=f"step_{stage}", reset_less=True)
            m.d.sync += following.eq(step)
            step = following
        m.d.comb += back.step.eq(step)

    def _pair_unit(self) -> Any:
        """What makes one code of a code and a residual one."""
        if self.config.pe == "int8":
            return EltwiseAdd(tables=self.config.adder)
        if self.config.pairs:
            return PairTable()
        return LargerCode(self.config.code_bits, built=self.config.adder)

    def _scale(self, requant: Any, constants: ConstantsFifo) -> list[Any]:
        """What a channel's constants say of its code, beside the bias."""
        found: Any = constants.o
        if self.config.pe == "log":
            inside = found.as_value()[len(found.bias) : -len(found.flags)]
            return [requant.constants.eq(inside), requant.log.eq(found.flags[LOG_FLAG])]
        return [requant.mantissa.eq(found.mantissa), requant.shift.eq(found.shift)]

    def _tables(self, m: Module, unpacker: Unpacker, add: Any, table: ActivationTable) -> None:
        """The stream fills them while no layer runs."""
        for target in (unpacker.table, unpacker.add_a, unpacker.add_b):
            m.d.comb += target.ready.eq(1)
        m.d.comb += [
            table.write.eq(unpacker.table.valid),
            table.write_index.eq(unpacker.index),
            table.write_data.eq(unpacker.table.payload),
        ]
        if isinstance(add, PairTable):
            m.d.comb += [
                add.write.eq(unpacker.add_a.valid),
                add.write_index.eq(unpacker.index),
                add.write_data.eq(unpacker.add_a.payload),
            ]
        if isinstance(add, EltwiseAdd):
            m.d.comb += [
                add.write_a.eq(unpacker.add_a.valid),
                add.write_b.eq(unpacker.add_b.valid),
                add.write_index.eq(unpacker.index),
                add.write_data.eq(unpacker.add_a.payload),
            ]

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
