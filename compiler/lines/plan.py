"""Line plans: how the array of lines walks a layer, all but where its tensors lie."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from qcompile.compiler.plan import LoopNest
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.tile_drain import slot_cycles

PassKind = Literal["rotate", "window"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePlan(LoopNest):
    """How the array of lines walks one layer; the positions across the rows are groups of lines.

    Attributes
    ----------
    kind : "rotate" or "window"
        What a pass does with its words, see docs/lines.md section 2.
    own : bool
        Each line has weights, and so output channels, of its own; all lines read the same words.
        `weights` are int8 [groups, words, lines, V] then, otherwise [groups, words, V].
    apart : bool
        Rows of a window pass are two pixels apart.
    tile_rows : int
        Rows of a tile in use, the array's last ones; `rows_last` of its first ones in the last.
    turns : int
        Cycles that one read takes, because lines meet in a bank.
    read_turned, write_turned : bool
        The input, or the output, lies turned in the memory.
    products : int
        Cycles of a pass that add to the sums.
    line_address, line_o : int
        From a line's read position to the next line's; the plan's own positions are line 0's.
    flat : bool
        Lines and rows are pixels of one run: pixel lines * row + line.
    lines_last : int
        Lines in use in the last line group (`flat`: in the last row; `own`: in the last channel
        group).
    write_line : int
        Words from a line's written word to the next line's.
    """

    kind: PassKind
    own: bool
    apart: bool
    tile_rows: int
    turns: int
    read_turned: bool
    write_turned: bool
    products: int
    line_address: int
    line_o: int
    flat: bool
    lines_last: int
    write_line: int

    @property
    def single_writes(self) -> bool:
        """Lines write one word a cycle: a lower and an upper line's would meet in a bank."""
        return self.write_line % 2 == 0 and not self.own

    @property
    def pass_cycles(self) -> int:
        """Cycles of one pass: its reads, or its products where these take longer."""
        return max(self.counts[0] * self.turns, self.products)

    @property
    def passes(self) -> int:
        """Passes of one tile."""
        return prod(self.counts[1:4])

    @property
    def weight_words(self) -> int:
        """Words of V weights that the layer has in the weight memory."""
        groups = 1 if self.shared_weights else self.groups
        return groups * int(self.weights[0].size) // int(self.weights.shape[-1])

    def cycles_estimate(self, config: LinesConfig) -> int:
        """Cycles of the array or of the lanes, whichever is busier."""
        array = self.tiles * self.passes * self.pass_cycles
        drain = self.rows_used(self.tile_rows) * slot_cycles(config, single=self.single_writes)
        return self.groups * max(array, drain)
