"""QONNX's Trunc in both versions: values by their definition, networks as in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qcompile.compiler.errors import QcompileError
from qcompile.compiler.frontend.qonnx import DOMAINS
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.ir import Lookup
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from sim_tests.compiler.test_qonnx import QonnxNetwork

ROUNDINGS: dict[str, Callable[[Any], npt.NDArray[Any]]] = {
    "ROUND": np.round,
    "ceil": np.ceil,
    "FLOOR": np.floor,
}


def trunc(network: QonnxNetwork, x: str, *constants: float, **attributes: Any) -> str:
    names = [network.constant(value, "float32") for value in constants]
    return network.node("Trunc", x, *names, domain=network.domain, name="t", **attributes)


def network_of(
    *constants: float, domain: str = DOMAINS[0], after: bool = False, **attributes: Any
) -> tuple[QonnxNetwork, str, str]:
    """Quant of 8 bits, a 1x1 Conv, Quant, Trunc; perhaps Quant behind it."""
    network = QonnxNetwork(domain)
    x = network.quant(network.input("x", "float32", (1, 2, 8, 8)), 0.1, 8)
    weight = network.constant(np.asarray([[2, 1], [-1, 3]]).reshape(2, 2, 1, 1), "float32")
    y = network.node("Conv", x, network.quant(weight, 1.0, 4))
    y = network.quant(y, 0.25, 8)
    network.output(y, "float32")
    z = trunc(network, y, *constants, **attributes)
    network.output(network.quant(z, 0.25, 8) if after else z, "float32")
    return network, y, network.outputs[-1].name


def defined(
    x: npt.NDArray[np.float32], constants: tuple[float, ...], mode: str, signed: int, narrow: int
) -> npt.NDArray[np.float32]:
    """By qonnx's documentation, trunc_v1.md and trunc_v2.md."""
    scale, zero, before, *out = constants
    whole = np.round(x / np.float32(scale) + np.float32(zero))
    if len(out) == 1:
        codes = ROUNDINGS[mode](whole / 2.0 ** (before - out[0]))
        return np.asarray((codes - np.float32(zero)) * np.float32(scale), np.float32)
    factor = 2 ** np.round(np.log2(out[0] / scale))
    low = -(2 ** (out[1] - 1)) + narrow if signed else 0
    high = 2 ** (out[1] - 1) - 1 if signed else 2 ** out[1] - 1 - narrow
    codes = ROUNDINGS[mode](np.clip(whole / factor, low, high))
    return np.asarray((codes - np.float32(zero / factor)) * np.float32(out[0]), np.float32)


FORMS: list[tuple[tuple[float, ...], dict[str, Any]]] = [
    ((0.25, 0, 8, 4), {}),
    ((0.25, 0, 8, 7), {"rounding_mode": "ROUND"}),
    ((0.25, 5, 8, 3), {"rounding_mode": "ceil"}),
    ((0.25, 0, 8, 1.0, 6), {}),
    ((0.25, 0, 8, 1.0, 6), {"signed": 1, "narrow": 1, "rounding_mode": "ROUND"}),
    ((0.25, 8, 8, 0.5, 4), {"signed": 0, "narrow": 0, "rounding_mode": "ceil"}),
    ((0.25, 0, 8, 0.25, 8), {"signed": 1}),
]


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize(("constants", "attributes"), FORMS)
def test_trunc_has_the_values_of_its_definition_and_of_onnx_runtime(
    tmp_path: Path,
    rng: np.random.Generator,
    constants: tuple[float, ...],
    attributes: dict[str, Any],
    domain: str,
) -> None:
    network, y, z = network_of(*constants, domain=domain, **attributes)
    path = network.save(tmp_path / "m.onnx")
    model = load_model(path)
    inputs = {"x": (rng.normal(size=(20, 2, 8, 8)) * 8).astype(np.float32)}
    found, expected = run_model(model, inputs), Reference(path, []).run(inputs).outputs
    stated: dict[str, Any] = {"rounding_mode": "FLOOR", "signed": 1, "narrow": 0} | attributes
    mode, signed, narrow = (stated[name] for name in ("rounding_mode", "signed", "narrow"))
    np.testing.assert_array_equal(found[z], defined(found[y], constants, mode, signed, narrow))
    for name in (y, z):
        np.testing.assert_array_equal(found[name], expected[name])


def test_trunc_with_a_quantizer_behind_is_one_table(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network, _, z = network_of(0.25, 0, 8, 8, after=True)
    weight = network.quant(network.constant(np.full((1, 2, 1, 1), 3), "float32"), 1.0, 4)
    network.output(network.quant(network.node("Conv", z, weight), 0.5, 8), "float32")
    path = network.save(tmp_path / "m.onnx")
    model = load_model(path)
    assert len([op for op in model.graph.ops if isinstance(op, Lookup)]) <= 1
    inputs = {"x": (rng.normal(size=(20, 2, 8, 8)) * 8).astype(np.float32)}
    found, expected = run_model(model, inputs), Reference(path, []).run(inputs).outputs
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("area", [(2, 2), (3, 2), (8, 8)])
@pytest.mark.parametrize("rounding", ["FLOOR", "ROUND"])
def test_trunc_behind_an_average_pool_truncates_its_sums(
    tmp_path: Path, rng: np.random.Generator, area: tuple[int, int], rounding: str
) -> None:
    """As Brevitas exports TruncAvgPool2d: AveragePool, times the area, Trunc."""
    network = QonnxNetwork(DOMAINS[0])
    x = network.quant(network.input("x", "float32", (1, 2, 8, 8)), 0.25, 6)
    y = network.node("AveragePool", x, kernel_shape=list(area), strides=list(area))
    y = network.node("Mul", y, network.constant(np.float32(area[0] * area[1]), "float32"))
    before = 6 + int(np.ceil(np.log2(area[0] * area[1])))
    z = trunc(network, y, 0.25, 0, before, 6, rounding_mode=rounding)
    weight = network.quant(network.constant(np.full((1, 2, 1, 1), 3), "float32"), 1.0, 4)
    network.output(z, "float32")
    network.output(network.quant(network.node("Conv", z, weight), 0.5, 8), "float32")
    path = network.save(tmp_path / "m.onnx")
    inputs = {"x": (rng.normal(size=(50, 2, 8, 8)) * 4).astype(np.float32)}
    found, expected = run_model(load_model(path), inputs), Reference(path, []).run(inputs).outputs
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])


REFUSED: list[tuple[tuple[float, ...], dict[str, Any], str]] = [
    ((0.25, 0, 8), {}, "has 4 inputs, not 5 or 6"),
    ((0.25, 0, 24, 9), {}, "truncates 24 bits to 9"),
    ((0.25, 0, 4, 8), {}, "truncates 4 bits to 8"),
    ((0.25, 0.5, 8, 4), {}, "zero point is no single whole number"),
    ((0.25, 0, 8, 4), {"rounding_mode": "HALF_UP"}, "rounding_mode=HALF_UP is not supported"),
    ((0.25, 0, 8, 4), {"signed": 1}, "attribute signed=1 is not known here"),
]


@pytest.mark.parametrize(("constants", "attributes", "message"), REFUSED)
def test_truncs_without_meaning_are_refused(
    tmp_path: Path, constants: tuple[float, ...], attributes: dict[str, Any], message: str
) -> None:
    network, _, _ = network_of(*constants, **attributes)
    with pytest.raises(QcompileError) as caught:
        load_model(network.save(tmp_path / "m.onnx"))
    assert message in caught.value.render()


def test_codes_of_eight_bits_whose_sign_nobody_tells_need_a_quantizer_behind(
    tmp_path: Path,
) -> None:
    network, _, z = network_of(0.25, 0, 8, 8)
    weight = network.quant(network.constant(np.full((1, 2, 1, 1), 3), "float32"), 1.0, 4)
    network.output(network.quant(network.node("Conv", z, weight), 0.5, 8), "float32")
    with pytest.raises(QcompileError) as caught:
        load_model(network.save(tmp_path / "m.onnx"))
    assert "add QuantizeLinear and DequantizeLinear behind" in caught.value.render()
