"""The feeder of an array of lines: walks a layer's loop nest, reads words, paces the products."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.delay import delay
from qcompile.hw.feeder import FeedTags
from qcompile.hw.lines.addresses import multiples
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.loop_nest import LoopNest
from qcompile.hw.lines.program import ADDRESS_BITS, PASS_BITS, PRODUCT_BITS, TURN_BITS
from qcompile.hw.lines.registers import LayerRegisters
from qcompile.hw.loop_counter import LoopCounter
from qcompile.hw.program import COORDINATE_BITS, COUNT_BITS, LEVELS

LOOPS = (range(1), range(1, 4), range(4, LEVELS))
"""Reads of a pass, passes of a tile, tiles."""


def turn_masks(lines: int) -> list[list[int]]:
    """For turns - 1 and a turn: the lines that read in it."""
    masks = []
    for turns in range(1, (1 << TURN_BITS) + 1):
        share = -(-lines // turns)
        whole = (1 << share) - 1
        masks.append([whole << share * turn & (1 << lines) - 1 for turn in range(1 << TURN_BITS)])
    return masks


class LinesFeeder(wiring.Component):
    """Address generator of all lines' reads, and pacemaker of the products.

    A pass is never interrupted; between passes the feeder waits for `ready`, before the last pass
    of a tile for `tile_ready` too, which is low for two cycles behind `tile_issued`. In a cycle
    with `feed` the memory reads for the lines in `feed_lines`. `load` comes `LOAD_DELAY` cycles
    after the read that completes the chain, where words take three cycles from `feed` to the
    chain's input. The weights of the products behind it are taken ahead: `take` and `tags` belong
    to the product `TAKE_DELAY` cycles later.

    Cycles: `pass_cycles` of the registers for each pass.

    Attributes
    ----------
    registers : LayerRegisters, in
        Constant while a layer runs.
    begin : 1, in
        Pulse, one cycle after the registers are set.
    ready, tile_ready : 1, in
    feed : 1, out; address : 16, out; feed_lines : lines, out
        Line 0's word, and who reads; both count with `feed` only.
    inside : lines, out
        A cycle after `feed`: whose word is part of the picture.
    load : 1, out
    take : 1, out; tags : FeedTags, out
    tile_issued : 1, out
        Pulse: a tile's last pass starts.
    group_ends, last_group : 1, out
        A cycle after `tile_issued`: the tile ends its channel group; the group is the layer's last.
    last_tile : 1, out
        With `tags.last`: the tile is the last that uses its group's weights.
    active : 1, out
    """

    LOAD_DELAY = 4
    TAKE_DELAY = 3

    registers: Any
    begin: Signal
    ready: Signal
    tile_ready: Signal
    feed: Signal
    address: Signal
    feed_lines: Signal
    inside: Signal
    load: Signal
    take: Signal
    tags: Any
    tile_issued: Signal
    group_ends: Signal
    last_group: Signal
    last_tile: Signal
    active: Signal

    def __init__(self, config: LinesConfig) -> None:
        self.config = config
        super().__init__(
            {
                "registers": In(LayerRegisters),
                "begin": In(1),
                "ready": In(1),
                "tile_ready": In(1),
                "feed": Out(1),
                "address": Out(ADDRESS_BITS),
                "feed_lines": Out(config.lines),
                "inside": Out(config.lines),
                "load": Out(1),
                "take": Out(1),
                "tags": Out(FeedTags),
                "tile_issued": Out(1),
                "group_ends": Out(1),
                "last_group": Out(1),
                "last_tile": Out(1),
                "active": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        registers = self.registers
        read_done = Signal()
        last, pass_last, layer_last = self._loops(m, read_done)
        m.submodules.cycles = cycles = LoopCounter(PASS_BITS)
        m.submodules.turns = turns = LoopCounter(TURN_BITS)
        at_pass = Signal()  # the next pass may start
        in_pass = Signal()  # a pass has started before,
        reading = Signal()  # and has reads left
        starts = Signal()
        running = Signal()
        m.d.comb += [
            starts.eq(at_pass & self.ready & (~pass_last | self.tile_ready)),
            running.eq(starts | in_pass),
            self.active.eq(at_pass | in_pass),
            cycles.trips.eq(registers.pass_cycles),
            cycles.begin.eq(self.begin),
            cycles.step.eq(running),
            self.feed.eq(starts | reading),
            turns.trips.eq(registers.turns),
            turns.begin.eq(self.begin),
            turns.step.eq(self.feed),
            read_done.eq(self.feed & turns.last),
            self.tile_issued.eq(starts & pass_last),
            self.group_ends.eq(last[4] & last[5]),
            self.last_group.eq(last[6]),
        ]
        done, ends = read_done & last[0], read_done & layer_last
        ended = Signal()  # the layer's last read is done
        with m.If(self.begin):
            m.d.sync += [at_pass.eq(1), ended.eq(0)]
        with m.Elif(running):
            more = ~ended & ~ends
            m.d.sync += [
                at_pass.eq(cycles.last & more),
                in_pass.eq(~cycles.last),
                reading.eq(~cycles.last & ~done & (starts | reading)),
                ended.eq(ended | ends),
            ]
        self._position(m, last, read_done)
        self._lines(m, turns)
        self._products(m, last, read_done, pass_last)
        return m

    def _loops(self, m: Module, read_done: Signal) -> tuple[list[Value], Value, Value]:
        """Which loops are in their last trips; the tile's last pass, the layer's last read."""
        reads, passes, tiles = (
            LoopNest([COUNT_BITS[level] for level in levels]) for levels in LOOPS
        )
        m.submodules.reads, m.submodules.passes, m.submodules.tiles = reads, passes, tiles
        for levels, loops in zip(LOOPS, (reads, passes, tiles), strict=True):
            trips = Cat(self.registers[f"n{level}"] for level in levels)
            m.d.comb += [loops.trips.eq(trips), loops.begin.eq(self.begin)]
        tile_read = reads.last & passes.ends[-1]
        # Tiles step a cycle later: who looks at them does so at a tile's last read or behind it.
        tile_done = delay(m, read_done & tile_read, 1, "tile_done", reset=True)
        m.d.comb += [
            reads.step.eq(read_done),
            reads.counts.eq(1),
            passes.step.eq(read_done),
            passes.counts.eq(reads.last),
            tiles.step.eq(tile_done),
            tiles.counts.eq(1),
        ]
        last = [*reads.last, *passes.last, *tiles.last]
        return last, passes.ends[-1], tile_read & tiles.ends[-1]

    def _position(self, m: Module, last: list[Value], read_done: Signal) -> None:
        """Line 0's address and coordinates; they step on behind each read's last turn."""
        registers = self.registers
        p = Signal(COORDINATE_BITS, reset_less=True)
        o = Signal(COORDINATE_BITS, reset_less=True)
        level = Signal(range(LEVELS))
        m.d.comb += level.eq(LEVELS - 1)
        for i in reversed(range(LEVELS - 1)):
            with m.If(~last[i]):
                m.d.comb += level.eq(i)
        for name, register in (("address", self.address), ("p", p), ("o", o)):
            steps = Array(registers[f"delta{i}_{name}"] for i in range(LEVELS))
            with m.If(self.begin):
                m.d.sync += register.eq(registers[f"start_{name}"])
            with m.Elif(read_done):
                m.d.sync += register.eq(register + steps[level])
        self._inside(m, p, o)

    def _inside(self, m: Module, p: Signal, o: Signal) -> None:
        """Cycle 0: each line's coordinate. Cycle 1: compared, for the words of cycle 0."""
        registers = self.registers
        inside_p = Signal(reset_less=True)
        m.d.sync += inside_p.eq(p <= registers.p_bound)
        # `line_o` is constant while a layer runs: its multiples are registers.
        moved = multiples(m, registers.line_o, self.config.lines)
        for line, offset in enumerate(moved):
            across = Signal(COORDINATE_BITS, name=f"across{line}", reset_less=True)
            m.d.sync += across.eq(o + offset)
            m.d.comb += self.inside[line].eq(inside_p & (across <= registers.o_bound))

    def _lines(self, m: Module, turns: LoopCounter) -> None:
        """Which lines read in this turn: from registers, as they choose every bank's row."""
        turn, following = Signal(TURN_BITS), Signal(TURN_BITS)
        masks = Array(
            Const(mask, self.config.lines) for row in turn_masks(self.config.lines) for mask in row
        )
        m.d.comb += following.eq(Mux(self.begin | turns.last, 0, turn + 1))
        with m.If(self.begin | self.feed):
            m.d.sync += [
                turn.eq(following),
                self.feed_lines.eq(masks[Cat(following, self.registers.turns)]),
            ]

    def _products(self, m: Module, last: list[Value], read_done: Signal, pass_last: Value) -> None:
        """Loads, and the products behind them."""
        registers, flags = self.registers, self.registers.flags
        missing = Signal(3)  # words before the chain holds one for every row but the newest
        filled = Signal()  # none
        loaded = Signal()  # the pass has loaded before
        pass_first = Signal()
        with m.If(self.begin | (read_done & last[0])):
            m.d.sync += [
                missing.eq(Mux(flags.apart, registers.tile_rows << 1, registers.tile_rows)),
                filled.eq(registers.tile_rows == 0),
                loaded.eq(0),
                pass_first.eq(self.begin | pass_last),
            ]
        with m.Elif(read_done):
            m.d.sync += [missing.eq(missing - 1), loaded.eq(filled)]
            m.d.sync += filled.eq(filled | (missing == 1))
        loads = Signal()
        m.d.comb += loads.eq(read_done & Mux(flags.window, filled, last[0]))

        # Cycle 1: the load's products start; later ones of a rotate pass follow.
        starts = Signal()
        first = Signal()
        ends = Signal()
        last_use = Signal()
        m.d.sync += [
            starts.eq(loads),
            first.eq(pass_first & (~flags.window | ~loaded)),
            ends.eq(pass_last & last[0]),
            last_use.eq(last[4] & last[5] & (last[6] | ~flags.shared_weights)),
        ]
        left = Signal(PRODUCT_BITS)
        more, one = Signal(), Signal()  # `left` is not 0, is 1
        ending = Signal()
        using = Signal()
        single, pair = Signal(), Signal()  # a load has 1 or 2 products: constant in a layer
        m.d.sync += [
            single.eq(flags.window | (registers.products == 0)),
            pair.eq(~flags.window & (registers.products == 1)),
        ]
        m.d.comb += [
            self.take.eq(starts | more),
            self.tags.valid.eq(self.take),
            self.tags.first.eq(starts & first),
            self.tags.last.eq(Mux(starts, ends & single, ending & one)),
            self.last_tile.eq(Mux(starts, last_use, using)),
        ]
        with m.If(starts):
            m.d.sync += [
                left.eq(registers.products),
                more.eq(~single),
                one.eq(pair),
                ending.eq(ends),
                using.eq(last_use),
            ]
        with m.Elif(more):
            m.d.sync += [left.eq(left - 1), more.eq(~one), one.eq(left == 2)]
        delays = Signal(self.LOAD_DELAY)
        m.d.sync += delays.eq(Cat(loads, delays[:-1]))
        m.d.comb += self.load.eq(delays[-1])
