"""The feeder: walks a layer's loop nest and reads one activation word a cycle."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.layouts import BANK_ADDRESS_BITS
from qcompile.hw.loop_counter import LoopCounter
from qcompile.hw.program import COORDINATE_BITS, COUNT_BITS, LEVELS
from qcompile.hw.registers import LayerRegisters

FeedTags = data.StructLayout({"valid": 1, "first": 1, "last": 1})
"""Travel with a weight word: it is valid, and the first or last of its tile."""


class Feeder(wiring.Component):
    """Address generator of the activation reads, and pacemaker of the array.

    A pass of n0 reads is never interrupted; between passes the feeder waits for `ready`. In the
    cycle after a read is issued its address stands at `address` and the memory is accessed; one
    cycle later the memory's word is at the array together with `in_bounds` and `load`.

    Cycles: 1 a read. Backpressure: `ready`, looked at in the first cycle of a pass only.

    Attributes
    ----------
    registers : LayerRegisters, in
        Constant while a layer runs.
    begin : 1, in
        Pulse: start the layer. `load_start` has loaded the first position before.
    load_start : 1, in
        The start position is at `delta`.
    level : 3, out
        Loop that steps on after the issued read; `delta` answers in the next cycle.
    delta : 32, in
        Step of that loop, or the start position.
    ready : 1, in
        The pass may start (weights are there, nobody waits for the bank).
    tile_ready : 1, in
        A tile may start (the drain will have room for it).
    at_pass : 1, out
        The next read is the first of a pass.
    pass_reads : 6, out
        Reads of a pass, minus one.
    issue, issue_tile_start, issue_tile_end, last_tile : 1, out
        A weight word is consumed; it is the first or last of a tile; the tile is the last that
        uses its group's words.
    access : 1, out
        The memory is read in this cycle at `address` (14 bits).
    in_bounds : 1, out
        The word read in the cycle before is real, otherwise it is padding.
    load : 4, out
        Rows that take the word read in the cycle before.
    tags : FeedTags, out
        Of the weight word, in the cycle in which `load` is up for its read.
    active : 1, out
        Reads of the layer remain.
    """

    registers: Any
    begin: Signal
    load_start: Signal
    level: Signal
    delta: Signal
    ready: Signal
    tile_ready: Signal
    at_pass: Signal
    pass_reads: Signal
    issue: Signal
    issue_tile_start: Signal
    issue_tile_end: Signal
    last_tile: Signal
    access: Signal
    address: Signal
    in_bounds: Signal
    load: Signal
    tags: Any
    active: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "registers": In(LayerRegisters),
                "begin": In(1),
                "load_start": In(1),
                "level": Out(3),
                "delta": In(32),
                "ready": In(1),
                "tile_ready": In(1),
                "at_pass": Out(1),
                "pass_reads": Out(COUNT_BITS[0]),
                "issue": Out(1),
                "issue_tile_start": Out(1),
                "issue_tile_end": Out(1),
                "last_tile": Out(1),
                "access": Out(1),
                "address": Out(BANK_ADDRESS_BITS),
                "in_bounds": Out(1),
                "load": Out(4),
                "tags": Out(FeedTags),
                "active": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        row = self._loops(m)
        self._position(m)
        self._pipeline(m, row)
        return m

    def _loops(self, m: Module) -> Signal:
        """Cycle 0: counters; returns the row (modulo 4) that the issued read belongs to."""
        counts = self.registers["counts"]
        loops = [LoopCounter(bits) for bits in COUNT_BITS]
        last = [loop.last for loop in loops]
        tile_start = self.issue_tile_start
        row = Signal(2)
        at_tile = Signal()
        m.d.comb += [
            self.pass_reads.eq(counts["n0"]),
            self.issue.eq(
                self.active & (~self.at_pass | (self.ready & (~at_tile | self.tile_ready)))
            ),
            tile_start.eq(at_tile & self.at_pass & self.issue),
            self.issue_tile_end.eq(self.issue & Cat(last[:4]).all()),
            self.last_tile.eq(
                last[4] & last[5] & (last[6] | ~self.registers["flags"]["shared_weights"])
            ),
            self.level.eq(LEVELS - 1),
        ]
        for i in reversed(range(LEVELS - 1)):
            with m.If(~last[i]):
                m.d.comb += self.level.eq(i)
        for i, loop in enumerate(loops):
            m.submodules[f"loop{i}"] = loop
            m.d.comb += [
                loop.trips.eq(counts[f"n{i}"]),
                loop.begin.eq(self.begin),
                loop.step.eq(self.issue & Cat(*last[:i], Const(1, 1)).all()),
            ]
        with m.If(self.begin):
            m.d.sync += [self.active.eq(1), self.at_pass.eq(1), at_tile.eq(1), row.eq(0)]
        with m.Elif(self.issue):
            m.d.sync += [
                self.at_pass.eq(last[0]),
                row.eq(Mux(last[0], 0, row + 1)),
                at_tile.eq(self.issue_tile_end),
                self.active.eq(~Cat(last).all()),
            ]
        return row

    def _position(self, m: Module) -> None:
        """Cycle 1: `address` is read while the step to the next position is added."""
        p = Signal(COORDINATE_BITS, reset_less=True)
        o = Signal(COORDINATE_BITS, reset_less=True)
        fields = data.StructLayout(
            {"a": BANK_ADDRESS_BITS, "p": COORDINATE_BITS, "o": COORDINATE_BITS}
        )
        step = data.View(fields, self.delta)
        with m.If(self.access | self.load_start):
            m.d.sync += [
                register.eq(Mux(self.load_start, part, register + part))
                for register, part in ((self.address, step.a), (p, step.p), (o, step.o))
            ]
        m.d.sync += self.in_bounds.eq(
            (p <= self.registers["p_bound"]) & (o <= self.registers["o_bound"])
        )

    def _pipeline(self, m: Module, row: Signal) -> None:
        """Cycles 1 and 2: the row and the tags follow the read through the memory."""
        row_q = Signal(2)
        tags: Any = Signal(FeedTags)
        m.d.sync += [
            self.access.eq(self.issue),
            tags.valid.eq(self.issue),
            tags.first.eq(self.issue_tile_start),
            tags.last.eq(self.issue_tile_end),
            self.tags.eq(tags),
            row_q.eq(row),
        ]
        one_hot = Array(Const(1 << i, 4) for i in range(4))
        with m.If(self.access):
            m.d.sync += self.load.eq(
                Mux(self.registers["flags"]["broadcast"], 0b1111, one_hot[row_q])
            )
        with m.Else():
            m.d.sync += self.load.eq(0)
