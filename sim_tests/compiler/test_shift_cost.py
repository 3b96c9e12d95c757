"""shift_cost: what `compile --requant shift` says before it does it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qcompile.compiler.ir import Conv, Graph, Requant
from qcompile.compiler.shift_cost import shift_cost
from sim_tests.compiler.integer_graphs import IntegerGraph


def graph_with(requant: Requant, rng: np.random.Generator) -> Graph:
    """A graph of one convolution of four channels with this requantization."""
    build = IntegerGraph(rng)
    graph = build.graph(build.conv(build.input(4, 3, 3), 4))
    conv = graph.ops[0]
    assert isinstance(conv, Conv)
    return replace(graph, ops=(replace(conv, requant=requant),))


def make(mode: str, mantissa: list[int], shift: list[int]) -> Requant:
    """Requantization of four channels."""
    return Requant(
        mode="exact" if mode == "exact" else "shift",
        mantissa=np.array(mantissa, np.int64),
        shift=np.array(shift, np.int64),
        zero_point=0,
    )


def test_powers_of_two_cost_nothing(rng: np.random.Generator) -> None:
    exact = graph_with(make("exact", [1 << 23] * 4, [30, 31, 32, 33]), rng)
    shifted = graph_with(make("shift", [1] * 4, [7, 8, 9, 10]), rng)
    cost = shift_cost(exact, shifted)
    assert (cost.channels, cost.changed, cost.worst) == (4, 0, 0.0)
    assert cost.text() == "shift requantization is exact here: every scale is a power of two"


def test_the_largest_change_of_a_scale_is_named(rng: np.random.Generator) -> None:
    exact = graph_with(make("exact", [1 << 23, 5 << 21, 3 << 22, 0], [30, 30, 30, 30]), rng)
    shifted = graph_with(make("shift", [1, 1, 1, 0], [7, 7, 6, 7]), rng)
    cost = shift_cost(exact, shifted)
    assert (cost.channels, cost.changed) == (4, 2)
    assert cost.worst == pytest.approx(1 / 3)
    assert "2 of 4 channels, by up to 33%" in cost.text()
