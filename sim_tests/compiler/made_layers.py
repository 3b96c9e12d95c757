"""Layers of random weights, and shapes of them for hypothesis to draw."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from qcompile.compiler.layers import Layer


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


def layer_shapes(*, channels: int, size: int) -> st.SearchStrategy[dict[str, Any]]:
    """Arguments of `make_layer`: channels and pixels along an axis up to those that are given."""
    return st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["dense", "depthwise"]),
            "channels": st.integers(1, channels),
            "out": st.integers(1, channels),
            "size": st.tuples(st.integers(1, size), st.integers(1, size)),
            "kernel": st.tuples(st.integers(1, 3), st.integers(1, 4)),
            "strides": st.tuples(st.integers(1, 3), st.integers(1, 3)),
            "dilations": st.tuples(st.integers(1, 2), st.integers(1, 2)),
            "pads": st.tuples(*[st.integers(0, 2)] * 4),
            "seed": st.integers(0, 2**32 - 1),
        }
    ).filter(_has_a_window)


def _has_a_window(shape: dict[str, Any]) -> bool:
    pads = shape["pads"]
    return all(
        shape["size"][axis] + pads[axis] + pads[axis + 2]
        >= shape["dilations"][axis] * (shape["kernel"][axis] - 1) + 1
        for axis in (0, 1)
    )
