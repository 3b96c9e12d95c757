"""cycle_model: bounds that every prediction keeps; sim_tests/cosim compares it with the Verilog."""

from __future__ import annotations

import numpy as np
import pytest

from qcompile.compiler.backend import Compiled, compile_model
from qcompile.hw.boards.icebreaker import ICEBREAKER
from sim_tests.compiler.integer_graphs import IntegerGraph, Pair, model_of

WORD_CYCLES = 4
"""Flash clocks of a stream word: docs/architecture.md."""


def compiled(g: IntegerGraph, *outputs: str) -> Compiled:
    """The graph's program with its prediction."""
    return compile_model(model_of(g.graph(*outputs)), board=ICEBREAKER, requant="exact")


def convolution(out: int, size: Pair, channels: int = 8) -> Compiled:
    """One pointwise convolution; its constants are alike for equal arguments."""
    g = IntegerGraph(np.random.default_rng(5))
    return compiled(g, g.conv(g.input(channels, *size), out))


def test_no_layer_is_faster_than_its_array_or_its_stream(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.conv(g.input(9, 12, 11), 20, (3, 3), pads=(1, 1, 1, 1))
    y = g.pool(g.conv(g.add(g.conv(x, 20), x), 0, (3, 3)), (3, 3), (2, 2))
    result = compiled(g, g.conv(y, 7, (1, 1), strides=(2, 2)))
    assert [cycles.name for cycles in result.cycles] == [layer.name for layer in result.layers]
    for cycles, plan, layer in zip(result.cycles, result.plans, result.layers, strict=True):
        assert cycles.cycles > plan.cycles_estimate
        assert cycles.macs == layer.macs
        assert cycles.utilization == layer.macs / (16 * cycles.cycles) <= 1
    assert result.total_cycles == sum(cycles.cycles for cycles in result.cycles)
    assert result.total_cycles > WORD_CYCLES * (len(result.program.words) - 2)


@pytest.mark.parametrize("outs", [(4, 8), (8, 12), (60, 64)])
def test_more_output_channels_take_more_cycles(outs: Pair) -> None:
    few, many = (convolution(out, (6, 6)).total_cycles for out in outs)
    assert few < many


def test_more_rows_take_as_many_cycles_as_their_tiles(rng: np.random.Generator) -> None:
    # Nine tiles more of two channel words: 9 * 2 * 4 reads for each of two channel groups.
    small, large = (convolution(8, size, channels=32) for size in ((8, 8), (25, 4)))
    assert large.plans[0].tiles - small.plans[0].tiles == 9
    assert large.total_cycles - small.total_cycles == 9 * 2 * 8 * 4


def test_a_layer_that_waits_for_its_weights_takes_the_streams_time() -> None:
    result = convolution(64, (1, 1), channels=256)
    words = len(result.program.words)
    # 16 groups of 256 weight words of two stream words; each is used once, as it arrives.
    assert words > 16 * 256 * 2
    assert WORD_CYCLES * words <= result.total_cycles <= WORD_CYCLES * words + 400


def test_a_residual_operand_makes_rows_slower(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.input(8, 8, 8)
    y = g.conv(x, 8)
    plain = compiled(g, y)
    added = compiled(g, g.add(y, x))
    rows = 2 * 64
    assert added.total_cycles - plain.total_cycles > 4 * rows


def test_utilization_nears_one_where_weights_are_reused() -> None:
    result = convolution(8, (40, 40), channels=32)
    assert 0.95 < result.cycles[0].utilization < 1
