"""reshape_words: a Reshape to other channels is made of copies, and computes the same codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler import ir
from qcompile.compiler.backend import compile_model
from qcompile.compiler.golden.interpreter import run_graph
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.passes.reshape_words import reshape_words
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.verify import verify
from qcompile.hw.boards.icebreaker import ICEBREAKER
from sim_tests.compiler.agreement import assert_equal_everywhere, random_inputs
from sim_tests.compiler.compiled_runs import check_compiled
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.compiler.layer_runs import check
from sim_tests.compiler.networks import Network, random_conv

SHAPES = [
    ((4, 2, 3), (1, 24, 1, 1)),
    ((8, 2, 2), (1, 2, 4, 4)),
    ((2, 4, 4), (1, 8, 2, 2)),
    ((6, 2, 2), (1, 3, 8)),
    ((12, 1, 1), (1, 3, 2, 2)),
    ((5, 3, 1), (1, 1, 5, 3)),
]


@pytest.mark.parametrize(("before", "after"), SHAPES)
def test_a_reshape_to_other_channels_copies_codes(
    rng: np.random.Generator, before: tuple[int, int, int], after: tuple[int, ...]
) -> None:
    g = IntegerGraph(rng)
    shaped = g.reshape(g.conv(g.input(3, *before[1:]), before[0]), after)
    graph = g.graph(g.lookup(shaped))
    moved = reshape_words(graph)
    verify(moved, after="reshape_words")
    assert [type(op) for op in moved.ops] == [ir.Conv, ir.Select, ir.Lookup]
    codes = g.codes()
    (y,) = graph.outputs
    np.testing.assert_array_equal(run_graph(moved, codes)[y], run_graph(graph, codes)[y])
    check(g, moved, lower(moved))


@pytest.mark.parametrize("after", [(1, 5, 3, 4), (60,), (1, 10, 1, 2, 3)])
def test_a_reshape_of_pixels_stays_and_one_without_a_form_in_memory(
    rng: np.random.Generator, after: tuple[int, ...]
) -> None:
    g = IntegerGraph(rng)
    graph = g.graph(g.reshape(g.conv(g.input(3, 2, 6), 5), after))
    assert reshape_words(graph) is graph


def reshaped_network(rng: np.random.Generator) -> Network:
    """Conv, Reshape to half of the channels, a scale of its own, Conv."""
    network = Network()
    x = network.input("x", "int8", (1, 4, 4, 2))
    codes = random_conv(network, rng, x, (8, 4, 1, 1), ((0.02, 3, "int8"), (0.03, -5, "int8")))
    real = network.dequantize(codes, (0.03, -5, "int8"))
    shape = network.constant([1, 4, 2, 8], "int64")
    shaped = network.quantize(network.node("Reshape", real, shape), (0.03, -5, "int8"))
    random_conv(network, rng, shaped, (3, 4, 2, 3), ((0.03, -5, "int8"), (0.04, 1, "int8")))
    network.output(network.nodes[-1].output[0], "int8")
    return network


def test_a_reshape_between_convolutions_compiles(rng: np.random.Generator, tmp_path: Path) -> None:
    path = reshaped_network(rng).save(tmp_path / "m.onnx")
    model = load_model(path)
    assert_equal_everywhere(path, model, random_inputs(model, rng, 3))
    compiled = compile_model(model, board=ICEBREAKER, requant="exact")
    assert any(layer.operator == "Reshape" for layer in compiled.layers)
    assert check_compiled(compiled, rng)
