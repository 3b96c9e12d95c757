"""pixel_blocks: the rewritten model computes what the original does; where it is chosen."""

from __future__ import annotations

import numpy as np
import pytest

from qcompile.compiler import ir
from qcompile.compiler.backend import for_accelerator
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.lines.machine import LinesMachine
from qcompile.compiler.passes.input_forms import send_inputs
from qcompile.compiler.passes.pixel_blocks import pixel_blocks
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.verify import verify
from qcompile.hw.lines.config import LinesConfig
from sim_tests.compiler.integer_graphs import IntegerGraph, Pads, Pair, model_of
from sim_tests.zoo import SHARED


def always(graph: ir.Graph, conv: ir.Conv) -> tuple[int]:
    """A cost by which the rewriting always pays."""
    return (sum(conv.strides),)


def rewritten(model: ir.Model) -> ir.Model:
    """With blocks wherever they can be."""
    return send_inputs(model, always, [pixel_blocks])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("kernel", "strides", "pads", "sent", "left"),
    [
        # 9 x 11 pixels. Height and width of what is sent, and the pads that are left.
        ((3, 3), (2, 2), (0, 0, 0, 0), (5, 6), (0, 0, 0, 0)),
        ((3, 3), (2, 2), (1, 1, 1, 1), (5, 6), (0, 0, 1, 1)),
        ((3, 3), (2, 2), (2, 3, 2, 2), (5, 6), (1, 1, 1, 1)),
        ((5, 2), (3, 1), (4, 0, 3, 1), (4, 11), (1, 0, 0, 1)),
        ((2, 3), (2, 4), (0, 5, 0, 1), (4, 3), (0, 1, 0, 0)),
        ((1, 1), (4, 5), (0, 0, 0, 0), (3, 3), (0, 0, 0, 0)),
        ((4, 1), (1, 2), (5, 0, 5, 0), (9, 6), (5, 0, 5, 0)),
    ],
)
def test_rewritten_model_computes_what_the_original_does(
    channels: int,
    kernel: Pair,
    strides: Pair,
    pads: Pads,
    sent: Pair,
    left: Pads,
    rng: np.random.Generator,
) -> None:
    g = IntegerGraph(rng)
    g.conv(g.input(channels, 9, 11), 5, kernel, strides=strides, pads=pads)
    model = model_of(g.graph("y1"))
    other = rewritten(model)
    verify(other.graph, after="pixel_blocks")
    assert other.graph.inputs == ("x0/blocks",)
    blocks = channels * strides[0] * strides[1]
    assert other.graph.values["x0/blocks"].shape == (1, blocks, *sent)
    conv = other.graph.ops[0]
    assert isinstance(conv, ir.Conv)
    assert conv.pads == left
    codes = g.codes(samples=3)
    np.testing.assert_array_equal(run_model(other, codes)["y1"], run_model(model, codes)["y1"])


def test_convolutions_without_strides_or_with_dilations_stay(rng: np.random.Generator) -> None:
    for strides, dilations in (((1, 1), (1, 1)), ((2, 2), (2, 1))):
        g = IntegerGraph(rng)
        g.conv(g.input(3, 9, 11), 5, (3, 3), strides=strides, dilations=dilations)
        model = model_of(g.graph("y1"))
        assert rewritten(model) is model


def test_pixels_between_windows_that_end_inside_a_block(rng: np.random.Generator) -> None:
    """Windows two pixels wide, four apart: the last block's other pixels have zero taps."""
    g = IntegerGraph(rng)
    g.conv(g.input(2, 8, 8), 4, (2, 2), strides=(4, 4))
    other = rewritten(model_of(g.graph("y1")))
    conv = other.graph.ops[0]
    assert isinstance(conv, ir.Conv)
    assert conv.weight.shape == (4, 32, 1, 1)
    assert np.count_nonzero(conv.weight.any(axis=(0, 2, 3))) <= 2 * 4
    codes = g.codes(samples=2)
    model = model_of(g.graph("y1"))
    np.testing.assert_array_equal(run_model(other, codes)["y1"], run_model(model, codes)["y1"])


def test_the_visual_wake_words_are_sent_in_a_quarter_of_the_words() -> None:
    path = SHARED / "models" / "mlpt_vww_mbv1_025.onnx"
    if not path.exists():
        pytest.skip(f"no {path.name} in the shared folder")
    model, machine = load_model(path), LinesMachine(LinesConfig(bank_words=4096))
    sent = for_accelerator(model, machine, thrifty=True)
    (name,) = sent.graph.inputs
    assert sent.graph.values[name].shape == (1, 12, 48, 48)
    fast = for_accelerator(model, machine)
    assert fast.graph.inputs == sent.graph.inputs
    (own,) = model.inputs
    rng = np.random.default_rng(3)
    codes = {own.name: rng.integers(-128, 128, (2, *own.shape[1:])).astype(np.int8)}
    for before, after in zip(
        run_model(model, codes).values(), run_model(sent, codes).values(), strict=True
    ):
        np.testing.assert_array_equal(after, before)
