"""lowering: layers of every kind of operation compute what golden computes, on every plan."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from qcompile.compiler import ir
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.passes.allocate import allocate
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.passes.lowering.convolution import grouped_forms
from qcompile.compiler.passes.lowering.cost import SMALL_MACHINE
from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.program import FRACTION_BITS
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.compiler.layer_runs import check


@pytest.mark.parametrize(
    ("channels", "out", "group"),
    [(6, 12, 6), (3, 12, 3), (5, 15, 5), (8, 8, 4), (8, 16, 2), (12, 6, 3), (16, 16, 2), (6, 4, 2)],
)
def test_every_form_of_groups_computes_what_golden_computes(
    rng: np.random.Generator, channels: int, out: int, group: int
) -> None:
    g = IntegerGraph(rng)
    x = g.input(channels, 5, 6)
    y = g.conv(x, out, (3, 2), strides=(1, 2), pads=(1, 0, 1, 1), group=group)
    graph = g.graph(y)
    (op,) = graph.ops
    assert isinstance(op, ir.Conv)
    forms = grouped_forms(4, graph, op, x)
    assert len(forms) == (3 if channels == group else 2)
    for form in forms:
        check(g, graph, form)
    check(g, graph, lower(graph))


def test_a_channel_multiplier_takes_the_cheapest_form(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    y = g.conv(g.input(16, 14, 14), 32, (3, 3), pads=(1, 1, 1, 1), group=16)
    graph = g.graph(y)
    (op,) = graph.ops
    assert isinstance(op, ir.Conv)
    costs = [SMALL_MACHINE.estimate(form) for form in grouped_forms(4, graph, op, "x0")]
    found = lower(graph)
    assert SMALL_MACHINE.estimate(found) == min(cost for cost in costs if cost is not None)
    assert sum(layer.macs for layer in found) == 32 * 14 * 14 * 9
    assert [layer.inner for layer in found] == [True] * (len(found) - 1) + [False]
    assert found[-1].name == y


@pytest.mark.parametrize("height", [1, 9])
@pytest.mark.parametrize(
    ("width", "kernel", "strides", "dilations", "pads"),
    [
        (8, (1, 2), (1, 2), (1, 1), (0, 0, 0, 0)),
        (7, (1, 3), (1, 2), (1, 1), (0, 1, 0, 1)),
        (9, (1, 2), (1, 1), (1, 3), (0, 2, 0, 0)),
        (9, (1, 1), (1, 2), (1, 1), (0, 0, 0, 0)),
        (9, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0)),
        (9, (1, 9), (1, 1), (1, 1), (0, 0, 0, 0)),
        (9, (1, 5), (1, 1), (1, 1), (0, 2, 0, 2)),
        (5, (1, 7), (1, 4), (1, 1), (0, 1, 0, 2)),
    ],
)
def test_max_pools_compute_what_golden_computes(
    rng: np.random.Generator,
    height: int,
    width: int,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int, int, int],
) -> None:
    """Along the width alone, along the height alone, along both."""
    g = IntegerGraph(rng)
    if height > 1:
        kernel, strides, dilations = (2, kernel[1]), (2, strides[1]), (1, dilations[1])
        pads = (1, pads[1], 0, pads[3])
    y = g.max_pool(
        g.input(5, height, width), kernel, strides=strides, dilations=dilations, pads=pads
    )
    x = g.input(3, width, height)
    turned = [(size[1], size[0]) for size in (kernel, strides, dilations)]
    other = (pads[1], pads[0], pads[3], pads[2])
    z = g.max_pool(x, turned[0], strides=turned[1], dilations=turned[2], pads=other)
    graph = g.graph(y, z)
    check(g, graph, lower(graph))


def test_a_table_joins_the_last_layer_of_a_pool(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    y = g.lookup(g.max_pool(g.input(4, 4, 4), (2, 2), strides=(2, 2)))
    graph = g.graph(y)
    layers = lower(graph)
    check(g, graph, layers)
    assert layers[-1].table is not None and layers[-1].residual is not None
    assert [layer.name for layer in layers if not layer.inner] == [y]


def test_a_pool_over_a_line_is_halved(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    g.max_pool(g.input(4, 1, 49), (1, 49))
    # 49, 25, 13, 7, 4, 2, 1: a copy and two sums each.
    assert len(lower(g.graph("y1"))) == 18


def test_a_slice_and_an_upsampling_are_copies(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.input(9, 6, 7)
    (n,) = g.numbered(x)
    outputs = [
        g.select(n[:, 4:, 1:5, ::2], x),
        g.select(n[:, 2:8, ::-1, 3:], x),
        g.select(n.repeat(2, axis=2).repeat(2, axis=3), x),
        g.select(np.pad(n, ((0, 0), (0, 0), (1, 2), (0, 3)), constant_values=-1), x, fill=-77),
        g.select(np.pad(n, ((0, 0), (3, 2), (0, 1), (0, 0)), constant_values=-1), x, fill=5),
        g.select(np.pad(n, ((0, 0), (0, 0), (2, 1), (1, 1)), mode="reflect"), x),
        g.select(np.pad(n, ((0, 0), (0, 0), (2, 1), (1, 1)), mode="edge"), x),
        g.select(n[:, rng.permutation(9)], x),
        g.select(n[:, :, :1, :1].repeat(5, axis=2), x),
        g.select(n.transpose(0, 2, 3, 1), x),
    ]
    graph = g.graph(*outputs)
    layers = lower(graph)
    check(g, graph, layers)
    made = Counter(layer.output for layer in layers)
    assert [made[name] for name in outputs[:5]] == [1, 1, 4, 1, 2]


def test_blocks_move_between_channels_and_pixels(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.input(8, 4, 6)
    (n,) = g.numbered(x)
    deep = n.reshape(1, 2, 2, 2, 4, 6).transpose(0, 3, 4, 1, 5, 2).reshape(1, 2, 8, 12)
    blocks = n.reshape(1, 8, 2, 2, 3, 2).transpose(0, 3, 5, 1, 2, 4).reshape(1, 32, 2, 3)
    outputs = (g.select(deep, x), g.select(blocks, x))
    graph = g.graph(*outputs)
    layers = lower(graph)
    check(g, graph, layers)
    made = Counter(layer.output for layer in layers)
    assert [made[name] for name in outputs] == [4, 4]


@pytest.mark.parametrize("channels", [(4, 8, 3), (3, 5, 2), (1, 1, 1), (6, 2, 4)])
def test_a_concat_writes_parts_of_one_tensor(
    rng: np.random.Generator, channels: tuple[int, ...]
) -> None:
    """With operands in both banks, and words that several operands share."""
    g = IntegerGraph(rng)
    inputs = [g.input(count, 3, 4) for count in channels]
    inputs[1] = g.conv(inputs[1], channels[1])
    y = g.select(np.concatenate(g.numbered(*inputs), axis=1), *inputs)
    graph = g.graph(g.lookup(y))
    layers = lower(graph)
    check(g, graph, layers)
    allocate(layers, graph.inputs, graph.outputs, AcceleratorConfig().bank_words)


def test_a_constant_part_is_written_by_a_layer_of_its_own(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.input(3, 4, 4)
    (n,) = g.numbered(x)
    index = np.full((1, 11, 4, 6), -1)
    index[:, 4:7, :, 1::2][:, :, ::2, :2] = n[:, :, ::2, :2]
    y = g.select(index, x, fill=-128)
    graph = g.graph(y)
    check(g, graph, lower(graph))


def test_a_select_without_structure_is_refused(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.input(4, 16, 16)
    y = g.select(rng.integers(0, 1024, (1, 4, 16, 16)), x)
    message = (
        f"'{y}': this Select is more than 128 copies of parts\n"
        "  input 'x0' [4, 16, 16]\n"
        "  output [4, 16, 16]\n"
        "  help: move the operator to the input or output of the model, where the host runs it"
    )
    with pytest.raises(UnsupportedError, match=rf"^{re.escape(message)}$"):
        lower(g.graph(y))


def test_nine_bit_weights_without_a_loop_left_read_copies_of_the_channels(
    rng: np.random.Generator,
) -> None:
    g = IntegerGraph(rng)
    y = g.conv(g.input(6, 5, 5), 5, (3, 3), pads=(1, 1, 1, 1), nine_bits=True)
    graph = g.graph(y)
    layers = lower(graph)
    check(g, graph, layers)
    assert [layer.inner for layer in layers] == [True] * (len(layers) - 1) + [False]
    assert layers[-1].input_shape == (8 * (len(layers) - 1), 5, 5)


def test_a_bias_of_parts_of_a_sum_computes_what_golden_computes(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    y = g.conv(g.conv(g.input(6, 5, 6), 9, (3, 2), fraction=True), 0, (2, 2), fraction=True)
    graph = g.graph(y)
    layers = lower(graph)
    assert [layer.fraction for layer in layers] == [True, True]
    assert FRACTION_BITS == ir.FRACTION_BITS, "hardware shifts as golden does"
    check(g, graph, layers)


@pytest.mark.parametrize("depthwise", [False, True])
def test_more_channels_than_are_counted_are_several_layers(
    rng: np.random.Generator, depthwise: bool
) -> None:
    g = IntegerGraph(rng)
    y = g.conv(g.input(1029 if depthwise else 5, 2, 3), 0 if depthwise else 1029, (1, 2))
    graph = g.graph(g.conv(y, 4))
    layers = lower(graph)
    assert [layer.name for layer in layers] == [f"{y}:channels0", y, graph.outputs[0]]
    assert [layer.inner for layer in layers] == [True, False, False]
    check(g, graph, layers)
