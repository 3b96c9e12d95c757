"""The cocotb side of `test_drain`: the drain's loops walked in Python beside the hardware."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any

import cocotb

from qcompile.hw.drain import STEP_GROUP, STEP_LAYER, STEP_POSITION, STEP_ROW
from qcompile.hw.registers import LayerRegisters
from sim_tests.hw.clocked import bits_of, dice, edge, port, read, reset, settle, start_clock, trips

ROWS = 4
CHANNELS = 4
LAYERS = 15
HANGS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row as the drain must treat it."""

    used: bool
    step: int
    tile_end: bool
    group_end: bool


def rows_of(tiles: int, positions: int, groups: int, rows_last: int) -> Iterator[Row]:
    """The loop nest: rows of a tile, tiles of a line, positions, channel groups."""
    for row, tile, position, group in trips((ROWS, tiles, positions, groups)):
        last_tile = tile == tiles - 1
        ends = [last_tile and row == rows_last - 1, position == positions - 1, group == groups - 1]
        steps = (STEP_ROW, STEP_POSITION, STEP_GROUP, STEP_LAYER)
        yield Row(
            used=not last_tile or row < rows_last,
            step=steps[next((i for i, end in enumerate(ends) if not end), 3)],
            tile_end=row == ROWS - 1,
            group_end=row == ROWS - 1 and last_tile and position == positions - 1,
        )


class Bench:
    """Rows that become available and may go at random times."""

    def __init__(self, dut: Any, rng: Random, available: float, ready: float) -> None:
        self.dut = dut
        self.rng = rng
        self.chances = available, ready

    async def layer(self) -> None:
        """One layer from its begin to its last row."""
        dut, rng = self.dut, self.rng
        shape = [rng.choice([1, 1, 2, 3]) for _ in range(3)]
        rows_last = rng.randint(1, ROWS)
        counts = dict(zip(("n4", "n5", "n6"), (count - 1 for count in shape), strict=True))
        registers = bits_of(LayerRegisters, {"counts": counts, "rows_last": rows_last - 1})
        port(dut, "registers").value = registers
        port(dut, "begin").value = 1
        dut.available.value = 0
        await edge(dut)
        port(dut, "begin").value = 0
        values: list[tuple[int, Row]] = []
        pending = list(rows_of(shape[0], shape[1], shape[2], rows_last))
        ends = [(row.tile_end, row.group_end) for row in pending]
        while pending or values:
            await self.cycle(pending, values, ends)
        for _ in range(3):
            await self.cycle(pending, values, ends)
        assert not ends
        assert not read(dut, "active")

    async def cycle(
        self, pending: list[Row], values: list[tuple[int, Row]], ends: list[tuple[bool, bool]]
    ) -> None:
        """One cycle; `values` are the columns of the row that has gone, still to be handed out."""
        dut = self.dut
        available, ready = (self.rng.random() < chance for chance in self.chances)
        dut.available.value, dut.row_ready.value = int(available), int(ready)
        await settle()
        column_next = read(dut, "column_next")
        assert read(dut, "valid") == bool(values), "a value a cycle, four for a row"
        if values:
            column, row = values.pop(0)
            assert read(dut, "column") == column
            if column == CHANNELS - 1:
                assert read(dut, "tag") == row.step
        went, dropped = bool(read(dut, "row_start")), bool(read(dut, "skip"))
        if went or dropped:
            assert available and not values, "a row goes where there is one, after the one before"
            row = pending.pop(0)
            assert (went, dropped) == (row.used, not row.used)
            assert ready or dropped
            if went:
                values += [(column, row) for column in range(CHANNELS)]
        if read(dut, "tile_done"):
            while not ends[0][0]:
                ends.pop(0)
            assert ends.pop(0)[1] == bool(read(dut, "group_done"))
        if values:
            assert column_next == values[0][0]
        await edge(dut)


@cocotb.test()
async def rows_go_in_loop_order(dut: Any) -> None:
    """Random shapes, the last tile partly used, with and without pauses."""
    start_clock(dut)
    for available, ready in product((1.0, 0.4), (1.0, 0.4)):
        rng = dice(available, ready)
        await reset(dut, registers=0, begin=0, available=0, row_ready=0)
        bench = Bench(dut, rng, available, ready)
        for _ in range(LAYERS):
            await bench.layer()
