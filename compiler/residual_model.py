"""The cycle model of layers with a residual operand: rows and reads that wait for each other.

A row's residual word is asked for when the row before has started. Where it lies in the bank that
the feeder reads, the request waits for the end of a pass and the next pass for the request; so
passes and rows are followed one by one.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from qcompile.compiler.plan import ROWS, VALUES_PER_ROW, Plan
from qcompile.compiler.stream_model import Stream

CAPTURE_CYCLES = 5
"""From a tile's last read to the cycle in which its first row may leave the FIFO."""
CONSTANTS_CYCLES = 2
"""From a group's last constant to the first value that may use them."""
MAX_TILES = 60
"""Tiles in the array and the accumulator FIFO together."""
TILE_CYCLES = 2
"""From the end of a tile's rows to the read that may start a tile in its room."""
CONFLICT_CYCLES = 2
"""A word that somebody else takes from the feeder's bank stops the feeder for so long."""
WORD_CYCLES = 1
"""From the grant of a residual word to its row's start."""
STEP_CYCLES = 5
"""From a row's start to the next row's request."""


@dataclass(slots=True)
class _Feeder:
    """Passes of a layer in their order.

    Attributes
    ----------
    time : int
        Earliest cycle of the next pass.
    busy : int
        Last cycle in which the pass before accesses the memory.
    taken : int
        Parts of weights of all layers that are not needed any more.
    tile_reads : list of int
        When each tile made its last read.
    tile_rows : list of int
        The drain's part: when each tile's rows had left.
    """

    plan: Plan
    stream: Stream
    time: int
    taken: int
    busy: int = -1
    passes: int = 0
    tile_reads: list[int] = field(default_factory=list)
    tile_rows: list[int] = field(default_factory=list)

    def run_before(self, time: int) -> None:
        """Start all passes that start before `time`."""
        while len(self.tile_reads) < self.plan.tiles * self.plan.groups:
            start = self._next_start()
            if start is None or start >= time:
                return
            self._run_pass(start)

    def run_tile(self, tile: int) -> int:
        """When a tile, which has room, makes its last read."""
        while len(self.tile_reads) <= tile:
            start = self._next_start()
            assert start is not None, "the drain takes tiles in their order"
            self._run_pass(start)
        return self.tile_reads[tile]

    def _next_start(self) -> int | None:
        """The next pass's first cycle; None where the FIFO has no room for its tile yet."""
        tile, reads = len(self.tile_reads), self.plan.counts[0]
        start = self.time
        if self.passes == 0 and tile >= MAX_TILES:
            if len(self.tile_rows) <= tile - MAX_TILES:
                return None
            start = max(start, self.tile_rows[tile - MAX_TILES] + TILE_CYCLES)
        group, number = divmod(tile, self.plan.tiles)
        if number == 0 and (group == 0 or not self.plan.shared_weights):
            wanted = self.taken + (self.passes + 1) * reads * self.plan.word_parts
            if not self.stream.has_arrived(wanted, start):
                start = max(start, self.stream.weights_until(wanted) + 1)
        return start

    def _run_pass(self, start: int) -> None:
        plan, reads = self.plan, self.plan.counts[0]
        group, number = divmod(len(self.tile_reads), plan.tiles)
        released = number == plan.tiles - 1 and (
            not plan.shared_weights or group == plan.groups - 1
        )
        if released:
            parts = reads * plan.word_parts
            first = self.taken + self.passes * parts
            self.stream.releases.add(start, first, parts, plan.word_parts)
        self.time, self.busy = start + reads, start + reads
        self.passes += 1
        if self.passes * reads == plan.weights.shape[1]:
            self.tile_reads.append(self.time - 1)
            self.time += CONFLICT_CYCLES * self.stream.conflicts_until(self.time)
            self.passes = 0
            if released:
                self.taken += plan.group_parts


def run_residual_layer(
    plan: Plan, stream: Stream, begin: int, taken: int, *, latency: int, conflict: bool
) -> tuple[int, int]:
    """End of the layer and parts of weights taken so far; `conflict`: operands in one bank."""
    feeder = _Feeder(plan, stream, begin, taken)
    request, row_start = begin, begin
    for tile in range(plan.groups * plan.tiles):
        group, number = divmod(tile, plan.tiles)
        last_column = number % plan.counts[4] == plan.counts[4] - 1
        used = plan.rows_last if last_column else ROWS
        for row in range(used):
            grant = request
            if conflict:
                feeder.run_before(request)
                grant = max(request, feeder.busy + 1)
                feeder.time = max(feeder.time, grant + 1)
            available = feeder.run_tile(tile) + CAPTURE_CYCLES + row
            constants = stream.group(stream.groups_used + group) + CONSTANTS_CYCLES
            row_start = max(grant + WORD_CYCLES, available, constants)
            request = row_start + STEP_CYCLES
        feeder.tile_rows.append(row_start + VALUES_PER_ROW + ROWS - used)
    stream.groups_used += plan.groups
    return row_start + VALUES_PER_ROW + latency, feeder.taken
