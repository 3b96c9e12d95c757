"""Every plan of every layer, walked word by word, computes the layer's convolution."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.compiler.errors import CapacityError
from qcompile.compiler.layers import Layer
from qcompile.compiler.passes.tile import plan_layer
from qcompile.hw.config import AcceleratorConfig
from sim_tests.compiler.layer_runs import check_all_plans

CONFIG = AcceleratorConfig()


def make_layer(
    *,
    kind: str,
    channels: int,
    out: int,
    size: tuple[int, int],
    kernel: tuple[int, int] = (1, 1),
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    pads: tuple[int, int, int, int] = (0, 0, 0, 0),
    copies: int = 1,
    seed: int = 0,
) -> Layer:
    """A layer of random weights; `out` is ignored where depthwise."""
    random = np.random.default_rng(seed)
    out = out if kind == "dense" else channels
    inner = (out, channels) if kind == "dense" else (channels,)
    spans = [dilation * (taps - 1) + 1 for dilation, taps in zip(dilations, kernel, strict=True)]
    height = (size[0] + pads[0] + pads[2] - spans[0]) // strides[0] + 1
    width = (size[1] + pads[1] + pads[3] - spans[1]) // strides[1] + 1
    zeros = np.zeros(out, np.int64)
    return Layer(
        kind="dense" if kind == "dense" else "depthwise",
        operator="Conv",
        name="layer",
        origins=(),
        input="x",
        output="layer",
        residual=None,
        input_shape=(channels, *size),
        output_shape=(out, height, width),
        weight=random.integers(-128, 128, (copies, *inner, *kernel)).astype(np.int8),
        bias=zeros,
        mantissa=zeros,
        shift=zeros,
        strides=strides,
        dilations=dilations,
        pads=pads,
        pad_code=int(random.integers(-128, 128)),
        zero_point=0,
        low=-128,
        high=127,
        zero_point_inside=False,
        table=None,
        add_tables=None,
        macs=0,
    )


@given(
    kind=st.sampled_from(["dense", "depthwise"]),
    channels=st.integers(1, 9),
    out=st.integers(1, 9),
    size=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_every_plan_computes_the_convolution(
    kind: str,
    channels: int,
    out: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int, int, int],
    seed: int,
) -> None:
    spans = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    if size[0] + pads[0] + pads[2] < spans[0] or size[1] + pads[1] + pads[3] < spans[1]:
        return
    layer = make_layer(
        kind=kind,
        channels=channels,
        out=out,
        size=size,
        kernel=kernel,
        strides=strides,
        dilations=dilations,
        pads=pads,
        seed=seed,
    )
    assert check_all_plans(layer, seed) >= 1


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
