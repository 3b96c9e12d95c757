"""When the next tile may end: the drain is done in time, and the constants are there."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
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
    groups : in; group_done : 1, in
        Complete groups of constants; one of them is used up.
    tile_ready : 1, out
        A tile's last pass may start; low for two cycles behind `begin` and `tile_issued`.
    """

    registers: Any
    begin: Signal
    tile_issued: Signal
    group_ends: Signal
    last_group: Signal
    tile_cycles: Signal
    groups: Signal
    group_done: Signal
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
                "groups": In(range(SLOTS + 1)),
                "group_done": In(1),
                "tile_ready": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        own = self.registers.flags.own
        left = Signal(8)
        claimed = Signal(range(2 * SLOTS))  # groups of issued tiles that are not used up
        first = Signal()  # the next tile is the first of its group
        enough = Signal()
        fresh = Signal()  # a layer or tile has begun: `enough` is not right yet
        used = Mux(self.last_group, self.registers.lines_last + 1, self.config.lines)
        wants = Signal(range(self.config.lines + 1))
        m.d.comb += [
            wants.eq(Mux(own, used, 1)),
            self.tile_ready.eq((left == 0) & enough),
        ]
        claims = Mux(self.tile_issued & first, wants, 0)
        m.d.sync += [
            claimed.eq(claimed + claims - self.group_done),
            fresh.eq(self.begin | self.tile_issued),
            enough.eq(
                ~(self.begin | self.tile_issued | fresh)
                & (~first | (self.groups >= claimed + wants))
            ),
        ]
        with m.If(self.tile_issued):
            m.d.sync += [left.eq(self.tile_cycles - 1), first.eq(self.group_ends | own)]
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.If(self.begin):
            m.d.sync += [first.eq(1), left.eq(0)]
        return m
