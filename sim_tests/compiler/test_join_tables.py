"""join_tables and fold_constants: the graph computes the same codes with fewer operations."""

from __future__ import annotations

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.golden.interpreter import run_graph
from qcompile.compiler.passes.fold_constants import fold_constants
from qcompile.compiler.passes.join_tables import join_tables
from qcompile.compiler.verify import verify
from sim_tests.compiler.integer_graphs import IntegerGraph


def same_codes(g: IntegerGraph, graph: ir.Graph, changed: ir.Graph) -> None:
    """Both graphs make the same outputs."""
    verify(changed, after="the pass")
    codes = g.codes(3)
    before, after = run_graph(graph, codes), run_graph(changed, codes)
    for name in graph.outputs:
        np.testing.assert_array_equal(after[name], before[name])


def test_a_function_of_a_tensor_and_of_its_tables_is_a_table(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.conv(g.input(3, 4, 5), 3)
    table = rng.integers(-128, 128, (256, 256)).astype(np.int8)
    y = g.combine(g.lookup(g.lookup(x)), x, table)
    z = g.combine(g.lookup(y), y, table)
    graph = g.graph(z)
    joined = join_tables(graph)
    assert [type(op).__name__ for op in joined.ops] == ["Conv", "Lookup"]
    same_codes(g, graph, joined)


def test_functions_of_two_tensors_stay(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.input(3, 4, 5)
    graph = g.graph(g.add(x, g.conv(x, 3)))
    assert join_tables(graph) is graph


def test_what_is_made_of_constants_is_a_constant(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.input(3, 4, 5)
    a, b = (g.constant(rng.integers(-128, 128, (1, 3, 4, 5)).astype(np.int8)) for _ in range(2))
    made = g.lookup(g.add(g.conv(a, 3), b))
    graph = g.graph(g.add(x, made))
    folded = fold_constants(graph)
    assert [type(op).__name__ for op in folded.ops] == ["Constant", "Binary"]
    same_codes(g, graph, folded)


def test_a_graph_without_constants_stays(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    graph = g.graph(g.conv(g.input(3, 4, 5), 3))
    assert fold_constants(graph) is graph
