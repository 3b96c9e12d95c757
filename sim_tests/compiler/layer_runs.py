"""Layers by their definition, in plain Python: what a plan or a lowering must compute."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler import ir
from qcompile.compiler.add_tables import add_codes
from qcompile.compiler.golden.interpreter import run_graph
from qcompile.compiler.golden.numerics import requantize
from qcompile.compiler.layers import Layer, Region, stored_tensors
from qcompile.compiler.passes.loop_nests import candidates
from qcompile.hw.layouts import pack_tensor
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.compiler.walker import UNWRITTEN, walk


def convolve(layer: Layer, codes: npt.NDArray[np.int8], word: int = 4) -> npt.NDArray[np.int64]:
    """The layer's sums by definition: one output at a time, padding with the pad code."""
    weight = layer.weight.astype(np.int64).sum(axis=0)
    depth = weight.shape[1]
    _, height, width = layer.input_shape
    # Weights of channels behind the last one are zero.
    lanes = np.zeros((codes.shape[0] + word + depth, height, width), np.int64)
    lanes[: codes.shape[0]] = codes
    sums = np.zeros(layer.output_shape, np.int64)
    for channel, y, x in np.ndindex(layer.output_shape):
        rows = y * layer.strides[0] + layer.dilations[0] * np.arange(layer.kernel[0])
        columns = x * layer.strides[1] + layer.dilations[1] * np.arange(layer.kernel[1])
        rows, columns = rows[:, None] - layer.pads[0], columns[None, :] - layer.pads[1]
        first = layer.input_channel + channel // word * layer.input_channel_step
        reads = slice(first, first + depth)
        if layer.kind == "depthwise":
            reads = slice(layer.input_channel + channel, layer.input_channel + channel + 1)
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        window = lanes[reads, rows.clip(0, height - 1), columns.clip(0, width - 1)]
        sums[channel, y, x] = (np.where(inside, window, layer.pad_code) * weight[channel]).sum()
    return sums


def places(layer: Layer, word: int = 4) -> dict[tuple[int, ...], tuple[int, ...]]:
    """For each element that the layer makes its place in the output tensor."""
    region = layer.region or Region(shape=layer.output_shape)
    step = region.channel_step or word
    return {
        (channel, y, x): (
            region.channel + channel // word * step + channel % word,
            region.start[0] + y * region.steps[0],
            region.start[1] + x * region.steps[1],
        )
        for channel, y, x in np.ndindex(layer.output_shape)
    }


def written(
    layer: Layer, values: npt.NDArray[Any], tensor: npt.NDArray[Any], word: int = 4
) -> None:
    """Puts what the layer makes into its output tensor."""
    for element, place in places(layer, word).items():
        tensor[place] = values[element]


def check_all_plans(layer: Layer, seed: int) -> int:
    """Walks every candidate; returns how many there are."""
    random = np.random.default_rng(seed)
    codes = random.integers(-128, 128, layer.input_shape).astype(np.int8)
    expected = np.full(layer.tensor_shape, UNWRITTEN)
    written(layer, convolve(layer, codes), expected)
    plans = list(candidates(layer))
    for plan in plans:
        found = walk(layer, plan, codes)
        np.testing.assert_array_equal(found, expected, err_msg=f"seed {seed}, {plan.counts}")
    return len(plans)


def run_layer(
    layer: Layer, codes: ir.Int8Array, residual: ir.Int8Array | None = None
) -> ir.Int8Array:
    """A layer by its definition: sums, requantization, sum of two tables, table."""
    requant = ir.Requant(
        mode="exact",
        mantissa=layer.mantissa,
        shift=layer.shift,
        zero_point=layer.zero_point,
        low=layer.low,
        high=layer.high,
        zero_point_inside=layer.zero_point_inside,
        fraction=ir.FRACTION_BITS if layer.fraction else 0,
    )
    sums = (convolve(layer, codes) << requant.fraction) + layer.bias[:, np.newaxis, np.newaxis]
    result = requantize(sums, requant, axis=0)
    if layer.add_tables is not None and residual is not None:
        table = add_codes(layer.add_tables.a, layer.add_tables.b)
        result = table[result.astype(int) + 128, residual.astype(int) + 128]
    if layer.table is not None:
        result = layer.table[result.astype(int) + 128]
    return result


def run_layers(layers: tuple[Layer, ...], codes: dict[str, ir.Int8Array]) -> None:
    """Adds every layer's tensor [channels, height, width] to `codes`."""
    codes.update(stored_tensors(layers))
    for planned in layers:
        layer = planned if planned.weight_source is None else with_weights(planned, codes)
        source = codes[layer.input].reshape(layer.input_shape)
        residual = None if layer.residual is None else _residual(layer, codes[layer.residual])
        tensor = codes.setdefault(layer.output, np.full(layer.tensor_shape, 99, np.int8))
        written(layer, run_layer(layer, source, residual), tensor)


def with_weights(layer: Layer, codes: dict[str, ir.Int8Array]) -> Layer:
    """A layer with the weights that it recalls; every plan wants them in the tensor's order."""
    tensor = codes[layer.weight_source or ""]
    copies, channels, taps, _ = layer.weight.shape
    weight = tensor.reshape(channels, taps, copies, 4)[..., 0].transpose(2, 0, 1)
    known = replace(layer, weight=weight[..., np.newaxis])
    words = pack_tensor(tensor).view(np.int8)
    for plan in candidates(known):
        np.testing.assert_array_equal(plan.weights.reshape(-1), words)
    return known


def _residual(layer: Layer, codes: ir.Int8Array) -> ir.Int8Array:
    """The residual operand of each element that the layer makes; lanes behind the last: 55."""
    lanes = np.full((codes.shape[0] + 3, *layer.tensor_shape[1:]), 55, np.int8)
    lanes[: codes.shape[0]] = codes.reshape(-1, *layer.tensor_shape[1:])
    result = np.zeros(layer.output_shape, np.int8)
    for element, (channel, y, x) in places(layer).items():
        result[element] = lanes[layer.residual_channel + channel, y, x]
    return result


def check(g: IntegerGraph, graph: ir.Graph, layers: tuple[Layer, ...]) -> None:
    """Every tensor that the model names is golden's; every plan computes its layer."""
    codes = g.codes()
    expected = run_graph(graph, codes)
    found = {name: array[0] for name, array in codes.items()}
    run_layers(layers, found)
    for layer in layers:
        assert check_all_plans(layer, 1) >= 1
        if not layer.inner:
            wanted = expected[layer.output][0]
            np.testing.assert_array_equal(
                found[layer.output].reshape(wanted.shape), wanted, layer.name
            )
