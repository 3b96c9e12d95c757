"""Every line plan of every layer, walked word by word, computes the layer's convolution."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.compiler.layers import Layer, Region
from qcompile.compiler.lines.machine import best_plan
from qcompile.compiler.lines.nests import candidates
from qcompile.hw.lines.config import LinesConfig
from sim_tests.compiler.layer_runs import convolve, written
from sim_tests.compiler.lines_walker import UNWRITTEN, Walker
from sim_tests.compiler.made_layers import layer_shapes, make_layer

SIZES = [
    LinesConfig(lines=1, columns=4),
    LinesConfig(lines=2, columns=4),
    LinesConfig(lines=3, columns=8),
    LinesConfig(lines=8, columns=16),
]


def check_line_plans(layer: Layer, config: LinesConfig, seed: int) -> int:
    """Walks every candidate; returns how many there are."""
    random = np.random.default_rng(seed)
    codes = random.integers(-128, 128, layer.input_shape).astype(np.int8)
    expected = np.full(layer.tensor_shape, UNWRITTEN)
    written(layer, convolve(layer, codes, config.columns), expected, config.columns)
    plans = [*candidates(layer, config), *candidates(layer, config, turned=True)]
    for plan in plans:
        found = Walker(layer, plan, config).walk(codes)
        inside = expected != UNWRITTEN
        np.testing.assert_array_equal(
            found[inside], expected[inside], err_msg=f"seed {seed}, {plan.kind} {plan.counts}"
        )
    return len(plans)


@given(config=st.sampled_from(SIZES), shape=layer_shapes(channels=20, size=12))
@settings(max_examples=60, deadline=None)
def test_every_line_plan_computes_the_convolution(
    config: LinesConfig, shape: dict[str, Any]
) -> None:
    assert check_line_plans(make_layer(**shape), config, shape["seed"]) >= 1


@pytest.mark.parametrize("channels", [4, 100, 640])
@pytest.mark.parametrize("out", [3, 16, 40, 130])
def test_one_pixel_takes_its_own_weights_on_each_line(channels: int, out: int) -> None:
    layer = make_layer(kind="dense", channels=channels, out=out, size=(1, 1))
    config = LinesConfig(lines=8, columns=16)
    assert any(plan.own for plan in candidates(layer, config))
    assert check_line_plans(layer, config, 1) >= 2
    best = best_plan(layer, config)
    assert best is not None
    assert best.own == (out > 16)


@pytest.mark.parametrize("config", SIZES)
def test_a_layer_writes_a_part_of_a_tensor(config: LinesConfig) -> None:
    layer = make_layer(kind="dense", channels=5, out=3 * config.columns, size=(6, 7), seed=3)
    region = Region(
        shape=(7 * config.columns, 13, 15),
        channel=config.columns,
        channel_step=2 * config.columns,
        start=(1, 0),
        steps=(2, 2),
    )
    assert check_line_plans(replace(layer, region=region), config, 3) >= 1


def test_nine_bit_weights_walk_their_taps_twice() -> None:
    config = LinesConfig(lines=2, columns=4)
    for channels, kernel in ((9, (1, 1)), (9, (1, 3)), (9, (3, 1)), (3, (3, 3))):
        layer = make_layer(
            kind="dense", channels=channels, out=5, size=(6, 7), kernel=kernel, copies=2, seed=1
        )
        assert check_line_plans(layer, config, 1) >= 1
    layer = make_layer(kind="depthwise", channels=5, out=5, size=(6, 7), kernel=(3, 3), copies=2)
    assert check_line_plans(layer, config, 2) == 4
