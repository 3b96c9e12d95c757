"""Cuts a Select into pieces that layers of the accelerator can copy.

Greedily: the first pixel that no piece has yet grows to the longest line, the line to the most
lines, these to all channel groups that one layer can copy with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from qcompile.compiler.ir import Int32Array, Int64Array
from qcompile.compiler.layers import Shape3
from qcompile.compiler.passes.lowering.piece import Pair, Piece, Tap

MAX_PIECES = 128
MAX_STEP = 8
"""Lattices with larger steps are cut into pixels."""
MAX_SPAN = 32
"""Rows and columns that the taps of one piece may lie apart: a layer's kernel."""
FILL = -1
BEYOND = -2
"""Index of the lanes behind the last channel: anything will do."""


def cut(index: Int32Array, sources: Sequence[Shape3], word: int) -> tuple[Piece, ...] | None:
    """Pieces of a Select with `index` [channels, height, width]; None where they are too many.

    `word` is the number of channels in a memory word.
    """
    cutter = _Cutter(index, sources, word)
    pieces: list[Piece] = []
    for piece in cutter.pieces():
        pieces.append(piece)
        if len(pieces) > MAX_PIECES:
            return None
    return tuple(pieces)


class _Cutter:
    def __init__(self, index: Int32Array, sources: Sequence[Shape3], word: int) -> None:
        self.word = word
        channels, height, width = index.shape
        groups = -(-channels // word)
        lanes = np.full((groups * word, height, width), BEYOND, np.int64)
        lanes[:channels] = index
        self.channels = channels
        self.shapes = sources
        ends = np.cumsum([0, *(c * h * w for c, h, w in sources)])
        self.begins = ends[:-1]
        self.index = lanes.reshape(groups, word, height, width)
        self.left = np.ones((groups, height, width), dtype=bool)

    def pieces(self) -> Iterator[Piece]:
        """Lattices that read something, then rectangles of fill."""
        reads = (self.index >= 0).any(axis=1)
        while (wanted := self.left & reads).any():
            yield self._grow(tuple(np.argwhere(wanted)[0].tolist()))
        while self.left.any():
            yield self._fill(tuple(np.argwhere(self.left)[0].tolist()))

    def _tap(self, number: int, at: Pair = (0, 0)) -> Tap | None:
        """The source of an index, moved back by `at` rows and columns."""
        if number < 0:
            return None
        source = int(np.searchsorted(self.begins, number, side="right")) - 1
        _, height, width = self.shapes[source]
        channel, pixel = divmod(number - int(self.begins[source]), height * width)
        return Tap(source, channel, pixel // width - at[0], pixel % width - at[1])

    def _numbers(self, tap: Tap | None, rows: Int64Array, columns: Int64Array) -> Int64Array:
        """Indices [rows, columns] of pixels that lie so far from a tap."""
        if tap is None:
            return np.full((rows.size, columns.size), FILL)
        _, height, width = self.shapes[tap.source]
        y, x = (tap.row + rows)[:, np.newaxis], (tap.column + columns)[np.newaxis]
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        base = int(self.begins[tap.source]) + tap.channel * height * width
        return np.where(inside, base + y * width + x, FILL)

    def _grow(self, anchor: tuple[int, int, int]) -> Piece:
        """The piece around a pixel: the longest line, then the most lines, then all groups."""
        group, row, column = anchor
        pixel = (row, column)
        alone = _Line(position=row, step=1, begin=0, count=1, stride=1)
        across = self._longest(group, pixel, 1, alone)
        down = self._longest(group, pixel, 0, across)
        back = (down.begin * down.stride, across.begin * across.stride)
        taps = [self._tap(int(n), back) for n in self.index[group, :, row, column] if n != BEYOND]
        return self._more_groups(
            Piece(
                word=self.word,
                channel=group * self.word,
                taps=tuple(taps),
                start=(down.start, across.start),
                steps=(down.step, across.step),
                size=(down.count, across.count),
                strides=(down.stride, across.stride),
            )
        )

    def _longest(self, group: int, pixel: Pair, axis: int, other: _Line) -> _Line:
        """The longest run of lattice points along an axis (0 down, 1 across) through a pixel, all
        of whose lanes follow from the pixel's; `other` are the points along the other axis."""
        length = self.index.shape[2 + axis]
        numbers = self.index[group, :, pixel[0], pixel[1]]
        best = _Line(position=pixel[axis], step=1, begin=0, count=1, stride=1)
        for step in range(1, min(MAX_STEP, length) + 1):
            following = list(pixel)
            following[axis] += step
            if following[axis] >= length and step > 1:
                break
            for stride in self._strides(group, pixel, following, axis):
                before, behind = pixel[axis] // step, (length - 1 - pixel[axis]) // step
                whole = _Line(
                    position=pixel[axis],
                    step=step,
                    begin=before,
                    count=before + behind + 1,
                    stride=stride,
                )
                lines = (whole, other) if axis == 0 else (other, whole)
                same = np.asarray(self._same(group, numbers, *lines).all(axis=1 - axis))
                begin, end = _run(same, before)
                if end - begin > best.count:
                    best = replace(whole, begin=before - begin, count=end - begin)
        return best

    def _strides(self, group: int, pixel: Pair, following: list[int], axis: int) -> set[int]:
        """Steps in the source that the next lattice point may stand for."""
        strides = {1}  # where the next point is fill, or there is none
        if following[axis] < self.index.shape[2 + axis]:
            for lane in range(self.word):
                now = self._tap(int(self.index[group, lane, pixel[0], pixel[1]]))
                then = self._tap(int(self.index[group, lane, following[0], following[1]]))
                if now and then:
                    strides.add(then.row - now.row if axis == 0 else then.column - now.column)
        return strides

    def _same(
        self, group: int, numbers: Int64Array, down: _Line, across: _Line
    ) -> npt.NDArray[np.bool_]:
        """Whether all lanes at the lattice points [rows, columns] follow from `numbers`."""
        found = self.index[group][:, down.positions[:, np.newaxis], across.positions]
        same = np.ones(found.shape[1:], dtype=bool)
        for lane, number in enumerate(numbers.tolist()):
            expected = self._numbers(self._tap(number), down.moves, across.moves)
            same &= (found[lane] == expected) | (found[lane] == BEYOND)
        return same

    def _more_groups(self, piece: Piece) -> Piece:
        """The piece with the groups of channels behind that one layer can copy with it."""
        first = piece.channel // self.word
        for group in range(first + 1, self.index.shape[0]):
            taps = self._taps_of(group, piece)
            if taps is None:
                break
            more = replace(piece, taps=(*piece.taps, *taps))
            alone = replace(piece, channel=group * self.word, taps=taps)
            if (
                len(more.sources) != 1
                or not alone.sources
                or len({part.shift is None for part in (piece, alone, more)}) > 1
                or max(_spans(more)) > MAX_SPAN
            ):
                break
            piece = more
        groups = -(-len(piece.taps) // self.word)
        rows, columns = (_positions(piece, axis) for axis in (0, 1))
        self.left[first : first + groups, rows[:, np.newaxis], columns] = False
        return piece

    def _taps_of(self, group: int, piece: Piece) -> tuple[Tap | None, ...] | None:
        """Taps of another group on the piece's lattice; None where there are none."""
        rows, columns = (_positions(piece, axis) for axis in (0, 1))
        down = np.arange(rows.size) * piece.strides[0]
        right = np.arange(columns.size) * piece.strides[1]
        taps: list[Tap | None] = []
        for lane in self.index[group]:
            found = lane[rows[:, np.newaxis], columns]
            if found[0, 0] == BEYOND:
                continue
            real = np.argwhere(found >= 0)
            tap = None
            if real.size:
                y, x = real[0].tolist()
                tap = self._tap(int(found[y, x]), (int(down[y]), int(right[x])))
            if not np.array_equal(found, self._numbers(tap, down, right)):
                return None
            taps.append(tap)
        return tuple(taps)

    def _fill(self, anchor: tuple[int, int, int]) -> Piece:
        """A rectangle of pixels without a source, in all groups that have it."""
        group, row, column = anchor
        width = _run(self.left[group, row], column)[1] - column
        lines = np.asarray(self.left[group, :, column : column + width].all(axis=1))
        height = _run(lines, row)[1] - row
        box = self.left[:, row : row + height, column : column + width]
        groups = _run(np.asarray(box.all(axis=(1, 2))), group)[1] - group
        box[group : group + groups] = False
        channels = min(groups * self.word, self.channels - group * self.word)
        return Piece(
            word=self.word,
            channel=group * self.word,
            taps=(None,) * channels,
            start=(row, column),
            steps=(1, 1),
            size=(height, width),
            strides=(0, 0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """Lattice points along one axis: `count`, of which `begin` lie before `position`."""

    position: int
    step: int
    begin: int
    count: int
    stride: int

    @property
    def start(self) -> int:
        """The first one."""
        return self.position - self.begin * self.step

    @property
    def positions(self) -> Int64Array:
        """All of them."""
        return self.start + self.step * np.arange(self.count)

    @property
    def moves(self) -> Int64Array:
        """How far the source is from that of `position`."""
        return self.stride * (np.arange(self.count) - self.begin)


def _positions(piece: Piece, axis: int) -> Int64Array:
    return piece.start[axis] + piece.steps[axis] * np.arange(piece.size[axis])


def _spans(piece: Piece) -> Pair:
    """Rows and columns of the window that holds all taps."""
    rows = [tap.row for tap in piece.taps if tap]
    columns = [tap.column for tap in piece.taps if tap]
    return max(rows) - min(rows) + 1, max(columns) - min(columns) + 1


def _run(flags: npt.NDArray[np.bool_], at: int) -> Pair:
    """First index and end of the run of true flags around `at`."""
    before = np.flatnonzero(~flags[:at])
    behind = np.flatnonzero(~flags[at:])
    begin = int(before[-1]) + 1 if before.size else 0
    return begin, at + (int(behind[0]) if behind.size else flags.size - at)
