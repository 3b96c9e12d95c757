"""Random choices for networks: drawn by Hypothesis, which shrinks them, or by seeded dice."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


class Dice(Protocol):
    """The first option and the lowest number are the simplest."""

    def whole(self, low: int, high: int) -> int:
        """A number from low to high."""
        ...

    def pick(self, options: Sequence[T]) -> T:
        """One of the options."""
        ...


class DrawnDice:
    """Choices of a Hypothesis test's `st.data()`."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def whole(self, low: int, high: int) -> int:
        return int(self._data.draw(st.integers(low, high)))

    def pick(self, options: Sequence[T]) -> T:
        return options[self.whole(0, len(options) - 1)]


class SeededDice:
    """Choices of `random.Random(seed)`."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def whole(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def pick(self, options: Sequence[T]) -> T:
        return self._random.choice(options)
