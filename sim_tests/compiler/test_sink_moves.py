"""sink_moves: the graph computes the same codes, and moves that cancel are gone."""

from __future__ import annotations

import numpy as np
import pytest

from qcompile.compiler import ir
from qcompile.compiler.golden.interpreter import run_graph
from qcompile.compiler.passes.sink_moves import sink_moves
from qcompile.compiler.verify import verify
from sim_tests.compiler.integer_graphs import IntegerGraph

LAST = (0, 2, 3, 1)
"""Channels last."""
FIRST = (0, 3, 1, 2)


class MovedGraph(IntegerGraph):
    """Adds transposes and per-channel constants in any layout."""

    def transpose(self, x: str, permutation: tuple[int, ...]) -> str:
        shape = self.values[x].shape
        index = np.arange(self.values[x].elements, dtype=np.int32).reshape(shape)
        moved = np.ascontiguousarray(index.transpose(permutation))
        y = self._value("t", moved.shape)
        self.ops.append(ir.Select(inputs=(x,), outputs=(y,), index=moved))
        return y

    def with_axis_constant(self, x: str, axis: int, *, first: bool = False) -> str:
        shape = [1] * len(self.values[x].shape)
        shape[axis] = self.values[x].shape[axis]
        constant = self._value("c", tuple(shape))
        data = self.rng.integers(-128, 128, shape).astype(np.int8)
        self.ops.append(ir.Constant(inputs=(), outputs=(constant,), data=data))
        y = self._value("y", self.values[x].shape)
        table = self.rng.integers(-128, 128, (256, 256)).astype(np.int8)
        inputs = (constant, x) if first else (x, constant)
        self.ops.append(ir.Binary(inputs=inputs, outputs=(y,), table=table))
        return y


def same_codes(g: MovedGraph, *outputs: str) -> ir.Graph:
    """Checks the rewritten graph on random inputs, and returns it."""
    graph = g.graph(*outputs)
    sunk = sink_moves(graph)
    verify(sunk, after="sink_moves")
    inputs = {
        name: g.rng.integers(-128, 128, (3, *graph.values[name].shape[1:])).astype(np.int8)
        for name in graph.inputs
    }
    before, after = run_graph(graph, inputs), run_graph(sunk, inputs)
    for name in outputs:
        np.testing.assert_array_equal(after[name], before[name])
    return sunk


@pytest.mark.parametrize("first", [False, True])
def test_a_normalization_between_transposes_keeps_its_codes(
    rng: np.random.Generator, first: bool
) -> None:
    g = MovedGraph(rng)
    x = g.transpose(g.conv(g.input(3, 4, 5), 6), LAST)
    x = g.lookup(g.with_axis_constant(g.with_axis_constant(x, 3, first=first), 1))
    y = g.conv(g.transpose(x, FIRST), 5, (3, 3))
    sunk = same_codes(g, y)
    assert [type(op).__name__ for op in sunk.ops if not isinstance(op, ir.Constant)] == [
        *("Conv", "Binary", "Binary", "Lookup", "Reshape", "Conv")
    ]
    shapes = [op.data.shape for op in sunk.ops if isinstance(op, ir.Constant)]
    assert shapes == [(1, 6, 1, 1), (1, 1, 4, 1)]


def test_a_fully_connected_layer_takes_the_order_into_its_weights(
    rng: np.random.Generator,
) -> None:
    g = MovedGraph(rng)
    x = g.transpose(g.conv(g.input(3, 4, 5), 6), LAST)
    sunk = same_codes(g, g.conv(x, 7, (5, 6)))
    assert not any(isinstance(op, ir.Select) for op in sunk.ops)


def test_moves_that_are_read_twice_or_are_outputs_stay(rng: np.random.Generator) -> None:
    g = MovedGraph(rng)
    x = g.transpose(g.conv(g.input(3, 4, 5), 6), LAST)
    sunk = same_codes(g, x, g.with_axis_constant(x, 3))
    assert sum(isinstance(op, ir.Select) for op in sunk.ops) == 1
    g = MovedGraph(rng)
    x = g.transpose(g.input(3, 4, 5), LAST)
    twice = g.transpose(x, LAST)
    sunk = same_codes(g, g.conv(x, 2), g.conv(twice, 2))
    assert [op.inputs[0] for op in sunk.ops if isinstance(op, ir.Select)] == g.inputs * 2
