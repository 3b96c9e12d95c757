"""When the words of a program come out of a flash: `hw.lines.flash_program` as a recurrence."""

from __future__ import annotations

from qcompile.hw.flash_reader import word_cycles
from qcompile.hw.lines.flash_program import PIECES, READER_SLOTS, FlashTiming

PIECE_SLOTS = 4
"""From the last flash clock of a piece to the slot in which it stands at the reader's output."""


class FlashPace:
    """Words of a program, one after the other; cycles count from the stream's `start`.

    Parameters
    ----------
    timing : FlashTiming
    """

    def __init__(self, timing: FlashTiming) -> None:
        self._timing = timing
        self._clocks = word_cycles(timing.lines)
        self._last = READER_SLOTS - PIECE_SLOTS
        """Slot of the last flash clock of the piece that came last; at first, before any."""
        self._accepted = 0
        """Slot in which that piece was taken from the reader."""
        self._free = 0
        """First slot in which a word's first piece is taken."""

    def comes(self) -> int:
        """The cycle from which on the next word can be taken."""
        for piece in range(PIECES):
            self._last = max(self._last + self._clocks, self._accepted)
            self._accepted = self._last + PIECE_SLOTS
            if piece == 0:
                self._accepted = max(self._accepted, self._free)
        return self._timing.start_cycles + (self._accepted + 1) * self._timing.divider

    def taken(self, cycle: int) -> None:
        """The word that `comes` told of is taken in this cycle."""
        since = cycle + 1 - self._timing.start_cycles
        self._free = -(-since // self._timing.divider)
