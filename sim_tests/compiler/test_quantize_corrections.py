"""Bias correction and rounding search, against float64 sums and brute force."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import NodeProto, helper

from qcompile.compiler.quantize.corrections import BiasCorrection, Sample, correct_layers
from qcompile.compiler.quantize.encoding import Parameters
from qcompile.compiler.quantize.layer import (
    Layer,
    LayerCodes,
    layers_of,
    nearest_level,
    quantize_layer,
    symmetric_scales,
)
from qcompile.compiler.quantize.linear import (
    Columns,
    result_matrix,
    weight_matrix,
    weights_of_matrix,
)
from qcompile.compiler.quantize.prepare import Network, load_float
from qcompile.compiler.quantize.rounding import RoundingSearch, other_neighbour
from qcompile.compiler.quantize.run_node import NodeRunner
from sim_tests.compiler.test_quantize import save_network

Array = npt.NDArray[Any]
COARSE = tuple(range(-3, 4))
STEP = Parameters(scale=np.float32(0.04), zero_point=3)

LAYERS = {
    "conv": (helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 0, 1, 0], strides=[2, 1]),
             (6, 4, 3, 2)),
    "grouped": (helper.make_node("Conv", ["x", "w"], ["y"], group=2, dilations=[2, 1]),
                (6, 2, 2, 3)),
    "depthwise": (helper.make_node("Conv", ["x", "w"], ["y"], group=4, auto_pad="SAME_UPPER"),
                  (4, 1, 3, 3)),
    "transposed": (helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]),
                   (4, 3, 3, 3)),
}  # fmt: skip


def network_of(path: Path, node: NodeProto, weights: Array) -> Network:
    save_network(path / "net.onnx", [node], w=weights.astype(np.float32))
    return load_float(path / "net.onnx")


@pytest.mark.parametrize("kind", LAYERS)
def test_columns_times_weight_matrix_are_the_layer(tmp_path: Path, kind: str) -> None:
    node, shape = LAYERS[kind]
    dice = np.random.default_rng(4)
    network = network_of(tmp_path, node, dice.normal(size=shape))
    (layer,) = layers_of(network)
    x = dice.normal(size=(3, 4, 6, 6)).astype(np.float32)
    given = NodeRunner(layer.node).run({"x": x, "w": layer.weights.astype(np.float32)})
    matrix = weight_matrix(layer, layer.weights)
    ours = Columns(layer).of(x) @ matrix.swapaxes(1, 2)
    np.testing.assert_allclose(ours, result_matrix(layer, given), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(weights_of_matrix(layer, matrix), layer.weights)


def error_of(sample: Sample, codes: LayerCodes) -> float:
    return float(np.sum((sample.result(codes).astype(np.float64) - sample.wanted) ** 2))


def coarse_sample(path: Path, kind: str, noise: float) -> tuple[Layer, Sample, LayerCodes]:
    """A layer with seven levels a weight, whose operands were rounded already."""
    node, shape = LAYERS[kind]
    dice = np.random.default_rng(5)
    (layer,) = layers_of(network_of(path, node, dice.normal(size=shape)))
    runner = NodeRunner(layer.node)
    real = dice.uniform(-1, 3, size=(8, 4, 6, 6)).astype(np.float32)
    values = STEP.rounded(real + noise * dice.normal(size=real.shape)).astype(np.float32)

    def run(weights: Array, bias: Array | None) -> Array:
        found = runner.run({"x": values, "w": weights.astype(np.float32)})
        return found if bias is None else found + bias.reshape(1, -1, 1, 1)

    wanted = runner.run({"x": real, "w": layer.weights.astype(np.float32)})
    sample = Sample(layer=layer, operand=STEP, values=values, wanted=wanted, run=run)
    return layer, sample, quantize_layer(layer, symmetric_scales(layer, 3), STEP.scale, COARSE)


@pytest.mark.parametrize("kind", LAYERS)
def test_rounding_search_lowers_the_error_and_keeps_to_the_neighbours(
    tmp_path: Path, kind: str
) -> None:
    layer, sample, nearest = coarse_sample(tmp_path, kind, noise=0.1)
    found = RoundingSearch(centred=False).correct(sample, nearest)
    assert error_of(sample, found) < 0.85 * error_of(sample, nearest)
    exact = layer.weights / layer.by_channel(nearest.scales)
    assert np.abs(found.weights - exact).max() < 1 + 1e-6


def test_rounding_search_finds_a_code_that_no_single_flip_betters(tmp_path: Path) -> None:
    layer, sample, nearest = coarse_sample(tmp_path, "depthwise", noise=0.0)
    found = RoundingSearch(centred=False).correct(sample, nearest)
    exact = layer.weights / layer.by_channel(nearest.scales)
    low = np.floor(exact).astype(np.int8)
    least = np.full(4, np.inf)
    for pattern in itertools.product((0, 1), repeat=9):
        tried = replace(nearest, weights=np.clip(low + np.reshape(pattern, (3, 3)), -3, 3))
        errors = (sample.result(tried).astype(np.float64) - sample.wanted) ** 2
        least = np.minimum(least, errors.sum(axis=(0, 2, 3)))
    ours = ((sample.result(found).astype(np.float64) - sample.wanted) ** 2).sum(axis=(0, 2, 3))
    assert np.all(
        ours >= least * (1 - 1e-4)
    )  # 512 patterns a channel: none is better than the best
    assert np.all(ours <= least * 1.5)  # and greedy comes near it
    for place in itertools.product(range(4), range(3), range(3)):
        flipped = found.weights.copy()
        at = (place[0], 0, *place[1:])
        flipped[at] = other_neighbour(exact, flipped, np.asarray(COARSE))[at]
        changed = replace(found, weights=flipped)
        assert error_of(sample, changed) >= error_of(sample, found) * (1 - 1e-5)


@pytest.mark.parametrize("kind", LAYERS)
def test_bias_correction_leaves_less_than_half_a_step_of_mean_error(
    tmp_path: Path, kind: str
) -> None:
    _, sample, nearest = coarse_sample(tmp_path, kind, noise=0.3)
    before = (sample.wanted - sample.result(nearest)).mean(axis=(0, 2, 3), dtype=np.float64)
    found = BiasCorrection().correct(sample, nearest)
    after = (sample.wanted - sample.result(found)).mean(axis=(0, 2, 3), dtype=np.float64)
    half = 0.5 * nearest.scales * STEP.scale
    assert np.mean(np.abs(before)) > 2 * np.mean(half)
    assert np.all(np.abs(after) <= half * 1.001 + 1e-5)


@pytest.mark.parametrize("no_bias", [[], [""]])
def test_layers_are_corrected_with_quantized_layers_in_front(
    tmp_path: Path, no_bias: list[str]
) -> None:
    dice = np.random.default_rng(6)
    nodes = [
        helper.make_node("Conv", ["x", "w", *no_bias], ["t"], name="first"),
        helper.make_node("Relu", ["t"], ["r"], name="relu"),
        helper.make_node("Conv", ["r", "v"], ["y"], name="second"),
    ]
    constants = {"w": dice.normal(size=(5, 4, 1, 1)), "v": dice.normal(size=(3, 5, 1, 1))}
    save_network(
        tmp_path / "net.onnx", nodes, **{k: v.astype(np.float32) for k, v in constants.items()}
    )
    network = load_float(tmp_path / "net.onnx")
    x = dice.uniform(0, 2, size=(20, 4, 6, 6)).astype(np.float32)
    encodings = {"x": STEP, "r": STEP, "y": STEP}
    first, second = layers_of(network)
    codes = {
        layer.node.name: quantize_layer(layer, symmetric_scales(layer, 3), STEP.scale, COARSE)
        for layer in (first, second)
    }
    found = correct_layers(network, {"x": x}, encodings, codes, [BiasCorrection()])
    flat = x.transpose(0, 2, 3, 1).reshape(-1, 4).astype(np.float64)
    real = flat @ constants["w"][:, :, 0, 0].T
    coded = STEP.rounded(flat) @ found["first"].real_weights(first)[:, :, 0, 0].T
    moved = found["first"].real_bias(first, STEP.scale)
    assert moved is not None
    np.testing.assert_allclose(moved, (real - coded).mean(0), atol=0.04 * 0.5)
    behind = STEP.rounded(np.maximum(coded + moved, 0).astype(np.float32))
    wrong = behind @ found["second"].real_weights(second)[:, :, 0, 0].T
    right = np.maximum(real, 0) @ constants["v"][:, :, 0, 0].T
    last = found["second"].real_bias(second, STEP.scale)
    assert last is not None
    step = found["second"].scales * STEP.scale
    np.testing.assert_array_less(np.abs(last - (right - wrong).mean(0)), 0.51 * step + 1e-4)


def test_nearest_level_takes_the_even_code_between_two() -> None:
    levels = (-5, -2, 0, 1, 4)
    np.testing.assert_array_equal(
        nearest_level(np.array([-9, -3.5, -1, 0.4, 0.5, 0.6, 2.5, 2.6, 9]), levels),
        [-5, -2, 0, 0, 0, 1, 4, 4, 4],
    )
