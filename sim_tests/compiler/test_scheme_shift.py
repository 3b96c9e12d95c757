"""Scheme shift: exact powers of two in float32, and golden with one shift against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.quantize.exact_scales import settle, unit_step
from qcompile.compiler.quantize.quantizer import save
from qcompile.compiler.shift_cost import shift_cost
from sim_tests.compiler.quantized_models import (
    CALIBRATION,
    accuracies,
    differences_with_shifts,
    network_of,
    quantized,
    save_image_network,
    shift_graph,
)

EXACT = "shift requantization is exact here: every scale is a power of two"


def onnxruntime_factor(operand: np.float32, weight: np.float32, result: np.float32) -> np.float32:
    """What QLinearConv multiplies sums by, in float32."""
    return np.float32(np.float32(operand * weight) / result)


def test_some_pairs_of_scales_have_no_exact_unit_and_most_have(rng: np.random.Generator) -> None:
    scales = np.exp(rng.uniform(-8, 2, (400, 2))).astype(np.float32)
    units = [unit_step(operand, result) for operand, result in scales]
    for (operand, result), unit in zip(scales, units, strict=True):
        near = np.arange(-8, 9) * np.spacing(result / operand) + result / operand
        exact = [onnxruntime_factor(operand, np.float32(one), result) == 1 for one in near]
        assert (unit is not None) == any(exact)
    assert 200 < sum(unit is not None for unit in units) < 400


def test_settled_scales_are_exact_for_every_shift_and_hardly_moved(
    rng: np.random.Generator,
) -> None:
    names = [str(one) for one in range(40)]
    scales = dict(zip(names, np.exp(rng.uniform(-8, 2, 40)).astype(np.float32), strict=True))
    pairs = [(names[rng.integers(one)], names[one]) for one in range(1, 40)]
    found = settle(scales, pairs, fixed=names[:1])
    assert found["0"] == scales["0"]
    for operand, result in pairs:
        unit = unit_step(found[operand], found[result])
        assert unit is not None
        for shift in range(17):
            weight = np.float32(unit * np.float32(2.0**-shift))
            factor = onnxruntime_factor(found[operand], weight, found[result])
            assert float(factor) == 2.0**-shift
    for name in names:
        assert found[name] == pytest.approx(scales[name], rel=20 * 2**-23)


@pytest.mark.parametrize("network", ["digits", "mnist", "keywords"])
def test_networks_keep_their_accuracy_and_shifts_equal_onnxruntime(
    tmp_path: Path, request: pytest.FixtureRequest, network: str
) -> None:
    shared = None if network == "digits" else request.getfixturevalue("shared")
    path, inputs, labels = network_of(network, shared)
    shifted = quantized(path, inputs[:CALIBRATION], scheme="shift").model
    affine = quantized(path, inputs[:CALIBRATION]).model
    _, before = accuracies(path, inputs, labels, affine)
    _, after = accuracies(path, inputs, labels, shifted)
    assert after >= before - 0.005
    assert differences_with_shifts(shifted, inputs, tmp_path) == 0
    assert shift_cost(*shift_graph(tmp_path / "model.onnx")).text() == EXACT
    save(affine, tmp_path / "affine.onnx")
    assert shift_cost(*shift_graph(tmp_path / "affine.onnx")).changed > 0


POOLS: dict[str, tuple[str, dict[str, Any]]] = {
    "window": ("AveragePool", {"kernel_shape": [3, 2], "strides": [2, 1]}),
    "padded": ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1],
                               "count_include_pad": 1}),
    "image": ("GlobalAveragePool", {}),
}  # fmt: skip


@pytest.mark.parametrize("pool", POOLS)
def test_means_of_any_window_are_exact_shifts(
    tmp_path: Path, rng: np.random.Generator, pool: str
) -> None:
    kind, attributes = POOLS[pool]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["t"], name="conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["t"], ["r"], name="relu"),
        helper.make_node(kind, ["r"], ["y"], name="pool", **attributes),
    ]
    path = tmp_path / "float.onnx"
    save_image_network(path, nodes, w=rng.normal(size=(5, 4, 3, 3)), b=rng.normal(size=5))
    inputs = rng.normal(size=(60, 4, 9, 9)).astype(np.float32)
    model = quantized(path, inputs[:30], scheme="shift").model
    assert "AveragePool" not in {node.op_type for node in model.graph.node}
    assert differences_with_shifts(model, inputs, tmp_path) == 0
    assert shift_cost(*shift_graph(tmp_path / "model.onnx")).changed == 0


def test_sums_beyond_24_bits_saturate_alike(tmp_path: Path, rng: np.random.Generator) -> None:
    """A bias far beyond the range: its sums are no float32 any more, their codes the same."""
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv")]
    weights = rng.normal(size=(3, 4, 1, 1)) * np.array([1, 1e-4, 1e-9]).reshape(3, 1, 1, 1)
    path = tmp_path / "float.onnx"
    save_image_network(path, nodes, w=weights, b=np.array([0.3, 900.0, -5e4]))
    inputs = rng.normal(size=(20, 4, 9, 9)).astype(np.float32)
    model = quantized(path, inputs[:10], scheme="shift").model
    assert differences_with_shifts(model, inputs, tmp_path) == 0


def test_result_with_steps_finer_than_a_product_gets_coarser_ones(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Weights that cancel on these inputs: no right shift would keep the largest unclipped."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="conv")]
    weights = np.array([100.0, -100, 0.1, 0]).reshape(1, 4, 1, 1)
    path = tmp_path / "float.onnx"
    save_image_network(path, nodes, w=weights)
    inputs = rng.normal(size=(20, 4, 9, 9)).astype(np.float32)
    inputs[:, 1] = inputs[:, 0]
    model = quantized(path, inputs, scheme="shift").model
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    scale = constants["conv/weight/scale"]
    real = constants["conv/weight/codes"] * scale
    np.testing.assert_allclose(real, weights, atol=float(scale[0]) / 2 * 1.0001)
    assert differences_with_shifts(model, inputs, tmp_path) == 0


def test_mean_with_fewer_taps_at_the_border_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node(
            "AveragePool", ["x"], ["y"], name="pool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]
        )
    ]
    save_image_network(tmp_path / "float.onnx", nodes)
    message = (
        r"^AveragePool 'pool' divides by fewer taps at the border, which no shift does\n"
        r"  help: set count_include_pad=1 and ceil_mode=0, or take scheme affine$"
    )
    with pytest.raises(UnsupportedError, match=message):
        quantized(tmp_path / "float.onnx", np.ones((1, 4, 9, 9), np.float32), scheme="shift")
