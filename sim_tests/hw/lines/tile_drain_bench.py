"""The cocotb side of `test_tile_drain`: tiles at any distance, steps and writes by a timetable.

A captured tile puts the steps of all its rows, and the writes behind them, into the timetable.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import cocotb

from qcompile.hw.lines.registers import LayerRegisters
from sim_tests.hw.clocked import bits_of, dice, edge, port, read, reset, settle, start_clock
from sim_tests.hw.lines.residual_bench import ROWS, Shape

LAYERS = 10
SILENT = 12
"""Cycles without anything behind a layer."""
INPUTS = ("registers", "begin", "captured", "words")
PULSES = ("active", "row_done", "group_done", "tile_done", "write", "upper_write", "layer_done")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What the lanes do at once, and where the words go: of one row, or of one line's own."""

    row: int
    lines: int
    addresses: tuple[int, ...]
    group_done: bool
    tile_done: bool


def registers_of(shape: Shape, single: bool) -> int:
    """The descriptor's fields; counts are stored minus one."""
    counts = {"n4": shape.tiles, "n5": shape.positions, "n6": shape.groups}
    counts |= {"rows_last": shape.rows_last, "lines_last": shape.lines_last}
    counts["tile_rows"] = shape.tile_rows
    addresses = ("start", "line", "row", "position", "group")
    places = (shape.first, shape.line, shape.row, shape.position, shape.group)
    fields: dict[str, Any] = {name: count - 1 for name, count in counts.items()}
    fields |= {f"write_{name}": place for name, place in zip(addresses, places, strict=True)}
    flags = {"own": shape.own, "flat": shape.flat, "single_writes": single}
    fields["flags"] = {name: int(up) for name, up in flags.items()}
    return bits_of(LayerRegisters, fields)


def tiles_of(shape: Shape, lines: int) -> Iterator[list[Slot]]:
    """Each tile's slots, in order."""
    number = row = 0
    slots: list[Slot] = []
    for found in shape.rows(lines):
        number += found.ends_tile
        used = range(len(found.addresses))
        group_ends = found.ends_tile and number % (shape.tiles * shape.positions) == 0
        if shape.own:
            yield [
                Slot(
                    row=0,
                    lines=1 << line,
                    addresses=found.addresses[line : line + 1],
                    group_done=True,
                    tile_done=line == used[-1],
                )
                for line in used
            ]
            continue
        slots.append(
            Slot(
                row=ROWS - shape.tile_rows + row,
                lines=(1 << len(used)) - 1,
                addresses=found.addresses,
                group_done=group_ends,
                tile_done=found.ends_tile,
            )
        )
        row = 0 if found.ends_tile else row + 1
        if found.ends_tile:
            yield slots
            slots = []


class Bench:
    """An array that captures tiles, and lanes that only delay."""

    def __init__(self, dut: Any, rng: Random) -> None:
        self.dut = dut
        self.rng = rng
        self.lines, self.bits, self.steps, self.latency = (
            int(os.environ[f"QCOMPILE_{name}"]) for name in ("LINES", "BITS", "STEPS", "LATENCY")
        )
        self.lower = next(n for n in (1, 2, 4) if 2 * n >= self.lines)
        self.single = False
        self.now = 0
        self.due: defaultdict[int, dict[str, int]] = defaultdict(dict)
        """Outputs by cycle; one that is left out is zero or anything."""
        self.words: dict[int, int] = {}
        """Finished words by the cycle in which the lanes give them."""

    def row_cycles(self) -> int:
        """Cycles of a row of all lines."""
        return max(self.steps, self.lines if self.single else self.lower)

    def capture(self, shape: Shape, slots: list[Slot]) -> None:
        """All that follows a tile captured in this cycle."""
        cycles = self.steps if shape.own else self.row_cycles()
        for number, slot in enumerate(slots):
            starts = self.now + number * cycles
            for step in range(self.steps):
                wanted = {"active": 1, "row": slot.row, "step": step, "lines": slot.lines}
                self.due[starts + step] |= wanted
            ends = starts + self.steps - 1
            self.due[ends] |= {
                "row_done": 1,
                "group_done": int(slot.group_done),
                "tile_done": int(slot.tile_done),
            }
            words = self.rng.getrandbits(self.bits * self.lines)
            self.words[ends + self.latency] = words
            used = [line for line in range(self.lines) if slot.lines >> line & 1]
            for number, (line, address) in enumerate(zip(used, slot.addresses, strict=True), 1):
                word = words >> self.bits * line & (1 << self.bits) - 1
                if line < self.lower:
                    written = {"write": 1, "address": address, "word": word}
                else:
                    written = {"upper_write": 1, "upper_address": address, "upper_word": word}
                later = number if self.single or line < self.lower else number - self.lower
                later = 1 if shape.own else later
                self.due[ends + self.latency + later] |= written

    async def cycle(self) -> None:
        """One cycle, everything compared."""
        dut = self.dut
        garbage = self.rng.getrandbits(self.bits * self.lines)
        dut.words.value = self.words.pop(self.now, garbage)
        await settle()
        wanted = dict.fromkeys(PULSES, 0) | self.due.pop(self.now, {})
        found = {name: read(dut, name) for name in wanted}
        assert found == wanted, f"cycle {self.now}: {found}, not {wanted}"
        self.now += 1
        await edge(dut)

    async def run(self, shape: Shape, pause: int) -> None:
        """One layer; its tiles come at once or up to `pause` cycles late."""
        dut = self.dut
        self.single = self.rng.random() < 0.3
        port(dut, "registers").value = registers_of(shape, self.single)
        port(dut, "begin").value = 1
        await self.cycle()
        port(dut, "begin").value = 0
        await self.cycle()
        rows = shape.rows_last if shape.tiles == 1 else shape.tile_rows
        longest = rows * self.row_cycles()
        if shape.own:
            longest = self.lines * self.steps
        tiles = list(tiles_of(shape, self.lines))
        for slots in tiles:
            assert read(dut, "tile_cycles") == longest
            dut.captured.value = 1
            self.capture(shape, slots)
            if slots is tiles[-1]:
                self.due[max(self.due) + 1]["layer_done"] = 1
            await self.cycle()
            dut.captured.value = 0
            for _ in range(longest - 1 + self.rng.randint(0, pause)):
                await self.cycle()
        while self.due:
            await self.cycle()
        for _ in range(self.rng.choice([0, SILENT])):
            await self.cycle()


@cocotb.test()
async def rows_are_drained_and_written_in_order(dut: Any) -> None:
    """Layer after layer, tiles as close as they may come and with pauses."""
    start_clock(dut)
    for pause in (0, 9):
        rng = dice(pause)
        await reset(dut, **dict.fromkeys(INPUTS, 0))
        bench = Bench(dut, rng)
        for _ in range(LAYERS):
            await bench.run(replace(Shape.random(rng, bench.lines, whole=False), offset=0), pause)
