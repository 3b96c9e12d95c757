"""send_inputs: the rewritten model computes what the original does, where it is taken."""

from __future__ import annotations

import numpy as np
import pytest

from qcompile.compiler import ir
from qcompile.compiler.backend import for_accelerator
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.passes.input_forms import Cost, send_inputs
from qcompile.compiler.passes.window_columns import window_columns as form
from qcompile.compiler.verify import verify
from sim_tests.compiler.integer_graphs import IntegerGraph, Pads, Pair, model_of


def always(graph: ir.Graph, conv: ir.Conv) -> tuple[int]:
    """An estimate by which the rewriting always pays."""
    return (int(conv.weight.shape[3]),)


def never(graph: ir.Graph, conv: ir.Conv) -> tuple[int]:
    """An estimate by which it never does."""
    return (-int(conv.weight.shape[3]),)


def window_columns(model: ir.Model, cost: Cost) -> ir.Model:
    """With no other form of an input."""
    return send_inputs(model, cost, [form])


def convolution(
    rng: np.random.Generator,
    channels: int,
    kernel: Pair,
    strides: Pair,
    dilations: Pair,
    pads: Pads,
) -> IntegerGraph:
    """A graph of one convolution `y1` of `x0`."""
    g = IntegerGraph(rng)
    g.conv(g.input(channels, 9, 11), 5, kernel, strides=strides, dilations=dilations, pads=pads)
    return g


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("kernel", "strides", "dilations", "pads"),
    [
        ((3, 4), (1, 1), (1, 1), (0, 0, 0, 0)),
        ((2, 3), (2, 3), (1, 1), (1, 2, 0, 1)),
        ((3, 2), (1, 2), (2, 3), (0, 1, 2, 4)),
        ((1, 11), (1, 1), (1, 1), (0, 0, 0, 0)),
    ],
)
def test_rewritten_model_computes_what_the_original_does(
    channels: int,
    kernel: Pair,
    strides: Pair,
    dilations: Pair,
    pads: Pads,
    rng: np.random.Generator,
) -> None:
    g = convolution(rng, channels, kernel, strides, dilations, pads)
    model = model_of(g.graph("y1"))
    rewritten = window_columns(model, always)
    verify(rewritten.graph, after="window_columns")
    conv = rewritten.graph.ops[0]
    assert isinstance(conv, ir.Conv)
    assert conv.weight.shape[1:] == (channels * kernel[1], kernel[0], 1)
    codes = g.codes(samples=3)
    np.testing.assert_array_equal(run_model(rewritten, codes)["y1"], run_model(model, codes)["y1"])


def test_inputs_that_gain_nothing_stay(rng: np.random.Generator) -> None:
    g = convolution(rng, 1, (3, 4), (1, 1), (1, 1), (0, 0, 0, 0))
    model = model_of(g.graph("y1"))
    assert window_columns(model, never) is model


def test_inputs_that_something_else_needs_stay(rng: np.random.Generator) -> None:
    g = convolution(rng, 1, (3, 4), (1, 1), (1, 1), (0, 0, 0, 0))
    assert window_columns(model := model_of(g.graph("x0", "y1")), always) is model
    g.lookup("x0")
    assert window_columns(model := model_of(g.graph("y1", "table2")), always) is model


def test_other_first_layers_stay(rng: np.random.Generator) -> None:
    for kernel, out in (((3, 1), 4), ((3, 3), 0)):  # one column; depthwise
        g = IntegerGraph(rng)
        model = model_of(g.graph(g.conv(g.input(2, 9, 9), out, kernel)))
        assert window_columns(model, always) is model


def test_every_input_is_rewritten_for_itself(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    outputs = [g.conv(g.input(1, 6, 6), 4, (3, 3)) for _ in range(2)]
    model = window_columns(model_of(g.graph(*outputs)), always)
    assert model.graph.inputs == ("x0/columns", "x2/columns")
    assert [step["inputs"] for step in model.prologue] == [["x0"], ["x2"]]


def test_a_one_channel_image_is_rewritten_and_a_wide_tensor_is_not(
    rng: np.random.Generator,
) -> None:
    g = IntegerGraph(rng)
    thin = model_of(g.graph(g.conv(g.input(1, 25, 20), 8, (10, 4), pads=(4, 1, 5, 2))))
    assert for_accelerator(thin).graph.inputs == ("x0/columns",)
    g = IntegerGraph(rng)
    wide = model_of(g.graph(g.conv(g.input(16, 9, 9), 8, (3, 3))))
    assert for_accelerator(wide) is wide
