"""lower: what layers come of an integer graph, and what it refuses."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from qcompile.compiler import ir
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.golden.interpreter import run_op
from qcompile.compiler.passes.lower import lower
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.compiler.layer_runs import run_layer, run_layers


def with_op(graph: ir.Graph, index: int, **changes: Any) -> ir.Graph:
    """The graph with attributes of one operation replaced."""
    ops = list(graph.ops)
    ops[index] = replace(ops[index], **changes)
    return replace(graph, ops=tuple(ops))


def with_requant(graph: ir.Graph, index: int, **changes: Any) -> ir.Graph:
    """The graph with fields of one operation's requantization replaced."""
    op = graph.ops[index]
    assert isinstance(op, ir.Conv | ir.AveragePool)
    return with_op(graph, index, requant=replace(op.requant, **changes))


def test_layers_compute_what_golden_computes(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.input(5, 6, 7)
    a = g.conv(x, 5, (3, 3), pads=(1, 0, 1, 2))
    b = g.lookup(g.conv(g.pool(a, (1, 2), pads=(0, 0, 0, 1)), 0, (1, 2), nine_bits=True))
    total = g.add(g.conv(x, 5), x)
    twice = g.add(total, total)
    graph = g.graph(a, b, twice)
    codes = g.codes()
    expected = {name: array[0] for name, array in codes.items()}
    found = dict(expected)
    for op in graph.ops:
        (expected[op.name],) = run_op(op, [expected[name][np.newaxis] for name in op.inputs])
    layers = lower(graph)
    run_layers(layers, found)
    assert [layer.operator for layer in layers] == ["Conv", "AveragePool", "Conv", "Conv", "Binary"]
    for layer in layers:
        np.testing.assert_array_equal(found[layer.output], expected[layer.output], layer.name)


def test_zero_point_of_the_input_moves_into_the_bias_and_the_padding(
    rng: np.random.Generator,
) -> None:
    g = IntegerGraph(rng)
    g.conv(g.input(2, 4, 4), 3, (2, 2), pads=(1, 1, 0, 0))
    weight = np.arange(24, dtype=np.int16).reshape(3, 2, 2, 2)
    bias = np.array([10, 20, 30])
    graph = with_op(g.graph("y1"), 0, weight=weight, bias=bias, input_zero_point=-7)
    (layer,) = lower(graph)
    # The weights of the three channels add up to 28, 92 and 156.
    assert layer.bias.tolist() == [10 + 7 * 28, 20 + 7 * 92, 30 + 7 * 156]
    assert layer.pad_code == -7


def test_nine_bit_weights_are_split_into_parts_that_add_up(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    g.conv(g.input(1, 1, 1), 4)
    weight = np.array([-255, -129, 128, 255], np.int16).reshape(4, 1, 1, 1)
    (layer,) = lower(with_op(g.graph("y1"), 0, weight=weight))
    assert layer.copies == 3, "255 is more than two int8 hold"
    np.testing.assert_array_equal(layer.weight.astype(int).sum(axis=0), weight)


def test_channels_that_cannot_change_get_small_constants(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    g.conv(g.input(2, 1, 1), 4)
    graph = with_op(
        g.graph("y1"),
        0,
        weight=np.array([[5, 5], [5, 5], [0, 0], [5, 5]], np.int16).reshape(4, 2, 1, 1),
        bias=np.array([1 << 30, 0, 0, -(1 << 30)]),
    )
    graph = with_requant(
        graph,
        0,
        mantissa=np.array([1 << 23, 1 << 23, 1 << 23, 0]),
        shift=np.array([24, 60, 24, 0]),
        zero_point=3,
        low=-100,
        high=90,
        zero_point_inside=False,
    )
    (layer,) = lower(graph)
    # Saturated above, a scale near zero, weights of zero, a dead channel.
    assert not layer.weight.any()
    assert layer.bias.tolist() == [2 * (90 - 3), 0, 0, 0]
    assert layer.mantissa.tolist() == [1 << 23] * 4
    assert layer.shift.tolist() == [24] * 4
    codes = rng.integers(-128, 128, (2, 1, 1)).astype(np.int8)
    assert run_layer(layer, codes).reshape(-1).tolist() == [90, 3, 3, 3]


def test_an_add_joins_its_later_producer_and_takes_the_other_operand_as_residual(
    rng: np.random.Generator,
) -> None:
    for swapped in (False, True):
        g = IntegerGraph(rng)
        x = g.input(3, 2, 2)
        a = g.conv(x, 3)
        b = g.conv(x, 3)
        total = g.add(*((b, a) if swapped else (a, b)))
        layers = lower(g.graph(total))
        assert [(layer.output, layer.residual) for layer in layers] == [(a, None), (total, a)]


def test_an_add_whose_operands_are_needed_elsewhere_becomes_a_copy(
    rng: np.random.Generator,
) -> None:
    g = IntegerGraph(rng)
    x = g.input(3, 2, 2)
    a = g.conv(x, 3)
    total = g.add(a, x)
    layers = lower(g.graph(a, total))
    assert [(layer.operator, layer.input, layer.residual) for layer in layers] == [
        ("Conv", x, None),
        ("Binary", a, x),
    ]
    assert layers[1].shift.tolist() == [24] * 3, "a shift that every requantization unit does"


def test_a_table_joins_its_producer_unless_that_has_one_or_is_needed_elsewhere(
    rng: np.random.Generator,
) -> None:
    g = IntegerGraph(rng)
    a = g.conv(g.input(3, 2, 2), 3)
    b = g.lookup(a)
    c = g.lookup(b)
    layers = lower(g.graph(c))
    assert [(layer.operator, layer.output) for layer in layers] == [("Conv", b), ("Lookup", c)]
    layers = lower(g.graph(a, c))
    assert [(layer.operator, layer.output) for layer in layers] == [
        ("Conv", a),
        ("Lookup", b),
        ("Lookup", c),
    ]


def test_a_tensor_that_is_read_through_a_reshape_twice_keeps_its_layer(
    rng: np.random.Generator,
) -> None:
    g = IntegerGraph(rng)
    a = g.conv(g.input(3), 3)
    shaped = g.reshape(a, (1, 3))
    once = lower(g.graph(g.lookup(shaped)))
    assert [(layer.operator, layer.input) for layer in once] == [("Conv", "x0")]
    twice = lower(g.graph(g.lookup(shaped)))
    assert [(layer.operator, layer.input) for layer in twice] == [
        ("Conv", "x0"),
        ("Lookup", a),
        ("Lookup", a),
    ]


def test_a_reshape_of_single_pixels_names_the_same_tensor(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    a = g.conv(g.input(3), 6)
    shaped = g.reshape(g.reshape(a, (1, 6)), (1, 6, 1, 1))
    layers = lower(g.graph(g.conv(shaped, 2)))
    assert [(layer.input, layer.input_shape) for layer in layers] == [
        ("x0", (3, 1, 1)),
        (a, (6, 1, 1)),
    ]


def refused(graph: ir.Graph, *lines: str) -> None:
    """Lowering fails with exactly these lines."""
    with pytest.raises(UnsupportedError, match=rf"^{re.escape(chr(10).join(lines))}$"):
        lower(graph)


def test_all_problems_are_reported_at_once(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.input(4, 2, 3)
    first = g.reshape(g.conv(x, 4), (1, 4, 1, 6, 1))
    second = g.reshape(x, (1, 4, 1, 2, 3))
    refused(
        g.graph(first, second),
        "'shaped2': a tensor of rank 5 does not fit the memory layout",
        "  help: use tensors of shape [1, channels, height, width] or [1, features]",
        "'shaped3': a tensor of rank 5 does not fit the memory layout",
        "  help: use tensors of shape [1, channels, height, width] or [1, features]",
    )


def test_a_tensor_of_rank_five_is_refused(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    shaped = g.reshape(g.conv(g.input(4), 4), (1, 4, 1, 1, 1))
    refused(
        g.graph(shaped),
        "'shaped2': a tensor of rank 5 does not fit the memory layout",
        "  help: use tensors of shape [1, channels, height, width] or [1, features]",
    )


def test_bias_beyond_32_bits_is_refused(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng, requant="shift")
    g.conv(g.input(256), 1)
    graph = with_op(
        g.graph("y1"),
        0,
        weight=np.full((1, 256, 1, 1), -255, np.int16),
        bias=np.array([(1 << 31) - 100]),
        input_zero_point=127,
    )
    graph = with_requant(graph, 0, shift=np.array([24]), zero_point=-128, low=-128, high=127)
    refused(graph, "'y1': bias and zero point correction exceed 32 bits")


def test_an_add_without_tables_is_refused(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.input(4, 2, 2)
    g.add(x, g.conv(x, 4))
    table = np.full((256, 256), -128, np.int8)
    table[0, 1] = table[1, 0] = 127  # exclusive or is no sum of two tables
    graph = with_op(g.graph("sum2"), 1, table=table)
    with pytest.raises(UnsupportedError) as raised:
        lower(graph)
    pattern = (
        r"^'sum2': [\d,]+ of 65,536 operand pairs of this Binary have no exact form as a sum of "
        r"two tables, and no product has all their codes\n  help: two tensors can only be added, "
        r"subtracted or multiplied; with --requant exact, and scales of the operands near to the "
        r"output's$"
    )
    assert re.match(pattern, str(raised.value))
