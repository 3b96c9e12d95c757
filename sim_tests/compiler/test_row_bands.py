"""row_bands: chains cut into any number of bands compute what golden computes."""

from __future__ import annotations

import numpy as np
import pytest

from qcompile.compiler.golden.interpreter import run_graph
from qcompile.compiler.layers import Layer
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.passes.row_bands import Chain, chain_of, cut_chain, plan_band, split_rows
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.compiler.layer_runs import check_all_plans, run_layers


def chain(layers: tuple[Layer, ...], first: int, last: int) -> Chain | None:
    """The layers from `first` to `last`, with the tensors that no layer outside touches."""
    part = layers[first : last + 1]
    others = (*layers[:first], *layers[last + 1 :])
    used = {name for layer in others for name in (layer.input, layer.output, layer.residual)}
    return chain_of(part, frozenset(layer.output for layer in part) - used)


def check(g: IntegerGraph, output: str, counts: tuple[int, ...] = (2, 3, 5)) -> None:
    """All layers as one chain, in so many bands, against golden; every plan of the bands."""
    graph = g.graph(output)
    layers = lower(graph)
    whole = chain(layers, 0, len(layers) - 1)
    assert whole is not None
    codes = g.codes()
    expected = run_graph(graph, codes)[output][0]
    for count in (*counts, whole.height):
        cut = cut_chain(whole, split_rows(whole.height, count))
        found = {name: array[0] for name, array in codes.items()}
        run_layers(cut, found)
        np.testing.assert_array_equal(found[output].reshape(expected.shape), expected)
        assert sum(layer.macs for layer in cut) == sum(layer.macs for layer in layers)
        assert len({layer.name for layer in cut}) == len(cut)
        assert [layer.inner for layer in cut] == [True] * (len(cut) - 1) + [False]
        assert {layer.band for layer in cut if layer.output == output} == {*range(count)}
    for layer in cut_chain(whole, split_rows(whole.height, counts[0])):
        assert check_all_plans(layer, 1) >= 1


def test_an_expanded_block_with_a_residual_sum_around_it(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.input(5, 11, 6)
    y = g.conv(g.conv(x, 9), 0, (3, 3), pads=(1, 1, 1, 1))
    check(g, g.add(g.conv(y, 5), x))


def test_strides_asymmetric_pads_and_large_kernels(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.conv(g.input(3, 19, 7), 6, (3, 3), strides=(2, 1), pads=(0, 0, 1, 2))
    x = g.conv(x, 0, (5, 5), pads=(3, 2, 1, 2))
    check(g, g.conv(x, 5, (2, 3), strides=(1, 2), pads=(1, 1, 0, 0)))


def test_dilated_taps_that_skip_rows(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.conv(g.input(4, 14, 5), 0, (3, 2), dilations=(3, 1), pads=(3, 0, 4, 1))
    check(g, g.conv(x, 6, (2, 1), dilations=(4, 1), strides=(2, 1), pads=(2, 0, 1, 0)))


def test_strides_longer_than_the_window_leave_rows_out(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.conv(g.conv(g.input(4, 17, 5), 6, (2, 2)), 5, strides=(3, 2))
    check(g, g.conv(x, 4, (2, 1), pads=(1, 0, 0, 0)), counts=(2, 4))


def test_windows_that_read_padding_only(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.conv(g.input(3, 6, 4), 5)
    check(g, g.conv(x, 4, (2, 2), pads=(5, 0, 4, 1)))


def test_nine_bit_weights_tables_pools_and_groups(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.lookup(g.conv(g.input(4, 12, 5), 8, (3, 1), nine_bits=True))
    x = g.pool(x, (3, 2), (1, 1), (1, 0, 1, 1))
    check(g, g.conv(x, 16, (3, 3), pads=(1, 1, 1, 1), group=4))


def test_maxima_whose_layers_write_one_tensor_after_the_other(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.max_pool(g.conv(g.input(3, 13, 6), 5), (3, 2), strides=(2, 2), pads=(1, 0, 1, 0))
    check(g, g.conv(x, 4, (3, 1), pads=(1, 0, 1, 0)))


def test_a_sum_of_two_tensors_inside_the_chain(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    a = g.conv(g.input(4, 12, 5), 6)
    b = g.conv(g.conv(a, 6, (3, 3), pads=(1, 1, 1, 1)), 6, (3, 1), pads=(1, 0, 1, 0))
    check(g, g.conv(g.add(b, a), 5, (3, 3), pads=(1, 1, 1, 1)))


def test_rows_that_a_selection_repeats_turns_and_joins(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.conv(g.input(4, 7, 5), 4)
    (n,) = g.numbered(x)
    twice = g.select(n.repeat(2, axis=2), x)
    (m,) = g.numbered(twice)
    turned = g.select(m[:, :, ::-1], twice)
    check(g, g.conv(turned, 5, (3, 3), pads=(1, 1, 1, 1)))


def chains(g: IntegerGraph, output: str) -> list[tuple[int, int]]:
    """First and last layer of every chain."""
    layers = lower(g.graph(output))
    count = len(layers)
    return [(i, j) for i in range(count) for j in range(i, count) if chain(layers, i, j)]


def test_what_is_needed_elsewhere_is_in_no_chain(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    a = g.conv(g.input(4, 6, 5), 6)
    b = g.conv(a, 6, (3, 3), pads=(1, 1, 1, 1))
    c = g.conv(b, 6)
    # a + c: the operand a is a whole tensor, or the sum is inside a chain with it.
    assert chains(g, g.conv(g.add(c, a), 5)) == [(0, 3), (1, 2)]


def test_one_row_is_not_cut(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    x = g.conv(g.conv(g.input(4, 6, 5), 6), 4, (6, 1))
    assert chains(g, x) == []


@pytest.mark.parametrize(("height", "count"), [(7, 3), (48, 5), (5, 5)])
def test_bands_differ_by_one_row_at_most(height: int, count: int) -> None:
    parts = split_rows(height, count)
    assert [row for part in parts for row in part] == [*range(height)]
    assert {len(part) for part in parts} <= {height // count, -(-height // count)}


def test_rows_of_a_band_by_hand(rng: np.random.Generator) -> None:
    # Rows 3..5 of 3 x 3 windows with stride 2 and one row of padding: input rows 5..11; in front of
    # that five taps in padding of two: 3..13, of which the picture has all but row 13.
    g = IntegerGraph(rng)
    x = g.conv(g.input(4, 13, 3), 4)
    x = g.conv(x, 0, (5, 1), pads=(2, 0, 2, 0))
    x = g.conv(x, 4, (3, 3), strides=(2, 1), pads=(1, 1, 1, 1))
    whole = chain(lower(g.graph(x)), 0, 2)
    assert whole is not None
    band = plan_band(whole, range(3, 6))
    assert band.rows == (range(3, 13), range(5, 12), range(3, 6))
    layers = cut_chain(whole, split_rows(whole.height, 2))
    assert [layer.pads[:1] for layer in layers] == [(0,), (2,), (1,), (-3,), (0,), (0,)]
