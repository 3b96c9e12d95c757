"""The drain of an array of lines: captured tiles through the lanes, finished words to memory."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.drain import STEP_GROUP, STEP_LAYER, STEP_POSITION, STEP_ROW
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.loop_nest import TILE_LEVELS, LoopNest
from qcompile.hw.lines.registers import LayerRegisters
from qcompile.hw.program import COUNT_BITS


def slot_cycles(config: LinesConfig, *, single: bool) -> int:
    """Cycles of a row of all lines: the lanes' steps, or the writes, two a cycle or one."""
    writes = config.lines if single else config.lower_lines
    return max(config.columns // config.lanes, writes)


def slot_layout(config: LinesConfig) -> data.StructLayout:
    """What follows a row through the lanes: the lines that are written, the step behind them."""
    return data.StructLayout({"ends": 1, "lines": config.lines, "first": 1, "moves": 1, "step": 2})


class TileDrain(wiring.Component):
    """Walks captured tiles row by row; says which sums, constants and lines each cycle is for.

    A row of all lines is a *slot* of `slot_cycles` cycles, of which the first V/L have steps of the
    lanes. Where lines have channels of their own a slot is row 0 of one line, V/L cycles long. The
    first step of a tile is in the cycle of `captured`. No backpressure: the feeder leaves
    `tile_cycles` between two tiles, and waits for constants and residual words itself.

    Attributes
    ----------
    registers : LayerRegisters, in
    begin : 1, in
        Pulse: the layer starts.
    captured : 1, in
        The tile is a new one since this cycle.
    active : 1, out; row : 2, out; step : log2(V/L), out
        A step of the lanes, for all lines in `lines`.
    lines : P, out
    group_done : 1, out
        With a step: the last of the constants' oldest group.
    row_done : 1, out
        With a row's last step.
    tile_done : 1, out
        With a tile's last step.
    slot : slot_layout, out
        With a row's last step.
    tile_cycles : 8, out
        Cycles that a tile takes here; constant while a layer runs.
    """

    registers: Any
    begin: Signal
    captured: Signal
    active: Signal
    row: Signal
    step: Signal
    lines: Signal
    group_done: Signal
    row_done: Signal
    tile_done: Signal
    slot: Any
    tile_cycles: Signal

    def __init__(self, config: LinesConfig) -> None:
        self.config = config
        self.steps = config.columns // config.lanes
        super().__init__(
            {
                "registers": In(LayerRegisters),
                "begin": In(1),
                "captured": In(1),
                "active": Out(1),
                "row": Out(2),
                "step": Out(max(1, (self.steps - 1).bit_length())),
                "lines": Out(config.lines),
                "group_done": Out(1),
                "row_done": Out(1),
                "tile_done": Out(1),
                "slot": Out(slot_layout(config)),
                "tile_cycles": Out(8),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, registers = self.config, self.registers
        own, flat = registers.flags.own, registers.flags.flat
        busy = Signal()
        works = self.captured | busy
        cycles = [slot_cycles(config, single=single) for single in (False, True)]
        slot_last = self._cycles(m, works, cycles)
        m.submodules.loops = loops = LoopNest([COUNT_BITS[level] for level in TILE_LEVELS])
        tile_last, position_last, group_last = loops.last
        number = Signal(range(max(config.lines, config.rows)))  # of the slot within the tile
        ends = self._ends(m, number, slot_last, tile_last, group_last)
        m.d.comb += [
            loops.trips.eq(Cat(registers[f"n{level}"] for level in TILE_LEVELS)),
            loops.begin.eq(self.begin),
            loops.step.eq(slot_last),
            loops.counts.eq(ends),
        ]
        with m.If(slot_last):
            m.d.sync += busy.eq(~ends)
        with m.Elif(self.captured):
            m.d.sync += busy.eq(1)
        row_ends = ends & tile_last  # the last row of a line group
        few = Mux(flat, row_ends, position_last)
        self._slot(m, number, ends, few)
        group_ends = row_ends & position_last
        m.d.comb += [
            self.group_done.eq(self.row_done & (own | group_ends)),
            self.tile_done.eq(self.row_done & ends),
            self.slot.step.eq(
                Mux(
                    row_ends,
                    Mux(position_last, Mux(group_last, STEP_LAYER, STEP_GROUP), STEP_POSITION),
                    STEP_ROW,
                )
            ),
        ]
        rows = Mux(registers.n4 == 0, registers.rows_last, registers.tile_rows)
        times = Array(Const((n + 1) * c, 8) for c in cycles for n in range(config.rows))
        time = times[Cat(rows, registers.flags.single_writes)]
        m.d.sync += self.tile_cycles.eq(Mux(own, config.lines * self.steps, time))
        return m

    def _cycles(self, m: Module, works: Value, cycles: list[int]) -> Value:
        """Cycles of a slot, and the lanes' steps in the first of them; the slot's last one."""
        flags = self.registers.flags
        cycle, following = Signal(range(max(cycles))), Signal(range(max(cycles)))
        stepping, step_last, last = Signal(init=1), Signal(), Signal()
        slot_last = works & last
        end = Mux(
            flags.own,
            self.steps - 1,
            Mux(flags.single_writes, cycles[True] - 1, cycles[False] - 1),
        )
        m.d.comb += [
            following.eq(Mux(works, Mux(last, 0, cycle + 1), cycle)),
            self.active.eq(works & stepping),
            self.step.eq(cycle),
            self.row_done.eq(works & step_last),
        ]
        m.d.sync += [
            cycle.eq(following),
            stepping.eq(following < self.steps),
            step_last.eq(following == self.steps - 1),
            last.eq(following == end),
        ]
        return slot_last

    def _ends(
        self, m: Module, number: Signal, slot_last: Value, tile_last: Value, group_last: Value
    ) -> Value:
        """Count the slots; whether this is the tile's last one."""
        registers, own = self.registers, self.registers.flags.own
        following = Signal.like(number)
        few, most = Signal(), Signal()  # the last slot of a tile with few of them, of any other
        ends = Mux(Mux(own, group_last, tile_last), few, most)
        m.d.comb += following.eq(Mux(slot_last, Mux(ends, 0, number + 1), number))
        # Rows in use are the array's last ones: the first of them is 3 - tile_rows. It selects from
        # a line's whole tile, so it comes from a register.
        m.d.sync += [
            self.row.eq(Mux(own, 0, following[:2] + ~registers.tile_rows)),
            number.eq(following),
            few.eq(following == Mux(own, registers.lines_last, registers.rows_last)),
            most.eq(following == Mux(own, self.config.lines - 1, registers.tile_rows)),
        ]
        return ends

    def _slot(self, m: Module, number: Signal, ends: Value, few: Value) -> None:
        """Lines of a slot, those in use where it is one of a few, and what the writer does."""
        own, lines = self.registers.flags.own, self.config.lines
        used = Array(Const((2 << line) - 1, lines) for line in range(lines))
        one = Array(Const(1 << line, lines) for line in range(lines))
        everyone = Const((1 << lines) - 1, lines)
        some = Mux(few, used[self.registers.lines_last], everyone)
        m.d.comb += [
            self.lines.eq(Mux(own, one[number], some)),
            self.slot.ends.eq(self.row_done),
            self.slot.lines.eq(self.lines),
            self.slot.first.eq(~own | (number == 0)),
            self.slot.moves.eq(~own | ends),
        ]


class LinesWriter(wiring.Component):
    """Writes the finished words of a row: a lower and an upper line's in a cycle.

    Lower are the first `lower_lines`. Both write at once unless the flag `single_writes` is set;
    the upper lines then follow the lower ones.

    Attributes
    ----------
    registers : LayerRegisters, in
    begin : 1, in
    slot : slot_layout, in
        With `ends`: the words of a row are at `words`, in this cycle only.
    words : 8V x P, in
    write : 1, out; address : 16, out; word : 8V, out
        A lower line's.
    upper_write : 1, out; upper_address : 16, out; upper_word : 8V, out
    layer_done : 1, out
        Pulse, behind the layer's last write.
    """

    registers: Any
    begin: Signal
    slot: Any
    words: Signal
    write: Signal
    address: Signal
    word: Signal
    upper_write: Signal
    upper_address: Signal
    upper_word: Signal
    layer_done: Signal

    def __init__(self, config: LinesConfig) -> None:
        self.config = config
        super().__init__(
            {
                "registers": In(LayerRegisters),
                "begin": In(1),
                "slot": In(slot_layout(config)),
                "words": In(config.word_bits * config.lines),
                "write": Out(1),
                "address": Out(16),
                "word": Out(config.word_bits),
                "upper_write": Out(1),
                "upper_address": Out(16),
                "upper_word": Out(config.word_bits),
                "layer_done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        registers, lower = self.registers, self.config.lower_lines
        base = Signal(16, reset_less=True)
        ending = Signal()
        lower_waits, upper_waits = Signal(), Signal()
        m.d.comb += self.layer_done.eq(ending & ~lower_waits & ~upper_waits)
        steps = Array(
            (registers.write_row, registers.write_position, registers.write_group, Const(0, 16))
        )
        with m.If(self.begin):
            m.d.sync += base.eq(registers.write_start)
        with m.Elif(self.slot.ends & self.slot.moves):
            m.d.sync += base.eq(base + steps[self.slot.step])
        with m.If(self.slot.ends):
            m.d.sync += ending.eq(self.slot.moves & (self.slot.step == STEP_LAYER))
        with m.Elif(self.layer_done):
            m.d.sync += ending.eq(0)

        halves = [(slice(0, lower), lower_waits, base, self.write, self.address, self.word)]
        m.d.comb += self.write.eq(lower_waits)
        if lower < self.config.lines:
            above = base + (registers.write_line << (lower - 1).bit_length())
            upper = slice(lower, self.config.lines)
            port = (self.upper_write, self.upper_address, self.upper_word)
            halves.append((upper, upper_waits, above, *port))
            single = registers.flags.single_writes & lower_waits
            m.d.comb += self.upper_write.eq(upper_waits & ~single)
        for number, (lines, waits, first, write, address, word) in enumerate(halves):
            m.d.comb += word.eq(self._half(m, number, lines, waits, write))
            with m.If(self.slot.ends & self.slot.first):
                m.d.sync += address.eq(first)
            with m.Elif(write):
                m.d.sync += address.eq(address + registers.write_line)
        return m

    def _half(self, m: Module, number: int, lines: slice, waits: Signal, write: Signal) -> Value:
        """Words of some lines and whether one of them waits; the word of the first that does."""
        bits = self.config.word_bits
        count = lines.stop - lines.start
        held = Signal(bits * count, name=f"held{number}", reset_less=True)
        waiting, following = (Signal(count, name=f"{name}{number}") for name in ("lines", "then"))
        line = Signal(range(count), name=f"line{number}", reset_less=True)
        with m.If(self.slot.ends):
            m.d.sync += held.eq(self.words[bits * lines.start : bits * lines.stop])
            m.d.comb += following.eq(self.slot.lines[lines])
        with m.Elif(write):
            m.d.comb += following.eq(waiting & (waiting - 1))
        with m.Else():
            m.d.comb += following.eq(waiting)
        m.d.sync += [waiting.eq(following), waits.eq(following.any())]
        for j in reversed(range(count)):
            with m.If(following[j]):
                m.d.sync += line.eq(j)
        return held.word_select(line, bits)
