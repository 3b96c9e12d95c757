"""Plans: how the array walks a layer, all of its program except where its tensors lie."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from qcompile.compiler.ir import Int8Array
from qcompile.hw.program import Step

ROWS = 4
VALUES_PER_ROW = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How the array walks one layer; addresses are relative to the tensors' first words.

    The output's are in the whole tensor of `Layer.tensor_shape`.

    `weights` is int8 [groups, words, 4] in the order in which the array takes them. With
    `shared_weights` all groups are alike and the first one's words serve them all.
    """

    broadcast: bool
    row_axis: str
    counts: tuple[int, ...]
    deltas: tuple[Step, ...]
    start: Step
    p_bound: int
    o_bound: int
    rows_last: int
    write_start: int
    write_row: int
    write_position: int
    write_group: int
    weights: Int8Array
    shared_weights: bool

    @property
    def tile_reads(self) -> int:
        """Reads (cycles) of one tile."""
        return prod(self.counts[:4])

    @property
    def stream_words(self) -> int:
        """Weight words that the layer has in the program."""
        return int(self.weights.shape[1]) * (1 if self.shared_weights else self.groups)

    @property
    def tiles(self) -> int:
        """Tiles of one channel group."""
        return self.counts[4] * self.counts[5]

    @property
    def groups(self) -> int:
        """Output channel groups."""
        return self.counts[6]

    @property
    def rows_written(self) -> int:
        """Words that one channel group writes."""
        return ((self.counts[4] - 1) * ROWS + self.rows_last) * self.counts[5]

    @property
    def cycles_estimate(self) -> int:
        """Cycles of the array or of the drain, whichever is busier, per layer."""
        dropped = self.tiles * ROWS - self.rows_written
        drain = self.rows_written * VALUES_PER_ROW + dropped
        return self.groups * max(self.tiles * self.tile_reads, drain)
