"""A piece of a Select: what one layer, or one for each source, can copy.

It is a lattice of output pixels (a start and a step along each axis) of whole channel groups, in
which every channel comes from one channel of one tensor, and a step on the lattice is a fixed step
in that tensor. The row of a source depends on the output's row only: transposed axes are many
pieces.
"""

from __future__ import annotations

from dataclasses import dataclass

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Tap:
    """Where a channel's pixel (0, 0) of a piece comes from."""

    source: int
    channel: int
    row: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Pixels (start + i * step) of channels from `channel`, the first of a word, on.

    Attributes
    ----------
    word : int
        Channels of a memory word.
    taps : Tap or None for each channel; None is the fill
    start, steps, size : pairs of int
        Of the output's lattice along height and width.
    strides : pair of int
        Rows and columns of the source from one lattice point to the next; may be negative or 0.
        A pixel beyond the source is the fill.
    """

    word: int
    channel: int
    taps: tuple[Tap | None, ...]
    start: Pair
    steps: Pair
    size: Pair
    strides: Pair

    @property
    def sources(self) -> list[int]:
        """Tensors that the piece reads, in rising order."""
        return sorted({tap.source for tap in self.taps if tap})

    @property
    def shift(self) -> int | None:
        """Source channel minus output channel, where that and the pixel are one for all channels,
        and whole words are copied; None otherwise."""
        first = self.taps[0]
        if first is None:
            return None
        alike = [
            tap is not None
            and (tap.source, tap.row, tap.column) == (first.source, first.row, first.column)
            and tap.channel == first.channel + lane
            for lane, tap in enumerate(self.taps)
        ]
        aligned = first.channel % self.word == 0
        return first.channel - self.channel if all(alike) and aligned else None
