"""When residual words are there: the fetching ahead of `hw/lines/residual.py`, row by row."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

from qcompile.compiler.lines.plan import LinePlan
from qcompile.hw.lines.config import LinesConfig


@dataclass(slots=True, kw_only=True)
class ResidualFetch:
    """Residual words that are fetched ahead: one a cycle where the feeder leaves the set alone.

    Attributes
    ----------
    rows : list of (int, bool)
        Words of each row, in the order of the layer; True behind a tile's last.
    pause : int
        Cycles without a request behind a tile.
    shared : bool
        The residual operand lies in the set that the feeder reads.
    time : int
        The next word is asked for in this cycle at the earliest.
    free : deque of int
        When the next rows have room.
    tiles : deque of int
        When the last words of tiles were granted that are not issued yet.
    """

    rows: Sequence[tuple[int, bool]]
    pause: int
    shared: bool
    time: int
    free: deque[int]
    tiles: deque[int] = field(default_factory=deque)
    _row: int = 0
    _left: int = 0

    def advance(self, until: int, reads: int = 0) -> None:
        """Fetch until a cycle; from then on the feeder reads for some cycles."""
        while self._row < len(self.rows) and self._fetch(until):
            pass
        if self.shared:
            self.time = max(self.time, until + reads)

    def tile(self) -> int:
        """The cycle of the grant of the next tile's last word, while the feeder waits for it."""
        while not self.tiles:
            self._fetch(None)
        return self.tiles.popleft()

    def _fetch(self, until: int | None) -> bool:
        """Words of the next row; False where it is not complete in time."""
        words, ends = self.rows[self._row]
        if not self._left:
            if not self.free:
                return False
            self.time = max(self.time, self.free[0])
            if until is not None and self.time >= until:
                return False
            self.free.popleft()
            self._left = words
        taken = self._left if until is None else max(0, min(self._left, until - self.time))
        self.time += taken
        self._left -= taken
        if self._left:
            return False
        self._row += 1
        if ends:
            self.tiles.append(self.time - 1)
            self.time += self.pause
        return True


def residual_rows(plan: LinePlan, config: LinesConfig) -> list[tuple[int, bool]]:
    """The rows that a layer writes, as `LinesResidual` walks them: words, and True behind a tile's
    last."""
    rows: list[tuple[int, bool]] = []
    for group, tile in product(range(plan.groups), range(plan.tiles)):
        slots = slots_of(plan, group, tile, config)
        if plan.own:
            rows.append((slots, True))
            continue
        for row in range(slots):
            few = tile >= plan.tiles - plan.counts[4]
            if plan.flat:
                few = tile == plan.tiles - 1 and row == slots - 1
            rows.append((plan.lines_last if few else config.lines, row == slots - 1))
    return rows


def slots_of(plan: LinePlan, group: int, tile: int, config: LinesConfig) -> int:
    """What the drain does of a tile: rows, or lines where these are channels."""
    if plan.own:
        return plan.lines_last if group == plan.groups - 1 else config.lines
    along = plan.counts[4]
    return plan.rows_last if tile % along == along - 1 else plan.tile_rows
