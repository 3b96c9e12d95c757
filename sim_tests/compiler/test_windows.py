"""windows: the rewritten model computes what the original does; where it is chosen."""

from __future__ import annotations

import numpy as np
import pytest

from qcompile.compiler import ir
from qcompile.compiler.backend import for_accelerator
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.lines.machine import LinesMachine
from qcompile.compiler.passes.input_forms import send_inputs
from qcompile.compiler.passes.windows import windows
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.verify import verify
from qcompile.hw.lines.config import LinesConfig
from sim_tests.compiler.integer_graphs import IntegerGraph, Pads, Pair, model_of
from sim_tests.compiler.test_window_columns import convolution
from sim_tests.zoo import SHARED


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("kernel", "strides", "dilations", "pads"),
    [
        ((3, 4), (1, 1), (1, 1), (0, 0, 0, 0)),
        ((2, 3), (2, 3), (1, 1), (1, 2, 0, 1)),
        ((3, 2), (1, 2), (2, 3), (0, 1, 2, 4)),
        ((5, 5), (3, 1), (1, 2), (4, 7, 6, 5)),
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
    rewritten = send_inputs(model, lambda _, conv: (conv.weight.shape[2],), [windows])
    verify(rewritten.graph, after="windows")
    assert rewritten.graph.inputs == ("x0/windows",)
    conv = rewritten.graph.ops[0]
    assert isinstance(conv, ir.Conv)
    assert conv.weight.shape[1:] == (channels * kernel[0] * kernel[1], 1, 1)
    codes = g.codes(samples=3)
    np.testing.assert_array_equal(run_model(rewritten, codes)["y1"], run_model(model, codes)["y1"])


@pytest.mark.parametrize("kernel", [(1, 4), (4, 1)])
def test_windows_of_one_row_or_column_have_no_such_form(
    kernel: Pair, rng: np.random.Generator
) -> None:
    g = IntegerGraph(rng)
    g.conv(g.input(3, 9, 11), 5, kernel)
    model = model_of(g.graph("y1"))
    assert send_inputs(model, lambda _, conv: (conv.weight.shape[2],), [windows]) is model


@pytest.mark.skipif(not SHARED.exists(), reason="no networks beside the project")
def test_keyword_spotting_sends_three_words_a_window() -> None:
    """10 x 4 taps on one channel: 40 channels; as columns they are ten rows of taps."""
    model = load_model(SHARED / "models" / "mlpt_kws_dscnn.onnx")
    chosen = for_accelerator(model, LinesMachine(LinesConfig(lines=8, lanes=2)))
    (name,) = chosen.graph.inputs
    assert chosen.graph.values[name].shape == (1, 40, 25, 5)
