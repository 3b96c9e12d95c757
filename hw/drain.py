"""The drain path: accumulators in, finished activation words out to memory."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.delay import delay
from qcompile.hw.layouts import BANK_ADDRESS_BITS
from qcompile.hw.loop_counter import LoopCounter
from qcompile.hw.program import COUNT_BITS
from qcompile.hw.registers import LayerRegisters

GROUP_SLOTS = 64
"""Channel groups whose constants fit the constants FIFO."""
BIAS_WORDS = 2
"""Of a channel's constants, the first ones."""
FIFO_ROWS = 256
FIFO_TILES = FIFO_ROWS // 4
TILE_MARGIN = 4
"""Tiles that may be on their way when the FIFO says that it has no more room."""


def channel_constants(words: int) -> data.StructLayout:
    """Of one channel; on an array of logarithmic codes all between bias and flags are limits."""
    more = {"more": 16 * words - 64} if words > 4 else {}
    return data.StructLayout({"bias": 32, "mantissa": 24, "shift": 6, **more, "flags": 2})


DrainTag = data.StructLayout({"step": 2})
"""Travels with a value: what the write address does after its row."""

STEP_ROW, STEP_POSITION, STEP_GROUP, STEP_LAYER = range(4)


class AccumulatorFifo(wiring.Component):
    """Rows of accumulators in block RAM, 256 deep, with a count of whole tiles on their way.

    Attributes
    ----------
    i : sum_bits x columns, in; i_valid : 1, in
        A row; always taken, `tile_ready` keeps the room.
    tile_issued, tile_done : 1, in
        A tile has started in the array; its last row has been popped.
    tile_ready : 1, out
        Another tile may start.
    pop : 1, in
        The row appears at `o` in the next cycle and stays until the next pop.
    skip : 1, in
        The row is dropped.
    available : 1, out
    """

    i: Signal
    i_valid: Signal
    tile_issued: Signal
    tile_done: Signal
    tile_ready: Signal
    pop: Signal
    skip: Signal
    available: Signal
    o: Signal

    def __init__(self, config: AcceleratorConfig) -> None:
        width = config.sum_bits * config.columns
        super().__init__(
            {
                "i": In(width),
                "i_valid": In(1),
                "tile_issued": In(1),
                "tile_done": In(1),
                "tile_ready": Out(1),
                "pop": In(1),
                "skip": In(1),
                "available": Out(1),
                "o": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ram: memory.Memory = memory.Memory(shape=len(self.i), depth=FIFO_ROWS, init=[])
        m.submodules.ram = ram
        write, read = ram.write_port(), ram.read_port()
        head = Signal(range(FIFO_ROWS))
        tail = Signal(range(FIFO_ROWS))
        m.d.comb += [
            write.addr.eq(head),
            write.data.eq(self.i),
            write.en.eq(self.i_valid),
            read.addr.eq(tail),
            read.en.eq(self.pop),
            self.o.eq(read.data),
            self.available.eq(head != tail),
        ]
        with m.If(self.i_valid):
            m.d.sync += head.eq(head + 1)
        with m.If(self.pop | self.skip):
            m.d.sync += tail.eq(tail + 1)

        tiles = Signal(range(FIFO_TILES))
        with m.If(self.tile_issued & ~self.tile_done):
            m.d.sync += tiles.eq(tiles + 1)
        with m.Elif(~self.tile_issued & self.tile_done):
            m.d.sync += tiles.eq(tiles - 1)
        m.d.sync += self.tile_ready.eq(tiles[2:] != (FIFO_TILES - 1) >> 2)
        return m


class ConstantsFifo(wiring.Component):
    """Per-channel constants of up to 64 channel groups in block RAM.

    Parameters
    ----------
    words : int
        16-bit words of a channel's constants.
    late : int
        Cycles by which all words but the bias come behind it, 8 at most: nobody has to keep them
        until they are wanted. A group's slot is written again from its first word on, which takes
        longer.

    Attributes
    ----------
    i : stream of 16 bits, in
        Four channels of `words` words, lowest first. Not ready while every slot is taken.
    column : 2, in
        Which channel of the oldest group to read; its bias appears in the next cycle.
    group_done : 1, in
        The oldest group is not needed any more.
    available : 1, out
        The oldest group is complete. Groups that share their weights can be faster than their
        constants arrive.
    o : channel_constants(words), out
    """

    i: Any
    column: Signal
    group_done: Signal
    available: Signal
    o: Any

    def __init__(self, words: int, late: int = 0) -> None:
        self.words = words
        self.late = late
        super().__init__(
            {
                "i": In(stream.Signature(16)),
                "column": In(2),
                "group_done": In(1),
                "available": Out(1),
                "o": Out(channel_constants(words)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        slot_bits = (GROUP_SLOTS - 1).bit_length()
        part_bits = (self.words - 1).bit_length()
        # Slot, channel, word of the channel. A channel's last word is followed by the next one's
        # first: the rest of a power of two is left out.
        write = Signal(slot_bits + 1 + 2 + part_bits)
        left_out = (1 << part_bits) - self.words
        oldest = Signal(slot_bits + 1)
        newest = write[2 + part_bits :]
        full = (newest[:slot_bits] == oldest[:slot_bits]) & (newest[slot_bits] != oldest[slot_bits])
        transfer = self.i.valid & self.i.ready
        m.d.comb += self.available.eq(newest != oldest)
        # A register, so low in the cycle after a word: the stream has one in four cycles.
        m.d.sync += self.i.ready.eq(~full & ~transfer)
        step: Any = 1
        if left_out:
            step = Mux(write[:part_bits] == self.words - 1, 1 + left_out, 1)
        with m.If(transfer):
            m.d.sync += write.eq(write + step)
        with m.If(self.group_done):
            m.d.sync += oldest.eq(oldest + 1)
        address = Cat(self.column, oldest[:slot_bits])
        later = delay(m, address, self.late, "address")
        for part in range(self.words):
            ram: memory.Memory = memory.Memory(shape=16, depth=4 * GROUP_SLOTS, init=[])
            m.submodules[f"ram{part}"] = ram
            writer, reader = ram.write_port(), ram.read_port()
            m.d.comb += [
                writer.addr.eq(write[part_bits : part_bits + 2 + slot_bits]),
                writer.data.eq(self.i.payload),
                writer.en.eq(transfer & (write[:part_bits] == part)),
                reader.addr.eq(address if part < BIAS_WORDS else later),
                reader.en.eq(1),
                self.o.as_value()[16 * part : 16 * part + 16].eq(reader.data),
            ]
        return m


class DrainFront(wiring.Component):
    """Pops rows in loop order and hands their values to requantization, one a cycle.

    Rows beyond the tensor (`rows_last` in the last tile) are dropped, one a cycle. A row takes
    four cycles; the next one follows without a gap while `row_ready` and rows are available.

    Attributes
    ----------
    begin : 1, in
        Pulse: a layer starts.
    row_ready : 1, in
        The next row may go (always up, except with a residual operand).
    row_start : 1, out
        A row goes in this cycle.
    valid : 1, out; column : 2, out
        A value goes; column is of the accumulator FIFO's output and, one cycle earlier, in
        `column_next`, of the constants.
    tag : DrainTag, out
        Of the row's last value.
    row_step : 1, out; step : 2, out
        A row's step, one cycle before it stands in `tag`.
    active : 1, out
        Rows of the layer remain.
    """

    registers: Any
    begin: Signal
    available: Signal
    row_ready: Signal
    row_start: Signal
    skip: Signal
    tile_done: Signal
    group_done: Signal
    valid: Signal
    column: Signal
    column_next: Signal
    tag: Any
    row_step: Signal
    step: Signal
    active: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "registers": In(LayerRegisters),
                "begin": In(1),
                "available": In(1),
                "row_ready": In(1),
                "row_start": Out(1),
                "skip": Out(1),
                "tile_done": Out(1),
                "group_done": Out(1),
                "valid": Out(1),
                "column": Out(2),
                "column_next": Out(2),
                "tag": Out(DrainTag),
                "row_step": Out(1),
                "step": Out(2),
                "active": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        advance = Signal()
        row_used, step = self._loops(m, advance)
        deciding = ~self.valid | (self.column == 3)
        may = self.active & self.available & deciding
        m.d.comb += [
            self.row_start.eq(may & row_used & self.row_ready),
            self.skip.eq(may & ~row_used),
            # A row's counters move on in its third cycle, so that the next one is known in time
            # and the constants' slot stays for the fourth channel.
            self.row_step.eq(self.valid & (self.column == 2)),
            self.step.eq(step),
            advance.eq(self.skip | self.row_step),
            self.column_next.eq(Mux(self.valid & ~deciding, self.column + 1, 0)),
        ]
        with m.If(self.row_start):
            m.d.sync += [self.valid.eq(1), self.column.eq(0)]
        with m.Elif(self.valid):
            m.d.sync += [self.valid.eq(self.column != 3), self.column.eq(self.column + 1)]
        with m.If(self.row_step):
            m.d.sync += self.tag.step.eq(step)
        return m

    def _loops(self, m: Module, advance: Signal) -> tuple[Any, Any]:
        """Counters of row, tile, position and group; returns "row is in use" and the step."""
        counts = self.registers["counts"]
        row = Signal(2)
        tile, position, group = (LoopCounter(COUNT_BITS[i]) for i in (4, 5, 6))
        tile_last, position_last, group_last = tile.last, position.last, group.last
        tile_end = advance & (row == 3)
        position_end = tile_end & tile_last
        group_end = position_end & position_last
        m.d.comb += [self.tile_done.eq(tile_end), self.group_done.eq(group_end)]
        with m.If(self.begin):
            m.d.sync += [row.eq(0), self.active.eq(1)]
        with m.Elif(advance):
            m.d.sync += row.eq(row + 1)
        with m.If(group_end & group_last):
            m.d.sync += self.active.eq(0)
        for name, loop, trips, step in (
            ("tile", tile, counts["n4"], tile_end),
            ("position", position, counts["n5"], position_end),
            ("group", group, counts["n6"], group_end),
        ):
            m.submodules[name] = loop
            m.d.comb += [loop.trips.eq(trips), loop.begin.eq(self.begin), loop.step.eq(step)]
        beyond = tile_last & (row > self.registers["rows_last"])
        ends = tile_last & (row == self.registers["rows_last"])
        step = Mux(
            ends,
            Mux(position_last, Mux(group_last, STEP_LAYER, STEP_GROUP), STEP_POSITION),
            STEP_ROW,
        )
        return ~beyond, step


class DrainBack(wiring.Component):
    """Finished codes in, memory words out: packing and write address.

    Parameters
    ----------
    code_bits : int
        Bits of a code, 4 or 8.

    Backpressure: none. A finished word is written in the one cycle in which `write` is up; the
    written bank is never the feeder's.

    Attributes
    ----------
    code : code_bits, in; valid : 1, in; step : 2, in
        A finished code, and the step of its row (looked at with a row's last code).
    write : 1, out; word : 4 x code_bits, out; address : 14, out
    load_start : 1, in
        The layer's first write address is at `step_word`.
    step_entry : 2, out; step_reading : 1, out; step_word : 16, in
        Which step is wanted, in a cycle in which it counts; it answers in the next cycle.
    layer_end : 1, out
        Up with the layer's last write.
    """

    code: Signal
    valid: Signal
    step: Signal
    write: Signal
    word: Signal
    address: Signal
    load_start: Signal
    step_entry: Signal
    step_reading: Signal
    step_word: Signal
    layer_end: Signal

    def __init__(self, code_bits: int) -> None:
        super().__init__(
            {
                "code": In(code_bits),
                "valid": In(1),
                "step": In(2),
                "write": Out(1),
                "word": Out(4 * code_bits),
                "address": Out(BANK_ADDRESS_BITS),
                "load_start": In(1),
                "step_entry": Out(2),
                "step_reading": Out(1),
                "step_word": In(16),
                "layer_end": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lane = Signal(2)
        ends = Signal()
        m.d.comb += [
            self.step_entry.eq(self.step),
            self.step_reading.eq(self.valid & (lane == 3)),
            self.layer_end.eq(self.write & ends),
        ]
        m.d.sync += [
            self.write.eq(self.step_reading),
            ends.eq(self.step == STEP_LAYER),
        ]
        with m.If(self.valid):
            m.d.sync += [
                lane.eq(lane + 1),
                self.word.eq(Cat(self.word[len(self.code) :], self.code)),
            ]
        with m.If(self.write | self.load_start):
            step = self.step_word[: len(self.address)]
            m.d.sync += self.address.eq(Mux(self.load_start, step, self.address + step))
        return m
