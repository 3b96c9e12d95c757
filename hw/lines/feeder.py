"""The feeder of an array of lines: walks a layer's loop nest, reads words, paces the products."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.feeder import FeedTags
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.program import ADDRESS_BITS, PASS_BITS, PRODUCT_BITS, TURN_BITS
from qcompile.hw.lines.registers import LayerRegisters
from qcompile.hw.loop_counter import LoopCounter
from qcompile.hw.program import COORDINATE_BITS, COUNT_BITS, LEVELS


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
    of a tile for `tile_ready` too. In a cycle with `feed` the memory reads for the lines in
    `feed_lines`; `inside` belongs to the same cycle. `load` comes `LOAD_DELAY` cycles after the
    read that completes the chain, where words take three cycles from `feed` to the chain's input.
    The weights of the products behind it are taken ahead: `take` and `tags` belong to the product
    `TAKE_DELAY` cycles later.

    Cycles: `pass_cycles` of the registers for each pass.

    Attributes
    ----------
    registers : LayerRegisters, in
        Constant while a layer runs.
    begin : 1, in
        Pulse, one cycle after the registers are set.
    ready, tile_ready : 1, in
    feed : 1, out; address : 16, out; feed_lines : lines, out
        Line 0's word, and who reads.
    inside : lines, out
        Whose word is part of the picture.
    load : 1, out
    take : 1, out; tags : FeedTags, out
    tile_issued : 1, out
        Pulse: a tile's last pass starts.
    group_ends, last_group : 1, out
        With `tile_issued`: the tile ends its channel group; the group is the layer's last.
    last_tile : 1, out
        With `take`: the tile is the last that uses its group's weights.
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
        loops = [LoopCounter(bits) for bits in COUNT_BITS]
        last = [loop.last for loop in loops]
        read_done = Signal()
        for i, loop in enumerate(loops):
            m.submodules[f"loop{i}"] = loop
            m.d.comb += [
                loop.trips.eq(registers[f"n{i}"]),
                loop.begin.eq(self.begin),
                loop.step.eq(read_done & Cat(*last[:i], Const(1, 1)).all()),
            ]
        m.submodules.passes = passes = LoopCounter(PASS_BITS)
        m.submodules.turns = turns = LoopCounter(TURN_BITS)
        at_pass = Signal()
        reading = Signal()
        pass_last = Cat(last[1:4]).all()
        starts = Signal()
        running = Signal()
        m.d.comb += [
            starts.eq(self.active & at_pass & self.ready & (~pass_last | self.tile_ready)),
            running.eq(starts | (self.active & ~at_pass)),
            passes.trips.eq(registers.pass_cycles),
            passes.begin.eq(self.begin),
            passes.step.eq(running),
            self.feed.eq(running & (starts | reading)),
            turns.trips.eq(registers.turns),
            turns.begin.eq(self.begin),
            turns.step.eq(self.feed),
            read_done.eq(self.feed & turns.last),
            self.tile_issued.eq(starts & pass_last),
            self.group_ends.eq(last[4] & last[5]),
            self.last_group.eq(last[6]),
        ]
        ended = Signal()
        with m.If(self.begin):
            m.d.sync += [self.active.eq(1), at_pass.eq(1), reading.eq(1), ended.eq(0)]
        with m.Else():
            with m.If(read_done & last[0]):
                m.d.sync += [reading.eq(0), ended.eq(Cat(last).all())]
            with m.If(running):
                m.d.sync += at_pass.eq(passes.last)
                with m.If(passes.last):
                    m.d.sync += reading.eq(1)
                    with m.If(ended | (read_done & Cat(last).all())):
                        m.d.sync += self.active.eq(0)
        self._position(m, last, read_done)
        self._lines(m, turns)
        self._products(m, last, read_done, pass_last)
        return m

    def _position(self, m: Module, last: list[Signal], read_done: Signal) -> None:
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
        inside_p = p <= registers.p_bound
        for line in range(self.config.lines):
            moved = Signal(COORDINATE_BITS, name=f"moved{line}", reset_less=True)
            across = Signal(COORDINATE_BITS, name=f"across{line}")
            # `line_o` is constant while a layer runs: its multiples are registers.
            m.d.sync += moved.eq(registers.line_o * line)
            m.d.comb += [
                across.eq(o + moved),
                self.inside[line].eq(inside_p & (across <= registers.o_bound)),
            ]

    def _lines(self, m: Module, turns: LoopCounter) -> None:
        """Which lines read in this turn."""
        turn = Signal(TURN_BITS)
        with m.If(self.begin):
            m.d.sync += turn.eq(0)
        with m.Elif(self.feed):
            m.d.sync += turn.eq(Mux(turns.last, 0, turn + 1))
        masks = Array(
            Const(mask, self.config.lines) for row in turn_masks(self.config.lines) for mask in row
        )
        chosen = masks[Cat(turn, self.registers.turns)]
        m.d.comb += self.feed_lines.eq(Mux(self.feed, chosen, 0))

    def _products(self, m: Module, last: list[Signal], read_done: Signal, pass_last: Any) -> None:
        """Loads, and the products behind them."""
        registers, flags = self.registers, self.registers.flags
        index = Signal(COUNT_BITS[0])
        filled = Signal()  # the chain holds a word for every row of the tile but the newest
        pass_first = Signal()
        first_read = Signal()
        fill = Mux(flags.apart, registers.tile_rows << 1, registers.tile_rows)
        full = registers.tile_rows == 0
        with m.If(self.begin):
            m.d.sync += [index.eq(0), filled.eq(full), pass_first.eq(1)]
        with m.Elif(read_done):
            m.d.sync += [
                index.eq(Mux(last[0], 0, index + 1)),
                filled.eq(Mux(last[0], full, filled | (index + 1 == fill))),
            ]
            with m.If(last[0]):
                m.d.sync += pass_first.eq(pass_last)
        m.d.comb += first_read.eq(index == fill)
        loads = Signal()
        m.d.comb += loads.eq(read_done & Mux(flags.window, filled, last[0]))

        # Cycle 1: the load's products start; later ones of a rotate pass follow.
        starts = Signal()
        first = Signal()
        ends = Signal()
        last_use = Signal()
        m.d.sync += [
            starts.eq(loads),
            first.eq(pass_first & (~flags.window | first_read)),
            ends.eq(pass_last & last[0]),
            last_use.eq(last[4] & last[5] & (last[6] | ~flags.shared_weights)),
        ]
        left = Signal(PRODUCT_BITS)
        ending = Signal()
        using = Signal()
        single = flags.window | (registers.products == 0)
        m.d.comb += [
            self.take.eq(starts | (left != 0)),
            self.tags.valid.eq(self.take),
            self.tags.first.eq(starts & first),
            self.tags.last.eq(Mux(starts, ends & single, ending & (left == 1))),
            self.last_tile.eq(Mux(starts, last_use, using)),
        ]
        with m.If(starts):
            m.d.sync += [
                left.eq(Mux(flags.window, 0, registers.products)),
                ending.eq(ends),
                using.eq(last_use),
            ]
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        delays = Signal(self.LOAD_DELAY)
        m.d.sync += delays.eq(Cat(loads, delays[:-1]))
        m.d.comb += self.load.eq(delays[-1])
