"""lowering: functions of a tensor and a constant or a smaller tensor, against golden."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from qcompile.compiler import ir
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.passes.lower import lower
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.compiler.layer_runs import check

Shape = tuple[int, ...]


def scaling(a: float, b: float, zero_points: tuple[int, int, int]) -> ir.Int8Array:
    """Codes of a product: a * b * (x - zx) * (c - zc) + zy, ties to even; [256, 256]."""
    codes = np.arange(-128, 128)
    product = np.outer(codes - zero_points[0], codes - zero_points[1]).astype(np.float32)
    result = np.rint(product * np.float32(a * b)) + zero_points[2]
    codes_of_pairs: ir.Int8Array = np.clip(result, -128, 127).astype(np.int8)
    return codes_of_pairs


def test_a_factor_for_each_channel_is_a_depthwise_layer(rng: np.random.Generator) -> None:
    for zero_points in ((0, 0, 0), (-128, 5, 3), (7, 0, -128)):
        g = IntegerGraph(rng)
        x = g.input(9, 2, 128)
        data = rng.integers(-128, 128, (1, 9, 1, 1)).astype(np.int8)
        graph = g.graph(g.with_constant(x, data, scaling(0.031, 0.4, zero_points)))
        (layer,) = lower(graph)
        assert (layer.kind, layer.kernel) == ("depthwise", (1, 1))
        check(g, graph, (layer,))


def test_a_summand_for_each_channel_is_a_depthwise_layer(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.input(6, 2, 128)
    data = rng.integers(-128, 128, (6, 1, 1)).astype(np.int8)
    codes = np.arange(-128, 128)
    total = np.rint((codes[:, np.newaxis] * np.float32(0.37) - codes * np.float32(0.61)) + 4)
    table = np.clip(total, -100, 90).astype(np.int8)
    graph = g.graph(g.with_constant(x, data, table))
    check(g, graph, lower(graph))


def test_one_constant_for_all_is_a_table(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.conv(g.input(5, 3, 3), 5)
    table = rng.integers(-128, 128, (256, 256)).astype(np.int8)
    graph = g.graph(g.with_constant(x, np.full((1, 5, 1, 1), -7, np.int8), table))
    (layer,) = layers = lower(graph)
    assert layer.operator == "Conv" and layer.table is not None
    check(g, graph, layers)


@pytest.mark.parametrize("small", [(1, 6, 1, 1), (1, 1, 4, 5), (1, 6, 1, 5), (1, 1, 1, 1)])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_sum_with_a_smaller_operand_enlarges_it(
    rng: np.random.Generator, small: Shape, swapped: bool
) -> None:
    g = IntegerGraph(rng)
    x, z = g.input(6, 4, 5), g.input(*small[1:])
    y = g.add(*((z, x) if swapped else (x, z)))
    g.values[y] = ir.Value(name=y, shape=(1, 6, 4, 5), dtype="int8")
    graph = g.graph(y)
    layers = lower(graph)
    check(g, graph, layers)
    assert len(layers) == 1, "the sum joins the copy"


def random_functions(rng: np.random.Generator) -> ir.Int8Array:
    """Codes of all pairs, no two alike."""
    table: ir.Int8Array = rng.integers(-128, 128, (256, 256)).astype(np.int8)
    return table


def test_any_functions_of_channels_are_tables_and_a_choice(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.input(10, 3, 5)
    data = rng.integers(-128, 128, (1, 10, 1, 1)).astype(np.int8)
    graph = g.graph(g.with_constant(x, data, random_functions(rng)))
    layers = lower(graph)
    assert sum(layer.table is not None for layer in layers) >= 3
    check(g, graph, layers)


def test_one_function_for_each_word_is_a_table_for_each_word(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.input(10, 3, 5)
    data = np.array([3, 3, 3, 3, 7, 7, 7, 7, 9, 9], np.int8).reshape(1, 10, 1, 1)
    graph = g.graph(g.with_constant(x, data, random_functions(rng)))
    layers = lower(graph)
    assert [layer.inner for layer in layers] == [True, True, False]
    check(g, graph, layers)


@pytest.mark.parametrize("shape", [(1, 1, 3, 5), (1, 6, 1, 5), (1, 6, 3, 1), (1, 6, 3, 5)])
def test_any_functions_of_pixels_are_layers_for_rectangles(
    rng: np.random.Generator, shape: Shape
) -> None:
    g = IntegerGraph(rng)
    x = g.input(6, 3, 5)
    data = rng.integers(0, 3, shape).astype(np.int8)
    graph = g.graph(g.with_constant(x, data, random_functions(rng)))
    check(g, graph, lower(graph))


@pytest.mark.parametrize("shape", [(1, 1, 12, 13), (1, 6, 12, 13)])
@pytest.mark.parametrize("swapped", [False, True])
def test_a_sum_with_a_constant_of_many_pixels_stores_it(
    rng: np.random.Generator, shape: Shape, swapped: bool
) -> None:
    g = IntegerGraph(rng)
    x = g.conv(g.input(6, 12, 13), 6)
    y = g.add(x, x)
    data = rng.integers(-128, 128, shape).astype(np.int8)
    constant = g.constant(data)
    inputs = (constant, x) if swapped else (x, constant)
    g.ops[-2:] = [g.ops[-1], replace(g.ops[-2], inputs=inputs)]
    graph = g.graph(y)
    layers = lower(graph)
    assert layers[-1].stored
    check(g, graph, layers)


def refusal(graph: ir.Graph) -> str:
    """What lowering says."""
    with pytest.raises(UnsupportedError) as raised:
        lower(graph)
    return str(raised.value)


def test_what_has_no_exact_form_is_refused_by_name(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.input(3, 12, 12)
    data = np.arange(144).astype(np.int8).reshape(1, 1, 12, 12)
    y = g.with_constant(x, data, random_functions(rng))
    assert refusal(g.graph(y)) == (
        f"'{y}': Binary with a constant of 144 different pixels, in more than 128 rectangles, has "
        "no exact form as a sum of two tables\n"
        "  operand 'x0' [1, 3, 12, 12]\n"
        "  constant 'constant1' [1, 1, 12, 12]\n"
        "  help: use one constant for the tensor or for each channel"
    )


ZERO_POINTS = [(0, 0, 0), (-128, 5, 3), (7, -128, -128), (-128, -128, -128)]


@pytest.mark.parametrize("zero_points", ZERO_POINTS)
def test_a_product_with_one_pixel_takes_it_as_weights(
    rng: np.random.Generator, zero_points: tuple[int, int, int]
) -> None:
    g = IntegerGraph(rng)
    x, z = g.input(10, 3, 5), g.lookup(g.input(10))
    lookup = g.ops[-1]
    assert isinstance(lookup, ir.Lookup)
    ends = rng.choice([-128, -127, 0, 1, 126, 127], 256).astype(np.int8)
    g.ops[-1] = replace(lookup, table=ends)
    table = scaling(0.031, 0.2, zero_points)
    swapped = scaling(0.031, 0.2, (zero_points[1], zero_points[0], zero_points[2]))
    graph = g.graph(g.combine(x, z, table), g.combine(z, x, swapped))
    layers = lower(graph)
    assert sum(layer.weight_source is not None for layer in layers) == 2
    check(g, graph, layers)


@pytest.mark.parametrize("zero_points", ZERO_POINTS)
@pytest.mark.parametrize("small", [(6, 4, 5), (1, 4, 5), (6, 1, 5), (1, 1, 1)])
def test_a_product_of_two_tensors_is_exact(
    rng: np.random.Generator, zero_points: tuple[int, int, int], small: tuple[int, int, int]
) -> None:
    g = IntegerGraph(rng)
    x, z = g.input(6, 4, 5), g.input(*small)
    graph = g.graph(g.combine(g.conv(x, 6), z, scaling(0.031, 0.2, zero_points)))
    check(g, graph, lower(graph))


def test_what_is_no_sum_and_no_product_is_refused(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    y = g.combine(g.input(4, 2, 2), g.input(4, 2, 2), random_functions(rng))
    assert re.fullmatch(
        rf"'{y}': [\d,]+ of 65,536 operand pairs of this Binary have no exact form as a sum of two "
        r"tables, and no product has all their codes\n"
        r"  help: two tensors can only be added, subtracted or multiplied; with --requant exact, "
        r"and scales of the operands near to the output's",
        refusal(g.graph(y)),
    )


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_a_constant_joins_tensors_as_one_that_the_program_stores(
    rng: np.random.Generator, axis: int
) -> None:
    g = IntegerGraph(rng)
    x = g.conv(g.input(6, 4, 5), 6)
    constant = g.constant(rng.integers(-128, 128, (1, 6, 4, 5)).astype(np.int8))
    y = g.select(np.concatenate(g.numbered(x, constant), axis=axis), x, constant)
    graph = g.graph(g.conv(y, 3))
    layers = lower(graph)
    assert any(layer.stored for layer in layers)
    check(g, graph, layers)
