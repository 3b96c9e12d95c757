"""Scheme dpu: the vendor's positions and limits, powers of two everywhere, ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from qcompile.compiler.errors import UsageError
from qcompile.compiler.quantize import positions
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


@pytest.mark.parametrize(
    ("low", "high", "position"),
    [
        *[(-1.0, 127 / 128, 7), (-1.0, 1.0, 6), (-1.01, 0.0, 6), (0.0, 255.0, -2)],
        *[(0.0, 0.0, 12), (-1e-6, 1e-6, 12), (-128.0, 127.0, 0), (-128.0, 127.5, -1)],
    ],
)
def test_largest_position_that_clips_nothing(low: float, high: float, position: int) -> None:
    assert positions.whole_position(np.array([low, high])) == position


def test_best_position_has_the_least_error_of_five(rng: np.random.Generator) -> None:
    values = np.append(rng.normal(0, 1, 20_000), 9.0)
    found = positions.best_position(values)
    first = positions.whole_position(values)
    errors = []
    for position in range(first, first + 5):
        codes = np.clip(np.round(values * 2**position), -128, 127)
        errors.append(np.sum((codes / 2**position - values) ** 2))
    assert found == first + int(np.argmin(errors))
    assert found > first


def test_position_of_activations_is_that_of_most_inputs() -> None:
    rows = np.array([[1.0, -0.5], [0.4, 0.1], [0.45, 0.2], [100.0, 3.0]])
    assert [positions.best_position(row) for row in rows[:3]] != [positions.best_position(rows)] * 3
    assert positions.activation_position(rows[1:3]) == positions.best_position(rows[1])


@pytest.mark.parametrize(
    ("kernel", "factor"),
    [
        *[((3, 3), 7 / 64), ((5, 5), 10 / 256), ((3, 6), 7 / 256), ((7, 7), 21 / 1024)],
        *[((14, 14), 21 / 4096), ((2, 2), 1 / 4), ((24, 5), 68 / 8192), ((4, 4), 1 / 16)],
    ],
)
def test_factor_of_a_mean_is_the_vendors(kernel: tuple[int, ...], factor: float) -> None:
    assert positions.pool_factor(kernel) == factor


@pytest.mark.parametrize(
    ("weights", "operand", "result", "found"),
    [(7, 4, 5, 7), (7, 12, 2, 6), (3, -4, 6, 10), (12, 5, 1, 12)],
)
def test_position_of_weights_keeps_shift_cut_within_0_and_16(
    weights: int, operand: int, result: int, found: int
) -> None:
    assert positions.cut_weights(weights, operand, result) == found
    assert 0 <= found + operand - result <= 16


@pytest.mark.parametrize(
    ("bias", "sums", "result", "found"),
    [
        *[(7, 12, 4, 7), (-9, 12, 4, -4), (12, 4, 4, 12), (12, -6, -6, 10)],
        *[(12, 3, -5, 11), (12, 10, -6, 10)],
    ],
)
def test_position_of_a_bias_keeps_shift_bias_within_its_limits(
    bias: int, sums: int, result: int, found: int
) -> None:
    assert positions.cut_bias(bias, sums, result) == found
    cut = sums - result
    assert min(0, -(24 - (8 + cut))) <= sums - found <= 16


@pytest.mark.parametrize("network", ["digits", "mnist", "keywords"])
def test_networks_keep_their_accuracy_and_shifts_equal_onnxruntime(
    tmp_path: Path, request: pytest.FixtureRequest, network: str
) -> None:
    shared = None if network == "digits" else request.getfixturevalue("shared")
    path, inputs, labels = network_of(network, shared)
    found = quantized(path, inputs[:CALIBRATION], scheme="dpu")
    before, after = accuracies(path, inputs, labels, found.model)
    assert after >= before - 0.01
    assert differences_with_shifts(found.model, inputs[:150], tmp_path) == 0
    assert shift_cost(*shift_graph(tmp_path / "model.onnx")).changed == 0
    for tensor in found.model.graph.initializer:
        if tensor.name.endswith("/scale"):
            mantissa, _ = np.frexp(numpy_helper.to_array(tensor))
            assert np.all(mantissa == 0.5), tensor.name
    for line in found.notes[1:]:
        x, w, b, y, cut, shift = line.split()[1:]
        assert int(cut) == int(x) + int(w) - int(y) and 0 <= int(cut) <= 16
        if b != "-":
            assert int(shift) == int(x) + int(w) - int(b)


def test_biases_have_eight_bits(tmp_path: Path, rng: np.random.Generator) -> None:
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv")]
    bias = rng.normal(size=6) * 3
    path = tmp_path / "float.onnx"
    save_image_network(path, nodes, w=rng.normal(size=(6, 4, 3, 3)), b=bias)
    inputs = rng.normal(size=(20, 4, 9, 9)).astype(np.float32)
    found = quantized(path, inputs, scheme="dpu")
    constants = {one.name: numpy_helper.to_array(one) for one in found.model.graph.initializer}
    real = constants["conv/bias/codes"] * constants["conv/bias/scale"].astype(np.float64)
    position = int(found.notes[1].split()[3])
    codes = real * 2.0**position
    assert np.array_equal(codes, np.rint(codes)) and np.abs(codes).max() <= 128
    np.testing.assert_allclose(real, bias, atol=2.0**-position)


def test_bias_correction_is_refused_because_biases_have_eight_bits() -> None:
    path, inputs, _ = network_of("digits", None)
    message = r"^--bias-correction has no meaning in scheme dpu, whose biases have 8 bits\n"
    with pytest.raises(UsageError, match=message):
        quantized(path, inputs[:2], scheme="dpu", bias_correction=True)
