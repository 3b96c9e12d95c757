"""The cocotb side of `test_lines_feeder`: random loop nests walked in Python beside the hardware.

A pass that starts puts all that must come of it into a timetable; every cycle is compared with it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any

import cocotb

from qcompile.hw.lines.program import ADDRESS_BITS
from qcompile.hw.lines.registers import LayerRegisters
from qcompile.hw.program import COORDINATE_BITS, LEVELS, Step
from sim_tests.hw.clocked import bits_of, dice, edge, port, read, reset, settle, start_clock, trips

LAYERS = 6
WAITS = 200
SILENT = 20
"""Cycles without anything behind a layer."""
ADDRESSES, COORDINATES = 1 << ADDRESS_BITS, 1 << COORDINATE_BITS
TO_LOAD, TO_PRODUCT, TAKEN_AHEAD = 4, 4, 3
"""Cycles from the read that fills the chain to its load and first product, and from a weight's
being taken to its product."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What a descriptor says to the feeder."""

    window: bool
    apart: bool
    tile_rows: int
    shared_weights: bool
    turns: int
    products: int
    pass_cycles: int
    counts: tuple[int, ...]
    steps: tuple[Step, ...]
    start: Step
    line_o: int
    p_bound: int
    o_bound: int

    @property
    def fill(self) -> int:
        """Words of a window pass that come before its first product."""
        return (self.tile_rows - 1) * (2 if self.apart else 1)

    def registers(self) -> int:
        """The descriptor's fields; what is left out is not the feeder's."""
        fields: dict[str, Any] = {f"n{i}": count - 1 for i, count in enumerate(self.counts)}
        moves = {f"delta{i}": step for i, step in enumerate(self.steps)} | {"start": self.start}
        for name, step in moves.items():
            fields[f"{name}_address"] = step.address % ADDRESSES
            fields[f"{name}_p"] = step.p % COORDINATES
            fields[f"{name}_o"] = step.o % COORDINATES
        for name in ("turns", "products", "pass_cycles", "tile_rows"):
            fields[name] = getattr(self, name) - 1
        fields["line_o"] = self.line_o % COORDINATES
        for name in ("p_bound", "o_bound"):
            fields[name] = getattr(self, name)
        names = ("window", "apart", "shared_weights")
        fields["flags"] = {name: int(getattr(self, name)) for name in names}
        return bits_of(LayerRegisters, fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass: where line 0 reads, and its place in the layer."""

    reads: tuple[Step, ...]
    tile_start: bool
    tile_end: bool
    group_ends: bool
    last_group: bool
    last_tile: bool


def make_layer(rng: Random) -> Layer:
    """Few trips in most loops, so that all of them end; coordinates around the bounds."""
    window = rng.random() < 0.5
    apart = window and rng.random() < 0.5
    tile_rows = rng.choice([1, 2, 3, 4, 4])
    fill = (tile_rows - 1) * (2 if apart else 1)
    reads = fill + rng.randint(1, 4) if window else rng.choice([1, 2, 4, 4, 4])
    turns = rng.choice([1, 1, 2, 4])
    products = 1 if window else rng.choice([1, 2, 4, 8, 16])
    steps = [
        Step(address=rng.randint(-900, 900), p=rng.randint(-3, 3), o=rng.randint(-3, 3))
        for _ in range(LEVELS + 1)
    ]
    return Layer(
        window=window,
        apart=apart,
        tile_rows=tile_rows,
        shared_weights=rng.random() < 0.5,
        turns=turns,
        products=products,
        pass_cycles=max(reads * turns, products) + rng.choice([0, 0, 0, 3]),
        counts=(reads, *(rng.choice([1, 1, 2, 3]) for _ in range(LEVELS - 1))),
        steps=tuple(steps[:LEVELS]),
        start=Step(address=rng.randrange(ADDRESSES), p=rng.randint(-4, 9), o=rng.randint(-4, 9)),
        line_o=rng.randint(-2, 4),
        p_bound=rng.choice([0, 5, 9, COORDINATES - 1]),
        o_bound=rng.choice([0, 5, 9, COORDINATES - 1]),
    )


def passes_of(layer: Layer) -> Iterator[Pass]:
    """The loop nest, walked."""
    at = layer.start
    reads: list[Step] = []
    for index in trips(layer.counts):
        last = [i == count - 1 for i, count in zip(index, layer.counts, strict=True)]
        reads.append(at)
        if last[0]:
            yield Pass(
                reads=tuple(reads),
                tile_start=not any(index[1:4]),
                tile_end=all(last[1:4]),
                group_ends=last[4] and last[5],
                last_group=last[6],
                last_tile=last[4] and last[5] and (last[6] or not layer.shared_weights),
            )
            reads = []
        level = last.index(False) if not all(last) else 0
        step = layer.steps[level]
        at = Step(address=at.address + step.address, p=at.p + step.p, o=at.o + step.o)


class Bench:
    """The feeder between constants that are ready or not and a memory that nobody reads."""

    def __init__(self, dut: Any, rng: Random, ready: float, tile_ready: float) -> None:
        self.dut = dut
        self.rng = rng
        self.chances = (ready, tile_ready)
        self.lines = int(os.environ["QCOMPILE_LINES"])
        self.now = 0
        self.issued = -SILENT
        """When a tile was."""
        self.due: defaultdict[int, dict[str, int]] = defaultdict(dict)
        """Outputs by cycle; one that is left out is zero or anything."""

    def reads(self, layer: Layer, item: Pass) -> None:
        """The reads of a pass that starts in this cycle."""
        share = -(-self.lines // layer.turns)
        for number, (at, turn) in enumerate(product(item.reads, range(layer.turns))):
            cycle = self.now + number
            inside = [
                at.p % COORDINATES <= layer.p_bound
                and (at.o + line * layer.line_o) % COORDINATES <= layer.o_bound
                for line in range(self.lines)
            ]
            self.due[cycle] |= {
                "feed": 1,
                "address": at.address % ADDRESSES,
                "feed_lines": sum((j // share == turn) << j for j in range(self.lines)),
            }
            self.due[cycle + 1]["inside"] = sum(flag << line for line, flag in enumerate(inside))

    def products(self, layer: Layer, item: Pass) -> None:
        """Its loads, and what is taken for its products."""
        count = len(item.reads)
        loads = range(layer.fill, count) if layer.window else [count - 1]
        taken = []
        for number in loads:
            read_at = self.now + (number + 1) * layer.turns - 1
            self.due[read_at + TO_LOAD]["load"] = 1
            for later in range(1 if layer.window else layer.products):
                taken.append(read_at + TO_PRODUCT - TAKEN_AHEAD + later)
        for cycle in taken:
            first = item.tile_start and cycle == taken[0]
            last = item.tile_end and cycle == taken[-1]
            assert "take" not in self.due[cycle], "the model takes two weights at once"
            self.due[cycle] |= {
                "take": 1,
                "tags": 1 | first << 1 | last << 2,
            }
            if last:
                self.due[cycle]["last_tile"] = int(item.last_tile)

    async def cycle(self, layer: Layer, item: Pass | None) -> bool:
        """One cycle, in which a pass may start or none; whether one has."""
        dut = self.dut
        ready, tile_ready = (self.rng.random() < chance for chance in self.chances)
        tile_ready = tile_ready and self.now > self.issued + 2
        dut.ready.value, dut.tile_ready.value = int(ready), int(tile_ready)
        starts = item is not None and ready and (tile_ready or not item.tile_end)
        if item is not None and starts:
            self.reads(layer, item)
            self.products(layer, item)
            if item.tile_end:
                ends, last = int(item.group_ends), int(item.last_group)
                self.due[self.now]["tile_issued"] = 1
                self.due[self.now + 1] |= {"group_ends": ends, "last_group": last}
                self.issued = self.now
        await settle()
        pulses = ("feed", "load", "take", "tags", "tile_issued")
        wanted = dict.fromkeys(pulses, 0) | self.due.pop(self.now, {})
        found = {name: read(dut, name) for name in wanted}
        assert found == wanted, f"cycle {self.now} of {layer}: {found}, not {wanted}"
        self.now += 1
        await edge(dut)
        return starts

    async def run(self, layer: Layer) -> None:
        """Begin, and compare every cycle until long after the layer's end."""
        dut = self.dut
        port(dut, "registers").value = layer.registers()
        dut.ready.value = dut.tile_ready.value = 0
        await edge(dut)
        port(dut, "begin").value = 1
        await edge(dut)
        port(dut, "begin").value = 0
        for item in passes_of(layer):
            for _ in range(WAITS):
                assert read(dut, "active")
                if await self.cycle(layer, item):
                    break
            else:
                raise AssertionError("the bench was never ready")
            for _ in range(layer.pass_cycles - 1):
                assert read(dut, "active")
                await self.cycle(layer, None)
        assert not read(dut, "active")
        for _ in range(SILENT):
            await self.cycle(layer, None)
        assert not self.due


@cocotb.test()
async def reads_and_products_are_those_of_the_loop_nest(dut: Any) -> None:
    """Layer after layer, with and without pauses between passes."""
    start_clock(dut)
    for ready, tile_ready in ((1.0, 1.0), (0.3, 1.0), (0.7, 0.2)):
        rng = dice(ready, tile_ready)
        await reset(dut, registers=0, ready=0, tile_ready=0, begin=0)
        bench = Bench(dut, rng, ready, tile_ready)
        for _ in range(LAYERS):
            await bench.run(make_layer(rng))
