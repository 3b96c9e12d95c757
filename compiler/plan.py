"""Plans: how the array walks a layer, all of its program except where its tensors lie."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from qcompile.compiler.ir import Int8Array
from qcompile.hw.program import Step

ROWS = 4
VALUES_PER_ROW = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopNest:
    """What every array's way to walk a layer has; addresses are relative to the tensors' first
    words, the output's in the whole tensor of `Layer.tensor_shape`.

    Attributes
    ----------
    counts : 7 ints
        Trips of the loops, inner to outer: reads of a pass, channel words, taps, taps, tiles along
        the rows, positions across them, output channel groups.
    deltas : 7 Steps
        Added to the read position after a read, by the outermost loop that steps on.
    start : Step
    p_bound, o_bound : int
        Largest coordinates inside the tensor.
    rows_last : int
        Rows in use in the last tile.
    write_start : int
        First word written.
    write_row, write_position, write_group : int
        What is added after each row, after the last row of a position, after the last one of a
        channel group.
    weights : int8 [groups, words, ...]
        In the order in which the array takes them.
    shared_weights : bool
        All groups are alike and the first one's words serve them all.
    """

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
    def tiles(self) -> int:
        """Tiles of one channel group."""
        return self.counts[4] * self.counts[5]

    @property
    def groups(self) -> int:
        """Output channel groups."""
        return self.counts[6]

    def rows_used(self, rows: int) -> int:
        """Rows that one channel group makes use of, of so many a tile."""
        return ((self.counts[4] - 1) * rows + self.rows_last) * self.counts[5]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(LoopNest):
    """How the small array walks one layer; `weights` are int8 [groups, words, 4].

    `codebook`: the codes of the weights, sorted, where they are sent as indices of them.
    """

    broadcast: bool
    row_axis: str
    codebook: Int8Array | None = None

    @property
    def word_parts(self) -> int:
        """Stream words of 16 bits that a weight word takes, in the program and in the FIFO."""
        return 2 if self.codebook is None else 1

    @property
    def tile_reads(self) -> int:
        """Reads (cycles) of one tile."""
        return prod(self.counts[:4])

    @property
    def stream_words(self) -> int:
        """Weight words that the layer has in the program."""
        return int(self.weights.shape[1]) * (1 if self.shared_weights else self.groups)

    @property
    def group_parts(self) -> int:
        """Stream words that the weights of one channel group are."""
        return int(self.weights.shape[1]) * self.word_parts

    @property
    def stream_parts(self) -> int:
        """Stream words that all weights of the layer are in the program."""
        return self.stream_words * self.word_parts

    @property
    def rows_written(self) -> int:
        """Words that one channel group writes."""
        return self.rows_used(ROWS)

    @property
    def cycles_estimate(self) -> int:
        """Cycles of the array or of the drain, whichever is busier, per layer."""
        dropped = self.tiles * ROWS - self.rows_written
        drain = self.rows_written * VALUES_PER_ROW + dropped
        return self.groups * max(self.tiles * self.tile_reads, drain)
