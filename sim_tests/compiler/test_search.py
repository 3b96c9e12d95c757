"""search: which of made-up candidates is chosen, worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from qcompile.compiler import search


@dataclass(frozen=True)
class Machine:
    """A candidate."""

    total_cycles: int
    cells: int = 10
    share: float | None = None


def chosen(*found: Machine) -> Machine | None:
    """By cycles and shares."""
    return search.best_used(found, lambda candidate: candidate.share)


def test_the_fewest_cycles_win_then_the_fewest_cells() -> None:
    slow, large, small = Machine(101), Machine(100, 11), Machine(100, 9)
    assert search.best([slow, large, small]) == small == chosen(slow, large, small)
    assert search.best(list[Machine]()) is None is chosen()


@pytest.mark.parametrize(
    ("shares", "cycles", "winner"),
    [
        ((0.29, 0.31), (100, 120), 1),  # a fifth slower, and well used
        ((0.29, 0.31), (100, 121), 0),  # too slow
        ((0.29, 0.29), (100, 110), 0),  # no better used
        ((0.30, 0.50), (100, 101), 0),  # used well enough
        ((None, 0.50), (100, 101), 0),  # has no depthwise layer
        ((0.20, 0.31, 0.40), (100, 110, 115), 1),  # the faster of two
    ],
)
def test_depthwise_layers_use_their_array(
    shares: tuple[float | None, ...], cycles: tuple[int, ...], winner: int
) -> None:
    found = [Machine(n, share=share) for n, share in zip(cycles, shares, strict=True)]
    assert chosen(*found) is found[winner]


def test_a_limit_is_the_busiest_part_and_the_first_of_equals() -> None:
    assert search.limit({"compute": 5, "drain": 7, "weight bandwidth": 6}) == "drain"
    assert search.limit({"compute": 7, "drain": 7}) == "compute"
