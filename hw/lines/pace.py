"""When the next tile may end: the drain is done in time, and the constants are there."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.constants import SLOTS
from qcompile.hw.lines.registers import LayerRegisters


class TilePace(wiring.Component):
    """Keeps two tiles so far apart that the drain never waits and never loses a tile.

    From the start of a tile's last pass to its capture is the same time for all tiles of a layer.
    So captures are as far apart as those starts are: at least `tile_cycles`. The first tile of a
    channel group waits for the group's constants, or those of all lines' groups.

    Attributes
    ----------
    registers : LayerRegisters, in
    begin : 1, in
        Pulse: the layer's registers are new since this cycle.
    tile_issued, group_ends, last_group : 1, in
        As `LinesFeeder` has them.
    tile_cycles : 8, in
    completes : 1, in
        One more group of constants is complete.
    tile_ready : 1, out
        A tile's last pass may start; low for two cycles behind `begin` and `tile_issued`, with the
        flag `own` for the `OWN_CYCLES` - 1 behind `tile_issued` where passes may be shorter.
    """

    OWN_CYCLES = 6
    """From a tile's last pass until `last_group` is the next one's: tiles of a group each need the
    constants of its lines. Passes of as many products are no shorter."""

    registers: Any
    begin: Signal
    tile_issued: Signal
    group_ends: Signal
    last_group: Signal
    tile_cycles: Signal
    completes: Signal
    tile_ready: Signal

    def __init__(self, config: LinesConfig) -> None:
        self.config = config
        super().__init__(
            {
                "registers": In(LayerRegisters),
                "begin": In(1),
                "tile_issued": In(1),
                "group_ends": In(1),
                "last_group": In(1),
                "tile_cycles": In(8),
                "completes": In(1),
                "tile_ready": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        own = self.registers.flags.own
        left = Signal(8)
        spare = Signal(range(SLOTS + 1))  # complete groups that no issued tile needs
        first = Signal()  # the next tile is the first of its group
        issued = Signal()
        fresh = Signal()  # a layer or tile has begun: `spare` and `first` are not right yet
        stale: Value = Const(0)  # neither is `wants`
        if self.config.columns < self.OWN_CYCLES:
            later = Signal(self.OWN_CYCLES - 3)
            m.d.sync += later.eq(Cat(issued & own, later[:-1]))
            stale = later.any()
        used = Mux(self.last_group, self.registers.lines_last + 1, self.config.lines)
        wants = Signal(range(self.config.lines + 1))
        m.d.comb += wants.eq(Mux(own, used, 1))
        claims = Mux(issued & first, wants, 0)
        m.d.sync += [
            spare.eq(spare + self.completes - claims),
            issued.eq(self.tile_issued),
            fresh.eq(self.begin | self.tile_issued),
            # `left` will be 0, and what the first tile of a group wants is there.
            self.tile_ready.eq(
                ~(self.begin | self.tile_issued | fresh | stale)
                & (left <= 1)
                & (~first | (spare >= wants))
            ),
        ]
        with m.If(self.tile_issued):
            m.d.sync += left.eq(self.tile_cycles - 1)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.If(issued):
            m.d.sync += first.eq(self.group_ends | own)
        with m.If(self.begin):
            m.d.sync += [first.eq(1), left.eq(0)]
        return m
