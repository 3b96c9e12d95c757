"""Places of weights that come with the program, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from qcompile.compiler.errors import CapacityError
from qcompile.compiler.lines.weight_ring import Arrival, WeightRing
from qcompile.hw.lines.config import LinesConfig

CONFIG = LinesConfig(lines=3, columns=8, weight_rows=32, streams=True)
"""96 words."""


def words(count: int, code: int) -> np.ndarray:
    """So many words of one code."""
    return np.full((count, 8), code, np.int8)


def arrival(first: int, stop: int, *, comes: bool = True, waits: bool = False) -> Arrival:
    return Arrival(first=first, stop=stop, comes=comes, waits=waits)


def test_weights_follow_one_another_from_rows_on() -> None:
    ring = WeightRing(CONFIG)
    assert ring.place(words(10, 1), "a") == arrival(0, 10)
    assert ring.place(words(30, 2), "b") == arrival(12, 42)


def test_weights_wait_for_those_that_may_be_in_use() -> None:
    ring = WeightRing(CONFIG)
    for name, code, expected in (
        ("a", 1, arrival(0, 40)),
        ("b", 2, arrival(42, 82)),
        ("c", 3, arrival(0, 20, waits=True)),  # beside b, which may wait, a may run
        ("d", 4, arrival(21, 41)),  # a has ended: c waits at least
        ("e", 5, arrival(42, 62)),
        ("f", 6, arrival(63, 93)),
    ):
        count = expected.stop - expected.first
        assert ring.place(words(count, code), name) == expected, name


def test_weights_that_stand_there_are_not_sent_again() -> None:
    ring = WeightRing(CONFIG)
    ring.place(words(40, 1), "a")
    ring.place(words(40, 2), "b")
    assert ring.place(words(40, 1), "a again") == arrival(0, 40, comes=False)
    assert ring.place(words(40, 2), "b again") == arrival(42, 82, comes=False)
    assert ring.place(words(60, 3), "c") == arrival(0, 60, waits=True)
    assert ring.place(words(40, 2), "b is gone") == arrival(0, 40, waits=True)


def test_a_layer_larger_than_the_memory_is_refused() -> None:
    with pytest.raises(CapacityError, match="'big': its weights do not fit"):
        WeightRing(CONFIG).place(words(97, 1), "big")
