"""What the program and the weight memory of an array of lines hold from power-up on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompile.hw.lines.program_memory import WORD_BITS

MIN_PROGRAM_WORDS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesContents:
    """Initial contents, which are part of the bitstream.

    Attributes
    ----------
    program : sequence of int
        64-bit words, the image's header first: docs/architecture.md section 5.
    weights : int8 [words, V]
        The weight memory, from its first word on.
    """

    program: Sequence[int]
    weights: npt.NDArray[np.int8]

    @property
    def program_words(self) -> int:
        """Words of the program memory: as many as the program has."""
        return max(MIN_PROGRAM_WORDS, len(self.program))

    @property
    def image(self) -> bytes:
        """Program, then weights, as a build's `flash.bin` has them."""
        words = np.array(self.program, f"<u{WORD_BITS // 8}")
        return words.tobytes() + self.weights.tobytes()
