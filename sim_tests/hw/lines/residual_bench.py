"""The cocotb side of `test_residual`: rows of words fetched ahead, in the order of the writes.

The bench is the memory, the feeder that issues tiles, and the drain that takes their rows.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any

import cocotb

from qcompile.hw.lines.registers import LayerRegisters
from sim_tests.hw.clocked import bits_of, dice, edge, port, read, reset, settle, start_clock

ROWS = 4
ADDRESSES = 1 << 16
HANGS = 6_000
LAYERS = 6
INPUTS = ("registers", "begin", "grant", "word", "tile_issued", "take")
SECRET = 0x9E3779B97F4A7C15
"""Makes different words of different addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Addresses of the lines in use, line 0 first."""

    addresses: tuple[int, ...]
    ends_tile: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the descriptor says of the rows that a layer writes."""

    own: bool
    flat: bool
    tile_rows: int
    tiles: int
    positions: int
    groups: int
    rows_last: int
    lines_last: int
    first: int
    offset: int
    line: int
    row: int
    position: int
    group: int

    @classmethod
    def random(cls, rng: Random, lines: int, *, whole: bool = True) -> Shape:
        own = rng.random() < 0.25
        tile_rows = ROWS if own or whole else rng.choice([1, 2, 3, ROWS, ROWS])
        addresses = ("first", "offset", "line", "row", "position", "group")
        return cls(
            own=own,
            flat=not own and rng.random() < 0.4,
            tile_rows=tile_rows,
            tiles=1 if own else rng.randint(1, 4),
            positions=1 if own else rng.randint(1, 3),
            groups=rng.randint(1, 3),
            rows_last=1 if own else rng.randint(1, tile_rows),
            lines_last=rng.randint(1, lines),
            **{name: rng.randrange(ADDRESSES) for name in addresses},
        )

    def registers(self) -> int:
        """The descriptor's fields; counts are stored minus one."""
        counts = {"n4": self.tiles, "n5": self.positions, "n6": self.groups}
        counts |= {"rows_last": self.rows_last, "lines_last": self.lines_last}
        counts["tile_rows"] = self.tile_rows
        fields = {
            **{name: count - 1 for name, count in counts.items()},
            "flags": {"own": int(self.own), "flat": int(self.flat), "residual": 1},
            "write_start": self.first,
            "write_line": self.line,
            "write_row": self.row,
            "write_position": self.position,
            "write_group": self.group,
            "residual_offset": self.offset,
        }
        return bits_of(LayerRegisters, fields)

    def rows(self, lines: int) -> Iterator[Row]:
        """Rows in the order of their writes, as docs/lines.md has it."""
        base = self.first + self.offset
        loops = (range(n) for n in (self.groups, self.positions, self.tiles))
        for group, position, tile in product(*loops):
            last_tile = tile == self.tiles - 1
            rows = self.rows_last if last_tile else self.tile_rows
            for row in range(rows):
                behind = last_tile and row == rows - 1
                fewer = position == self.positions - 1
                if self.own:
                    fewer = group == self.groups - 1
                elif self.flat:
                    fewer = behind
                used = range(self.lines_last if fewer else lines)
                found = tuple((base + self.line * line) % ADDRESSES for line in used)
                yield Row(addresses=found, ends_tile=row == rows - 1)
                step = self.position if position < self.positions - 1 else self.group
                base += step if behind else self.row


class Bench:
    """Everything around the reader, for one layer."""

    def __init__(self, dut: Any, rng: Random, grant: float, go: float) -> None:
        self.dut = dut
        self.rng = rng
        self.grant, self.go = grant, go
        self.lines, self.bits, self.latency = (
            int(os.environ[f"QCOMPILE_{name}"]) for name in ("LINES", "BITS", "LATENCY")
        )
        self.shape = Shape.random(rng, self.lines)
        self.rows = deque(self.shape.rows(self.lines))
        self.asked: list[int] = []
        self.coming: deque[int] = deque([rng.getrandbits(self.bits)] * self.latency)
        self.issued: deque[int] = deque()
        """Cycles since each tile was issued whose rows are not all taken."""

    def word(self, address: int) -> int:
        """What the memory holds there."""
        return Random(address ^ SECRET).getrandbits(self.bits)

    def check(self) -> None:
        """The oldest row's words stand."""
        words = read(self.dut, "words")
        for line, address in enumerate(self.rows[0].addresses):
            found = words >> self.bits * line & (1 << self.bits) - 1
            assert found == self.word(address), f"line {line}, {len(self.rows)} rows before the end"

    async def cycle(self, tiles_left: int) -> int:
        """One cycle; how many tiles are issued in it."""
        dut, rng = self.dut, self.rng
        dut.grant.value = int(rng.random() < self.grant)
        take = bool(self.issued) and self.issued[0] > self.latency and rng.random() < self.go
        port(dut, "take").value = int(take)
        await settle()
        ready = bool(read(dut, "tile_ready"))
        right = not self.issued or self.issued[-1] >= 2  # `tile_ready` is, behind an issue
        issues = ready and right and tiles_left > 0
        issues = issues and len(self.issued) < 2 and rng.random() < self.go
        dut.tile_issued.value = int(issues)
        if take:
            self.check()
            if self.rows.popleft().ends_tile:
                self.issued.popleft()
        granted = bool(read(dut, "request")) and bool(read(dut, "grant"))
        if granted:
            self.asked.append(read(dut, "address"))
        self.coming.append(self.word(self.asked[-1]) if granted else rng.getrandbits(self.bits))
        await edge(dut)
        self.coming.popleft()
        port(dut, "word").value = self.coming[0]
        self.issued = deque(age + 1 for age in self.issued)
        if issues:
            self.issued.append(0)
        return int(issues)


async def begin(dut: Any, registers: int) -> None:
    """A layer starts."""
    dut.registers.value = registers
    port(dut, "begin").value = 1
    await edge(dut)
    port(dut, "begin").value = 0


@cocotb.test()
async def rows_stand_when_their_tile_is_issued(dut: Any) -> None:
    """Layer after layer; memory and drain at once or late."""
    start_clock(dut)
    for grant, go in product((1.0, 0.3), (1.0, 0.2)):
        rng = dice(grant, go)
        await reset(dut, **dict.fromkeys(INPUTS, 0))
        for _ in range(LAYERS):
            bench = Bench(dut, rng, grant, go)
            wanted = [address for row in bench.rows for address in row.addresses]
            tiles = sum(row.ends_tile for row in bench.rows)
            await begin(dut, bench.shape.registers())
            for _ in range(HANGS):
                tiles -= await bench.cycle(tiles)
                if not bench.rows:
                    break
            else:
                raise AssertionError(f"{len(bench.rows)} rows are left of {bench.shape}")
            for _ in range(20):
                await bench.cycle(0)
            assert bench.asked == wanted, f"{bench.shape}"


@cocotb.test()
async def words_are_not_fetched_beyond_their_room(dut: Any) -> None:
    """Two tiles, or eight rows where lines have channels of their own; then no request."""
    start_clock(dut)
    await reset(dut, **dict.fromkeys(INPUTS, 0))
    rng = dice("room")
    for _ in range(LAYERS):
        bench = Bench(dut, rng, 1.0, 0.0)
        await begin(dut, bench.shape.registers())
        for _ in range(12 * bench.lines):
            await bench.cycle(0)
        kept = list(bench.rows)[: 2 * ROWS]
        assert bench.asked == [address for row in kept for address in row.addresses]


@cocotb.test()
async def layers_without_an_operand_never_wait(dut: Any) -> None:
    """Nothing is requested then."""
    start_clock(dut)
    await reset(dut, **dict.fromkeys(INPUTS, 0))
    await begin(dut, bits_of(LayerRegisters, {"n4": 3, "lines_last": 1}))
    for cycle in range(100):
        dut.grant.value = 1
        dut.tile_issued.value = int(cycle % 9 == 0)
        port(dut, "take").value = int(cycle % 3 == 0)
        await settle()
        assert read(dut, "tile_ready")
        assert not read(dut, "request")
        await edge(dut)
