"""Every plan of every layer, walked word by word, computes the layer's convolution."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from qcompile.compiler.errors import CapacityError
from qcompile.compiler.passes.tile import plan_layer
from qcompile.hw.config import AcceleratorConfig
from sim_tests.compiler.layer_runs import check_all_plans
from sim_tests.compiler.made_layers import layer_shapes, make_layer

CONFIG = AcceleratorConfig()


@given(shape=layer_shapes(channels=9, size=7))
@settings(max_examples=60, deadline=None)
def test_every_plan_computes_the_convolution(shape: dict[str, Any]) -> None:
    assert check_all_plans(make_layer(**shape), shape["seed"]) >= 1


@pytest.mark.parametrize(
    ("channels", "kernel"), [(9, (1, 1)), (9, (1, 3)), (9, (3, 1)), (3, (3, 3))]
)
def test_nine_bit_weights_walk_their_taps_twice(channels: int, kernel: tuple[int, int]) -> None:
    layer = make_layer(
        kind="dense", channels=channels, out=5, size=(6, 7), kernel=kernel, copies=2, seed=1
    )
    assert check_all_plans(layer, 1) >= 1


def test_depthwise_nine_bit_weights_walk_their_taps_twice() -> None:
    layer = make_layer(
        kind="depthwise", channels=5, out=5, size=(6, 7), kernel=(3, 3), copies=2, seed=2
    )
    assert check_all_plans(layer, 2) == 4


def test_a_pool_over_the_whole_image_takes_one_cycle_a_pixel() -> None:
    layer = make_layer(
        kind="depthwise", channels=64, out=64, size=(25, 5), kernel=(25, 5), strides=(25, 5)
    )
    plan = plan_layer(layer, CONFIG)
    assert plan.broadcast
    assert plan.tile_reads == 125


def test_pointwise_convolution_has_rows_along_all_pixels() -> None:
    plan = plan_layer(make_layer(kind="dense", channels=64, out=64, size=(25, 5)), CONFIG)
    assert plan.row_axis == "flat"
    assert plan.cycles_estimate == 32 * 64 * 16


def test_groups_of_equal_weights_are_sent_once() -> None:
    layer = make_layer(kind="depthwise", channels=8, out=8, size=(4, 4), kernel=(4, 4))
    alike = np.ones_like(layer.weight)
    assert not plan_layer(layer, CONFIG).shared_weights
    assert plan_layer(replace(layer, weight=alike), CONFIG).shared_weights


def test_weights_beyond_the_fifo_are_refused_where_several_tiles_use_them() -> None:
    layer = make_layer(kind="dense", channels=1028, out=4, size=(2, 4))
    with pytest.raises(
        CapacityError, match=r"^'layer': 1,032 weight words of a channel group do not fit"
    ):
        plan_layer(layer, CONFIG)
    deep = make_layer(kind="depthwise", channels=4, out=4, size=(70, 60), kernel=(66, 40))
    with pytest.raises(CapacityError) as caught:
        plan_layer(deep, CONFIG)
    assert "help: use a smaller kernel in this layer" in caught.value.render()
    single = make_layer(kind="dense", channels=1028, out=4, size=(1, 1))
    assert plan_layer(single, CONFIG).weights.shape[1] >= 1028
    assert check_all_plans(single, 3) == 1


@pytest.mark.parametrize(
    ("length", "pads", "countable"),
    [(500, (3, 2), True), (300, (1, 300), False), (300, (250, 1), False), (200, (100, 150), True)],
)
def test_coordinates_of_padding_never_wrap_into_the_tensor(
    length: int, pads: tuple[int, int], countable: bool
) -> None:
    layer = make_layer(
        kind="dense",
        channels=3,
        out=2,
        size=(1, length),
        kernel=(1, 3),
        pads=(0, pads[0], 0, pads[1]),
    )
    assert check_all_plans(layer, 4) == (2 if countable else 0)
    if not countable:
        with pytest.raises(CapacityError, match=r"^'layer': its picture with padding is longer"):
            plan_layer(layer, CONFIG)


@pytest.mark.parametrize(
    ("size", "kernel", "strides"),
    [
        ((1, 101), (1, 101), (1, 1)),  # taps of a line in parts
        ((101, 1), (101, 1), (1, 1)),
        ((40, 37), (40, 37), (1, 1)),  # more rows of taps than a loop counts
        ((8, 95), (8, 90), (1, 1)),  # parts, and six windows
        ((1, 140), (1, 66), (1, 2)),
    ],
)
def test_windows_longer_than_a_loop_counts(
    size: tuple[int, int], kernel: tuple[int, int], strides: tuple[int, int]
) -> None:
    layer = make_layer(
        kind="depthwise", channels=5, out=5, size=size, kernel=kernel, strides=strides, seed=3
    )
    assert check_all_plans(layer, 5) >= 2
    plan_layer(layer, CONFIG)


def test_equal_weights_beyond_the_fifo_are_sent_for_each_group() -> None:
    layer = make_layer(kind="depthwise", channels=8, out=8, size=(40, 40), kernel=(40, 40))
    plan = plan_layer(replace(layer, weight=np.ones_like(layer.weight)), CONFIG)
    assert not plan.shared_weights
    assert plan.tile_reads == 1600


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("copies", [1, 2])
def test_dense_line_longer_than_a_loop_counts(copies: int, dilation: int) -> None:
    layer = make_layer(
        kind="dense",
        channels=4,
        out=3,
        size=(1, 90),
        kernel=(1, 41),
        dilations=(1, dilation),
        pads=(0, 20, 0, 20),
        copies=copies,
        seed=5,
    )
    assert check_all_plans(layer, 6) >= 1
    plan_layer(layer, CONFIG)
