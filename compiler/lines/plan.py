"""Line plans: how the array of lines walks a layer, all but where its tensors lie."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from qcompile.compiler.ir import Int8Array
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.program import Step

PassKind = Literal["rotate", "window"]

WRITES_PER_CYCLE = 1
"""Finished words that enter the activation memory in a cycle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePlan:
    """How the array walks one layer; addresses are relative to the tensors' first words.

    Attributes
    ----------
    kind : "rotate" or "window"
        What a pass does with its words, see docs/lines.md section 2.
    own : bool
        Each line has weights, and so output channels, of its own; all lines read the same words.
    apart : bool
        Rows of a window pass are two pixels apart.
    turns : int
        Cycles that one read takes, because lines meet in a bank.
    products : int
        Cycles of a pass that add to the sums.
    counts : 7 ints
        Trips of the loops, inner to outer: reads of a pass, channel words, taps, taps, tiles
        along the rows, line groups across, output channel groups.
    deltas : 7 Steps
        Added to line 0's read position after a read, by the outermost loop that steps on.
    start : Step
    line_address, line_o : int
        From a line's read position to the next line's.
    p_bound, o_bound : int
        Largest coordinates inside the tensor.
    flat : bool
        Lines and rows are pixels of one run: pixel lines * row + line.
    rows_last, lines_last : int
        Rows in use in the last tile, lines in use in the last line group (`flat`: in the last row;
        `own`: in the last channel group).
    write_start, write_line : int
        First word written, and what is added from line to line.
    write_row, write_position, write_group : int
        What is added after each row, after the last row of a line group, after the last one of a
        channel group.
    weights : int8 [groups, words, V], or [groups, words, lines, V] with `own`
    shared_weights : bool
        All groups are alike and the first one's words serve them all.
    """

    kind: PassKind
    own: bool
    apart: bool
    turns: int
    products: int
    counts: tuple[int, ...]
    deltas: tuple[Step, ...]
    start: Step
    line_address: int
    line_o: int
    p_bound: int
    o_bound: int
    flat: bool
    rows_last: int
    lines_last: int
    write_start: int
    write_line: int
    write_row: int
    write_position: int
    write_group: int
    weights: Int8Array
    shared_weights: bool

    @property
    def pass_cycles(self) -> int:
        """Cycles of one pass: its reads, or its products where these take longer."""
        return max(self.counts[0] * self.turns, self.products)

    @property
    def passes(self) -> int:
        """Passes of one tile."""
        return prod(self.counts[1:4])

    @property
    def tiles(self) -> int:
        """Tiles of one channel group."""
        return self.counts[4] * self.counts[5]

    @property
    def groups(self) -> int:
        """Output channel groups."""
        return self.counts[6]

    @property
    def weight_words(self) -> int:
        """Words of V weights that the layer has in the weight memory."""
        groups = 1 if self.shared_weights else self.groups
        return groups * int(self.weights[0].size) // int(self.weights.shape[-1])

    def rows_drained(self, config: LinesConfig) -> int:
        """Rows, of all lines at once, that one channel group hands to the lanes."""
        return ((self.counts[4] - 1) * config.rows + self.rows_last) * self.counts[5]

    def cycles_estimate(self, config: LinesConfig) -> int:
        """Cycles of the array or of the lanes, whichever is busier."""
        array = self.tiles * self.passes * self.pass_cycles
        writes = -(-config.lines // WRITES_PER_CYCLE)
        drain = self.rows_drained(config) * max(config.columns // config.lanes, writes)
        return self.groups * max(array, drain)
