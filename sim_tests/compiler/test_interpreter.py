"""The golden interpreter against sums written out tap by tap."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest

from qcompile.compiler.golden.interpreter import accumulate, run_graph
from qcompile.compiler.golden.numerics import requantize, scale_to_mantissa
from qcompile.compiler.ir import (
    AveragePool,
    Binary,
    Conv,
    Graph,
    Lookup,
    Requant,
    Reshape,
    Select,
    Value,
)
from qcompile.compiler.passes.fuse_requant import _pool_weight


def identity_requant(channels: int) -> Requant:
    """Codes are the accumulators, clamped."""
    return Requant(
        mode="shift",
        mantissa=np.ones(channels, np.int64),
        shift=np.zeros(channels, np.int64),
        zero_point=0,
    )


def conv(rng: np.random.Generator, group: int, dilations: tuple[int, int]) -> Conv:
    """Nine-bit weights [6, 6 / group, 3, 2] with pads on all sides."""
    return Conv(
        inputs=("x",),
        outputs=("y",),
        weight=rng.integers(-255, 256, (6, 6 // group, 3, 2)).astype(np.int16),
        bias=rng.integers(-(2**30), 2**30, 6),
        input_zero_point=-128,
        strides=(2, 1),
        dilations=dilations,
        pads=(1, 0, 2, 1),
        group=group,
        requant=identity_requant(6),
    )


def written_out(op: Conv, x: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """The sums of the operator's definition, in Python integers."""
    top, left, bottom, right = op.pads
    count, channels, height, width = x.shape
    outputs, depth, kernel_h, kernel_w = op.weight.shape
    rows = (height + top + bottom - op.dilations[0] * (kernel_h - 1) - 1) // op.strides[0] + 1
    columns = (width + left + right - op.dilations[1] * (kernel_w - 1) - 1) // op.strides[1] + 1
    acc = np.zeros((count, outputs, rows, columns), dtype=np.int64)
    for n, o, r, c in np.ndindex(acc.shape):
        total = int(op.bias[o])
        first = (o // (outputs // op.group)) * (channels // op.group)
        for d, i, j in itertools.product(range(depth), range(kernel_h), range(kernel_w)):
            y = r * op.strides[0] + i * op.dilations[0] - top
            z = c * op.strides[1] + j * op.dilations[1] - left
            if 0 <= y < height and 0 <= z < width:
                centred = int(x[n, first + d, y, z]) - op.input_zero_point
                total += int(op.weight[o, d, i, j]) * centred
        acc[n, o, r, c] = total
    return acc


@pytest.mark.parametrize("group", [1, 2, 3, 6])
@pytest.mark.parametrize("dilations", [(1, 1), (2, 3)])
def test_accumulators_are_the_sums_of_the_definition(
    rng: np.random.Generator, group: int, dilations: tuple[int, int]
) -> None:
    op = conv(rng, group, dilations)
    x = rng.integers(-128, 128, (2, 6, 7, 6)).astype(np.int8)
    assert np.array_equal(accumulate(op, x), written_out(op, x))


def test_average_pool_sums_the_taps_inside_the_image(rng: np.random.Generator) -> None:
    op = AveragePool(
        inputs=("x",),
        outputs=("y",),
        kernel=(2, 2),
        strides=(1, 2),
        pads=(1, 0, 0, 0),
        input_zero_point=7,
        requant=identity_requant(3),
    )
    x = rng.integers(-128, 128, (2, 3, 3, 4)).astype(np.int8)
    centred = x.astype(np.int64) - 7
    above = np.concatenate([np.zeros((2, 3, 1, 4), np.int64), centred[:, :, :-1]], axis=2)
    down = centred + above
    assert np.array_equal(accumulate(op, x), down[..., 0::2] + down[..., 1::2])


def test_results_do_not_depend_on_how_many_samples_run_at_a_time(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {
        "x": Value(name="x", shape=(1, 6, 7, 6), dtype="int8"),
        "y": Value(name="y", shape=(1, 6, 4, 6), dtype="int8"),
    }
    graph = Graph(
        name="g", inputs=("x",), outputs=("y",), values=values, ops=(conv(rng, 1, (1, 1)),)
    )
    x = rng.integers(-128, 128, (9, 6, 7, 6)).astype(np.int8)
    together = run_graph(graph, {"x": x})["y"]
    monkeypatch.setattr("qcompile.compiler.golden.interpreter.CHUNK_ELEMENTS", 1)
    assert np.array_equal(run_graph(graph, {"x": x})["y"], together)


def test_tables_and_reshape_work_on_codes(rng: np.random.Generator) -> None:
    table = rng.integers(-128, 128, 256).astype(np.int8)
    pairs = rng.integers(-128, 128, (256, 256)).astype(np.int8)
    names = ("a", "b", "sum", "looked", "flat")
    shapes = [(1, 2, 3, 1)] * 4 + [(1, 6)]
    values = {
        name: Value(name=name, shape=shape, dtype="int8")
        for name, shape in zip(names, shapes, strict=True)
    }
    graph = Graph(
        name="g",
        inputs=("a", "b"),
        outputs=("flat",),
        values=values,
        ops=(
            Binary(inputs=("a", "b"), outputs=("sum",), table=pairs),
            Lookup(inputs=("sum",), outputs=("looked",), table=table),
            Reshape(inputs=("looked",), outputs=("flat",), shape=(1, 6)),
        ),
    )
    a, b = (rng.integers(-128, 128, (5, 2, 3, 1)).astype(np.int8) for _ in range(2))
    got = run_graph(graph, {"a": a, "b": b})
    assert set(got) == set(names)
    for index in np.ndindex(a.shape):
        total = pairs[int(a[index]) + 128, int(b[index]) + 128]
        assert got["sum"][index] == total
        assert got["looked"][index] == table[int(total) + 128]
    assert np.array_equal(got["flat"], got["looked"].reshape(5, 6))


def test_selection_takes_entries_of_all_inputs_by_number(rng: np.random.Generator) -> None:
    shapes = {"a": (1, 2, 2, 1), "b": (1, 3), "y": (1, 1, 2, 3)}
    values = {name: Value(name=name, shape=s, dtype="int8") for name, s in shapes.items()}
    index = np.array([[[[6, -1, 0], [3, 4, 4]]]], np.int32)
    select = Select(inputs=("a", "b"), outputs=("y",), index=index, fill=-7)
    graph = Graph(name="g", inputs=("a", "b"), outputs=("y",), values=values, ops=(select,))
    a = rng.integers(-128, 128, (5, 2, 2, 1)).astype(np.int8)
    b = rng.integers(-128, 128, (5, 3)).astype(np.int8)
    got = run_graph(graph, {"a": a, "b": b})["y"]
    for n in range(5):
        first = [b[n, 2], -7, a[n, 0, 0, 0]]
        assert got[n].tolist() == [[first, [a[n, 1, 1, 0], b[n, 0], b[n, 0]]]]


def test_input_of_another_shape_is_refused() -> None:
    values = {"x": Value(name="x", shape=(1, 2, 3, 4), dtype="int8")}
    graph = Graph(name="g", inputs=("x",), outputs=("x",), values=values, ops=())
    with pytest.raises(ValueError, match=r"^input 'x' is int8\[5, 2, 3\], not int8\[N, 2, 3, 4\]$"):
        run_graph(graph, {"x": np.zeros((5, 2, 3), np.int8)})


@pytest.mark.parametrize("divisor", [3, 6, 14, 26, 28, 49, 120, 360])
def test_means_of_windows_are_rounded_as_fractions_are(divisor: int) -> None:
    weight = _pool_weight(1 / divisor, "exact", exact_ties=True)
    mantissa, shift = scale_to_mantissa(np.array([1 / divisor / weight], np.float32))
    requant = Requant(
        mode="exact", mantissa=mantissa, shift=shift, zero_point=0, zero_point_inside=True
    )
    sums = np.arange(-127 * divisor, 127 * divisor + 1)
    expected = [round(Fraction(int(total), divisor)) for total in sums]
    np.testing.assert_array_equal(requantize(weight * sums[:, np.newaxis], requant)[:, 0], expected)
