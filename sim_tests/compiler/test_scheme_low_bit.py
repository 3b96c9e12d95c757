"""Schemes ternary, binary and xnor: codes, scales and signs, golden against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper, numpy_helper

from qcompile.compiler.errors import UsageError
from qcompile.compiler.golden.interpreter import run_graph, run_model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.quantize.low_bit import two_levels
from qcompile.compiler.quantize.quantizer import save
from qcompile.compiler.reference import Reference
from qcompile.runtime.host_ops import run_host_ops
from sim_tests.compiler.agreement import assert_equal_everywhere
from sim_tests.compiler.quantized_models import (
    CALIBRATION,
    accuracies,
    network_of,
    quantized,
    save_image_network,
)

Array = npt.NDArray[Any]
INNER = ("separable/depthwise", "separable/pointwise", "down", "residual/depthwise",
         "residual/pointwise")  # fmt: skip


def constants_of(model: onnx.ModelProto) -> dict[str, Array]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def weights_of(model: onnx.ModelProto, layer: str) -> tuple[Array, Array]:
    """Codes and scales of a layer's weights."""
    constants = constants_of(model)
    return constants[f"{layer}/weight/codes"], constants[f"{layer}/weight/scale"]


def test_ternary_weights_follow_the_papers_formulas() -> None:
    path, inputs, _ = network_of("digits", None)
    float_weights = constants_of(onnx.load(path))
    model = quantized(path, inputs[:20], scheme="ternary").model
    for layer in INNER:
        codes, scales = weights_of(model, layer)
        for channel, real in enumerate(float_weights[f"{layer}/weight"].astype(np.float64)):
            delta = 0.7 * np.mean(np.abs(real))
            np.testing.assert_array_equal(
                codes[channel], np.where(real > delta, 1, 0) - np.where(real < -delta, 1, 0)
            )
            assert scales[channel] == pytest.approx(np.abs(real)[np.abs(real) > delta].mean())
    assert np.abs(weights_of(model, "stem")[0]).max() == 127
    assert np.abs(weights_of(model, "logits")[0]).max() == 127


def test_binary_weights_follow_the_papers_formulas() -> None:
    path, inputs, _ = network_of("digits", None)
    float_weights = constants_of(onnx.load(path))
    model = quantized(path, inputs[:20], scheme="binary").model
    for layer in INNER:
        codes, scales = weights_of(model, layer)
        real = float_weights[f"{layer}/weight"]
        np.testing.assert_array_equal(codes, np.where(real >= 0, 1, -1))
        np.testing.assert_allclose(scales, np.abs(real).mean(axis=(1, 2, 3)), rtol=1e-6)


def test_depthwise_layers_keep_8_bits_where_asked_for() -> None:
    path, inputs, _ = network_of("digits", None)
    model = quantized(path, inputs[:20], scheme="binary", int8_depthwise=True).model
    assert np.abs(weights_of(model, "separable/depthwise")[0]).max() == 127
    assert np.abs(weights_of(model, "separable/pointwise")[0]).max() == 1


def test_ternary_digits_are_usable_with_rounding_search_and_bias_correction() -> None:
    path, inputs, labels = network_of("digits", None)
    model = quantized(
        path, inputs[:CALIBRATION], scheme="ternary", rounding="search", bias_correction=True
    ).model
    for layer in INNER:
        assert set(np.unique(weights_of(model, layer)[0]).tolist()) <= {-1, 0, 1}
    before, after = accuracies(path, inputs, labels, model)
    assert after >= before - 0.03


@pytest.mark.parametrize("scheme", ["ternary", "binary"])
def test_weights_of_few_values_equal_onnxruntime_everywhere(tmp_path: Path, scheme: str) -> None:
    path, inputs, _ = network_of("digits", None)
    save(quantized(path, inputs[:50], scheme=scheme).model, tmp_path / "model.onnx")
    model = load_model(tmp_path / "model.onnx")
    assert_equal_everywhere(tmp_path / "model.onnx", model, {model.inputs[0].name: inputs[:100]})


def test_signs_are_minus_one_and_one_and_equal_onnxruntime(tmp_path: Path) -> None:
    path, inputs, _ = network_of("digits", None)
    save(quantized(path, inputs[:50], scheme="xnor").model, tmp_path / "model.onnx")
    model = load_model(tmp_path / "model.onnx")
    given = {model.inputs[0].name: inputs[:100]}
    signs = [f"{name}/relu/codes" for name in ("stem", "separable/depthwise",
             "separable/pointwise", "residual/depthwise")]  # fmt: skip
    reference = Reference(tmp_path / "model.onnx", signs).run(given)
    codes = run_graph(model.graph, run_host_ops(model.prologue, given))
    for name in signs:
        assert set(np.unique(reference.layers[name]).tolist()) == {-1, 1}
        np.testing.assert_array_equal(codes[name], reference.layers[name])


def sign_network(path: Path, rng: np.random.Generator) -> None:
    """Three layers, the middle one of few taps and padded, so that sums are often small."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="a"),
        helper.make_node("Relu", ["a"], ["ar"], name="ar"),
        helper.make_node("MaxPool", ["ar"], ["p"], name="p", kernel_shape=[2, 2]),
        helper.make_node("Conv", ["p", "w2"], ["c"], name="c", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["cr"], name="cr"),
        helper.make_node("Conv", ["cr", "w3"], ["d"], name="d"),
        helper.make_node("Relu", ["d"], ["dr"], name="dr"),
        helper.make_node("Conv", ["dr", "w4"], ["y"], name="y"),
    ]
    save_image_network(
        path, nodes, w1=rng.normal(size=(2, 4, 1, 1)), b1=rng.normal(size=2),
        w2=rng.normal(size=(4, 2, 2, 2)), w3=rng.normal(size=(6, 4, 1, 1)),
        w4=rng.normal(size=(3, 6, 1, 1)),
    )  # fmt: skip


def test_no_sum_in_front_of_a_sign_is_zero(tmp_path: Path, rng: np.random.Generator) -> None:
    sign_network(tmp_path / "float.onnx", rng)
    inputs = rng.normal(size=(60, 4, 9, 9)).astype(np.float32)
    save(quantized(tmp_path / "float.onnx", inputs[:30], scheme="xnor").model, tmp_path / "m.onnx")
    model = load_model(tmp_path / "m.onnx")
    given = {"x": inputs}
    reference = Reference(tmp_path / "m.onnx", ["ar/codes", "p/codes", "cr/codes"]).run(given)
    codes = run_graph(model.graph, run_host_ops(model.prologue, given))
    constants = constants_of(onnx.load(tmp_path / "m.onnx"))
    for layer, sign in (("a", "ar"), ("c", "cr")):
        assert not np.any(constants[f"{layer}/weight/codes"] % 2)
        assert np.all(constants[f"{layer}/bias/codes"] % 2)
        found = reference.layers[f"{sign}/codes"]
        assert set(np.unique(found).tolist()) == {-1, 1}
        np.testing.assert_array_equal(codes[f"{sign}/codes"], found)
    np.testing.assert_array_equal(run_model(model, given)["y"], reference.outputs["y"])
    # what the last layer reads has 8 bits
    assert constants["dr/scale"] < constants["cr/scale"]


def test_two_levels_have_the_least_error_of_a_rectified_normal(rng: np.random.Generator) -> None:
    values = rng.normal(0.2, 1.0, 4000)
    found = two_levels(values)
    rectified = np.maximum(values, 0)

    def error(threshold: float) -> float:
        above = values >= threshold
        return float(np.sum((rectified[above] - rectified[above].mean()) ** 2)
                     + np.sum((rectified[~above] - rectified[~above].mean()) ** 2))  # fmt: skip

    tried = np.linspace(0.05, 3, 300)
    best = min(error(threshold) for threshold in tried)
    assert error(found.threshold) <= best * 1.001
    guess = found.centre + found.spread * np.where(values >= found.threshold, 1, -1)
    assert float(np.sum((guess - rectified) ** 2)) == pytest.approx(error(found.threshold))


def test_bias_correction_is_refused_where_signs_are_no_rounded_values() -> None:
    path, inputs, _ = network_of("digits", None)
    message = r"^--bias-correction has no meaning in scheme xnor, whose signs are no rounded values"
    with pytest.raises(UsageError, match=message):
        quantized(path, inputs[:2], scheme="xnor", bias_correction=True)
