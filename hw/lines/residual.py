"""Fetches residual words ahead of the rows that need them."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.delay import delay
from qcompile.hw.lines.config import MAX_LINES, LinesConfig
from qcompile.hw.lines.loop_nest import TILE_LEVELS, LoopNest
from qcompile.hw.lines.program import ADDRESS_BITS
from qcompile.hw.lines.registers import LayerRegisters
from qcompile.hw.program import COUNT_BITS

TILES = 2
"""Tiles whose words are kept."""


class LinesResidual(wiring.Component):
    """Walks the rows that the layer writes and reads the residual operand's words for them.

    A *row* is the words that all lines in use write for one row of a tile; with the flag `own`
    those of the whole tile. Tiles use all rows of the array. Words lie as those that are written
    do, `residual_offset` words on. One is requested a cycle, line 0's first; `request` waits
    for `grant`, and stops while the rows of `TILES` tiles are kept, and for a cycle behind a tile
    where rows may be of one word. Rows wait side by side: the
    oldest one's words stand at `words` until `take`.

    Without the flag `residual` nothing is requested and tiles are always ready.

    Parameters
    ----------
    read_latency : int
        Cycles from `grant` to `word`; no more than from `tile_issued` to a step in the lanes.

    Attributes
    ----------
    registers : LayerRegisters, in
    begin : 1, in
        Pulse: the layer starts, the registers are its.
    request : 1, out; address : 16, out; grant : 1, in
    word : 8V, in
    tile_ready : 1, out
        All words of the next tile are granted; right two cycles after `tile_issued` again.
    tile_issued : 1, in
        Pulse: a tile starts that will need its words.
    words : 8V x P, out
        Of the oldest row; undefined for lines that are not in use.
    take : 1, in
        With the row's last step in the lanes; the next row's words stand a cycle later.
    """

    registers: Any
    begin: Signal
    request: Signal
    address: Signal
    grant: Signal
    word: Signal
    tile_ready: Signal
    tile_issued: Signal
    words: Signal
    take: Signal

    def __init__(self, config: LinesConfig, *, read_latency: int) -> None:
        self.config = config
        self.read_latency = read_latency
        self.rows = TILES * config.rows
        super().__init__(
            {
                "registers": In(LayerRegisters),
                "begin": In(1),
                "request": Out(1),
                "address": Out(ADDRESS_BITS),
                "grant": In(1),
                "word": In(config.word_bits),
                "tile_ready": Out(1),
                "tile_issued": In(1),
                "words": Out(config.word_bits * config.lines),
                "take": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        enable = self.registers.flags.residual
        active = Signal()
        kept = Signal(range(self.rows + 1))
        room = Signal(init=1)  # `kept` is below `rows`
        tiles = Signal(range(self.rows + 1))
        granted = self.request & self.grant
        loops, line, line_ends, tile_ends, step = self._walk(m, granted)
        row_done = granted & line_ends
        tile_done = row_done & tile_ends
        # The loops step a cycle later, which a row's first word sees where it may be its last.
        m.d.comb += loops.step.eq(delay(m, tile_done, 1, "tile_done", reset=True))
        layer_ends, single = loops.ends[-1], self.registers.lines_last == 0
        waits = layer_ends | single | Const(self.config.lines == 1)
        layer_done = loops.step & layer_ends
        pauses, issued = Signal(), Signal()
        m.d.comb += self.request.eq(active & room & ~pauses)
        m.d.sync += pauses.eq(tile_done & waits)
        taken = self.take & enable
        with m.If(self.begin):
            m.d.sync += [active.eq(enable), kept.eq(0), room.eq(1), tiles.eq(0)]
            m.d.sync += self.tile_ready.eq(~enable)
        with m.Else():
            with m.If(layer_done):
                m.d.sync += active.eq(0)
            m.d.sync += issued.eq(self.tile_issued & enable)
            m.d.sync += [
                kept.eq(kept + row_done - taken),
                room.eq(taken | (room & ~(row_done & (kept == self.rows - 1)))),
                tiles.eq(tiles + tile_done - issued),
                self.tile_ready.eq(~enable | tile_done | Mux(issued, tiles[1:].any(), tiles.any())),
            ]
        self._step_address(m, granted, line_ends, step)
        self._keep(m, granted, line, row_done)
        return m

    def _walk(self, m: Module, granted: Value) -> tuple[LoopNest, Value, Value, Value, Value]:
        """Loops behind a tile; the line, whether its word is a row's last, whether this row is its
        tile's last; what the address gains behind a row."""
        registers, config = self.registers, self.config
        own, flat = registers.flags.own, registers.flags.flat
        m.submodules.loops = loops = LoopNest([COUNT_BITS[level] for level in TILE_LEVELS])
        line, row = Signal(range(MAX_LINES)), Signal(2)
        # Whether these are the last of few, and of all.
        few_lines, all_lines, few_rows, all_rows = (Signal() for _ in range(4))
        tile_last, position_last, group_last = loops.last
        rows_end = Mux(tile_last, few_rows, all_rows)
        row_ends = own | (tile_last & few_rows)
        fewer = Mux(own, group_last, Mux(flat, tile_last & few_rows, position_last))
        line_ends = Mux(fewer, few_lines, all_lines)
        tile_ends = own | rows_end
        m.d.comb += [
            loops.trips.eq(Cat(registers[f"n{level}"] for level in TILE_LEVELS)),
            loops.begin.eq(self.begin),
            loops.counts.eq(1),
        ]
        row_done = granted & line_ends
        for done, ends, number, few, all_, last, most in (
            (granted, line_ends, line, few_lines, all_lines, registers.lines_last, config.lines),
            (row_done, tile_ends, row, few_rows, all_rows, registers.rows_last, config.rows),
        ):
            restart = self.begin | ends
            with m.If(self.begin | done):
                m.d.sync += [
                    number.eq(Mux(restart, 0, number + 1)),
                    few.eq(Mux(restart, last == 0, (number + 1)[: len(number)] == last)),
                    all_.eq(Mux(restart, most == 1, number == most - 2)),
                ]
        step = Mux(
            row_ends,
            Mux(position_last, registers.write_group, registers.write_position),
            registers.write_row,
        )
        return loops, line, line_ends, tile_ends, step

    def _step_address(self, m: Module, granted: Value, line_ends: Value, step: Value) -> None:
        """Line by line from the row's first word; row by row between these."""
        registers = self.registers
        base = Signal(ADDRESS_BITS, reset_less=True)
        following_row = (base + step)[:ADDRESS_BITS]
        following_line = (self.address + registers.write_line)[:ADDRESS_BITS]
        first = registers.write_start + registers.residual_offset
        with m.If(self.begin):
            m.d.sync += [self.address.eq(first), base.eq(first)]
        with m.Elif(granted):
            m.d.sync += self.address.eq(Mux(line_ends, following_row, following_line))
            with m.If(line_ends):
                m.d.sync += base.eq(following_row)

    def _keep(self, m: Module, granted: Value, line: Value, row_done: Value) -> None:
        """A small memory for each line; a row's words lie at the same place in all of them."""
        newest = Signal(range(self.rows))
        oldest = Signal(range(self.rows))
        with m.If(self.begin):
            m.d.sync += [newest.eq(0), oldest.eq(0)]
        with m.Else():
            m.d.sync += [newest.eq(newest + row_done), oldest.eq(oldest + self.take)]
        place = delay(m, Cat(granted, line, newest), self.read_latency, "place", reset=True)
        comes, to_line = place[0], place[1 : 1 + len(line)]
        for number in range(self.config.lines):
            ram: memory.Memory = memory.Memory(
                shape=self.config.word_bits, depth=self.rows, init=[]
            )
            m.submodules[f"line{number}"] = ram
            writer, reader = ram.write_port(), ram.read_port(domain="comb")
            m.d.comb += [
                writer.en.eq(comes & (to_line == number)),
                writer.addr.eq(place[1 + len(line) :]),
                writer.data.eq(self.word),
                reader.addr.eq(oldest),
                self.words.word_select(number, self.config.word_bits).eq(reader.data),
            ]
