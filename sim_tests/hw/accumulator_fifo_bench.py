"""The cocotb side of `test_drain`: tiles of rows through the accumulator FIFO, and a queue."""

from __future__ import annotations

from collections import deque
from itertools import product
from random import Random
from typing import Any

import cocotb

from qcompile.hw.drain import FIFO_ROWS
from sim_tests.hw.clocked import dice, edge, read, reset, settle, start_clock

ROWS = 4
TILES = 500


class Bench:
    """An array that starts tiles when it may, and a drain that pops or drops their rows."""

    def __init__(self, dut: Any, rng: Random, issue: float, pop: float) -> None:
        self.dut = dut
        self.rng = rng
        self.issue = issue
        self.pop = pop
        self.queue: deque[int] = deque()
        self.coming: deque[int] = deque()
        self.issued = 0
        self.popped = 0
        self.fullest = 0

    async def cycle(self) -> None:
        """One cycle; a row that is popped stands at the output from the next cycle on."""
        dut, rng = self.dut, self.rng
        await settle()
        tile = self.issued < TILES and bool(read(dut, "tile_ready")) and rng.random() < self.issue
        if tile:
            self.issued += 1
            self.coming.extend(rng.getrandbits(len(dut.i)) for _ in range(ROWS))
        row = self.coming.popleft() if self.coming and not tile and rng.random() < 0.8 else None
        available = bool(read(dut, "available"))
        assert available <= bool(self.queue), "a row out of nothing"
        take = available and rng.random() < self.pop
        skip = take and rng.random() < 0.2
        last = take and self.popped % ROWS == ROWS - 1
        dut.tile_issued.value = int(tile)
        dut.i_valid.value = int(row is not None)
        dut.i.value = row if row is not None else rng.getrandbits(len(dut.i))
        dut.pop.value, dut.skip.value = int(take and not skip), int(skip)
        dut.tile_done.value = int(last)
        await edge(dut)
        if take:
            self.popped += 1
            wanted = self.queue.popleft()
            assert skip or int(dut.o.value) == wanted
        if row is not None:
            self.queue.append(row)
        self.fullest = max(self.fullest, len(self.queue))


@cocotb.test()
async def rows_keep_their_order_and_never_overrun(dut: Any) -> None:
    """A drain that is faster, slower and much slower than the array."""
    start_clock(dut)
    inputs = ("i", "i_valid", "tile_issued", "tile_done", "pop", "skip")
    for issue, pop in product((1.0, 0.3), (1.0, 0.5, 0.02)):
        rng = dice(issue, pop)
        await reset(dut, **dict.fromkeys(inputs, 0))
        bench = Bench(dut, rng, issue, pop)
        while bench.popped < ROWS * TILES:
            await bench.cycle()
        assert FIFO_ROWS // 2 < bench.fullest <= FIFO_ROWS or pop > 0.02
        assert not read(dut, "available")
