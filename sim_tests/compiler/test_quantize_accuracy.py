"""Scheme affine on networks that others trained: what calibration and corrections give."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qcompile.compiler.quantize import Network, Options, accuracy, load_float, quantize
from qcompile.compiler.quantize.sessions import observe
from sim_tests.zoo import PROJECT, SHARED

Array = npt.NDArray[Any]
CALIBRATION = 200


def kws() -> tuple[Network, Array, Array]:
    """Alibaba's keyword spotting: x = (code - 83) * scale, as models/README.md has it."""
    path = SHARED / "models/float/alibaba_kws_float.onnx"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    data = np.load(SHARED / "data/kws01.npz")
    x = (data["x"].astype(np.float32) - 83) * np.float32(0.5847029089927673)
    return load_float(path), x, data["y"]


def digits() -> tuple[Network, Array, Array]:
    """The example network."""
    data = np.load(PROJECT / "examples/digits/digits_test.npz")
    return load_float(PROJECT / "examples/digits/digits_float.onnx"), data["x"], data["y"]


def measured(network: Network, x: Array, labels: Array, options: Options) -> tuple[float, float]:
    """Accuracy, and dB of the last layer's results, of inputs that did not calibrate."""
    name, out = network.inputs[0].name, network.outputs[0]
    rest = {name: x[CALIBRATION:]}
    model = quantize(network, {name: x[:CALIBRATION]}, options).model
    real, coded = (observe(one, rest, [out])[out] for one in (network.to_model(), model))
    noise = np.sum((coded.astype(np.float64) - real) ** 2)
    decibels = 10 * np.log10(np.sum(real.astype(np.float64) ** 2) / noise)
    return accuracy(model, rest, labels[CALIBRATION:]), float(decibels)


def test_keyword_spotting_keeps_its_accuracy_and_gains_by_equalization_and_correction() -> None:
    network, x, labels = kws()
    plain = measured(network, x, labels, Options())
    options = Options(range="percentile", equalize="activations", bias_correction=True)
    better = measured(network, x, labels, options)
    float_accuracy = accuracy(network.to_model(), {network.inputs[0].name: x}, labels)
    assert float_accuracy == pytest.approx(0.908, abs=0.0005)
    rest = accuracy(
        network.to_model(), {network.inputs[0].name: x[CALIBRATION:]}, labels[CALIBRATION:]
    )
    assert plain[0] >= rest - 0.01
    assert better[0] >= rest - 0.005
    assert better[1] > plain[1] + 3


def test_rounding_search_helps_inputs_that_did_not_calibrate() -> None:
    network, x, labels = digits()
    results = {
        (rounding, bias): measured(
            network, x, labels, Options(rounding=rounding, bias_correction=bias)
        )[1]
        for rounding in ("nearest", "search")
        for bias in (False, True)
    }
    assert results["nearest", True] > results["nearest", False] + 1.5
    assert results["search", False] > results["nearest", False] + 1.5
    assert results["search", True] > results["nearest", True]
