"""QONNX's own quantizers: values by their definition, networks as in ONNX Runtime, refusals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper

from qcompile.compiler.errors import QcompileError
from qcompile.compiler.frontend.qonnx import DOMAINS
from qcompile.compiler.golden.interpreter import run_graph, run_model
from qcompile.compiler.ir import Lookup
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from qcompile.runtime.host_ops import run_host_ops
from sim_tests.compiler.networks import Network


class QonnxNetwork(Network):
    """A network with quantizers of QONNX in one of their domains."""

    def __init__(self, domain: str = "qonnx.custom_op.general") -> None:
        super().__init__(13)
        self.domain = domain

    def quant(
        self,
        x: str,
        scale: npt.ArrayLike,
        bits: float,
        *,
        zero_point: float = 0,
        operator: str = "Quant",
        **attributes: Any,
    ) -> str:
        names = [self.constant(v, "float32") for v in (scale, zero_point, bits)]
        stated: dict[str, Any] = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND"} | attributes
        return self.node(operator, x, *names, domain=self.domain, **stated)

    def bipolar(self, x: str, scale: npt.ArrayLike) -> str:
        scale_name = self.constant(scale, "float32")
        return self.node("BipolarQuant", x, scale_name, domain=self.domain)

    def model(self) -> onnx.ModelProto:
        model = super().model()
        model.opset_import.append(helper.make_opsetid(self.domain, 1))
        return model


def defined(
    x: npt.NDArray[np.float32],
    scale: npt.ArrayLike,
    bits: int,
    *,
    zero_point: int = 0,
    signed: int = 1,
    narrow: int = 0,
) -> npt.NDArray[np.float32]:
    """Quant by its definition in qonnx's documentation."""
    scales = np.asarray(scale, dtype=np.float32)
    if signed:
        low, high = -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1
    else:
        low, high = 0, 2**bits - 1 - narrow
    codes = np.round(np.clip(x / scales + np.float32(zero_point), low, high))
    return np.asarray((codes - np.float32(zero_point)) * scales, dtype=np.float32)


FORMS: list[dict[str, Any]] = [
    {"bits": 8},
    {"bits": 8, "narrow": 1},
    {"bits": 8, "signed": 0},
    {"bits": 8, "signed": 0, "zero_point": 100},
    {"bits": 5, "narrow": 1},
    {"bits": 4, "signed": 0, "narrow": 1},
    {"bits": 3, "zero_point": 2},
    {"bits": 2, "narrow": 1},
    {"bits": 1, "signed": 0},
]


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("form", FORMS)
def test_quant_of_an_activation_by_its_definition(
    tmp_path: Path, rng: np.random.Generator, form: dict[str, Any], domain: str
) -> None:
    network = QonnxNetwork(domain)
    x = network.input("x", "float32", (1, 1, 8, 8))
    y = network.quant(x, 0.173, **form)
    network.output(y, "float32")
    weight = network.quant(network.constant(np.full((1, 1, 1, 1), 3), "float32"), 1.0, 4)
    z = network.node("Conv", y, weight)
    network.output(network.quant(z, 0.5, 8), "float32")
    model = load_model(network.save(tmp_path / "quant.onnx"))
    values = (rng.normal(size=(20, 1, 8, 8)) * 8).astype(np.float32)
    assert np.array_equal(run_model(model, {"x": values})[y], defined(values, 0.173, **form))


def small_network(rng: np.random.Generator, *, bipolar: bool) -> QonnxNetwork:
    """Conv, batch normalization, Quant or BipolarQuant, Relu, MatMul with real results."""
    network = QonnxNetwork()
    x = network.quant(network.input("x", "float32", (1, 3, 8, 8)), 0.037, 8)
    data = network.constant(rng.normal(size=(16, 3, 3, 3)), "float32")
    scales = rng.uniform(0.2, 0.5, (16, 1, 1, 1))
    weight = network.bipolar(data, 0.25) if bipolar else network.quant(data, scales, 3, narrow=1)
    real = network.node("Conv", x, weight)
    factors = rng.uniform(0.5, 2, 16) * rng.choice([-1, 1], 16)
    arrays = (factors, rng.normal(size=16), rng.normal(size=16), rng.uniform(0.5, 4, 16))
    names = [network.constant(array, "float32") for array in arrays]
    real = network.node("BatchNormalization", real, *names)
    if bipolar:
        real = network.bipolar(real, 0.75)
    else:
        real = network.quant(network.node("Relu", real), 0.21, 4, signed=0)
    flat = network.node("Flatten", real)
    last = network.quant(
        network.constant(rng.normal(size=(16 * 36, 10)), "float32"), 0.4, 2, operator="IntQuant"
    )
    product = network.node("MatMul", flat, last)
    scaled = network.node("Mul", product, network.constant(0.013, "float32"), output="y")
    network.output(scaled, "float32")
    return network


@pytest.mark.parametrize("bipolar", [False, True])
def test_network_equals_onnxruntime_on_its_standard_form(
    tmp_path: Path, rng: np.random.Generator, bipolar: bool
) -> None:
    path = small_network(rng, bipolar=bipolar).save(tmp_path / "small.onnx")
    model = load_model(path)
    inputs = {"x": rng.normal(size=(60, 3, 8, 8)).astype(np.float32)}
    (layer,) = (op.name for op in model.graph.ops)
    run = Reference(path, [layer]).run(inputs)
    entered = run_host_ops(model.prologue, inputs)
    codes = run_graph(model.graph, {name: entered[name] for name in model.graph.inputs})[layer]
    expected = run.layers[layer].astype(np.int64) - (0 if bipolar else 128)
    assert np.count_nonzero(codes != expected) == 0
    # Flatten between codes and product: ONNX Runtime multiplies real numbers, in its own order.
    y = run_model(model, inputs)["y"]
    np.testing.assert_allclose(y, run.outputs["y"], rtol=1e-5, atol=1e-6)


def test_bipolar_activations_are_signs(tmp_path: Path, rng: np.random.Generator) -> None:
    network = QonnxNetwork()
    x = network.input("x", "int8", (1, 2, 8, 8))
    real = network.dequantize(x, (0.05, 3, "int8"))
    weight = network.constant(rng.normal(size=(4, 2, 1, 1)), "float32")
    first = network.quant(network.node("Conv", real, network.bipolar(weight, 0.5)), 0.1, 8)
    second = network.node(
        "Conv",
        network.bipolar(first, 2.0),
        network.bipolar(network.constant(rng.normal(size=(4, 4, 1, 1)), "float32"), 0.5),
    )
    y = network.quant(second, 1.0, 8)
    network.output(y, "float32")
    path = network.save(tmp_path / "signs.onnx")
    model = load_model(path)
    assert Lookup in [type(op) for op in model.graph.ops]
    inputs = {"x": rng.integers(-128, 128, (40, 2, 8, 8)).astype(np.int8)}
    assert np.array_equal(run_model(model, inputs)[y], Reference(path, ()).run(inputs).outputs[y])


REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    ({"bits": 9}, "quantizes to 9 bits", "use bit widths of 1 to 8 for all tensors"),
    (
        {"bits": 4, "rounding_mode": "FLOOR"},
        "rounding_mode=FLOOR is not supported",
        "train with ROUND",
    ),
    (
        {"bits": 3.5},
        "bit width is no single whole number",
        "use one for the whole tensor",
    ),
    (
        {"bits": 4, "scale": [[[[0.1]], [[0.2]]]]},
        "quantizes an activation with 2 scales",
        "use one scale a tensor for activations",
    ),
]


@pytest.mark.parametrize(("form", "message", "help"), REFUSALS)
def test_other_quantizers_are_refused(
    tmp_path: Path, form: dict[str, Any], message: str, help: str
) -> None:
    network = QonnxNetwork()
    x = network.input("x", "float32", (1, 2, 8, 8))
    arguments: dict[str, Any] = {"scale": 0.1} | form
    y = network.quant(x, **arguments)
    network.output(y, "float32")
    with pytest.raises(QcompileError) as caught:
        load_model(network.save(tmp_path / "m.onnx"))
    lines = str(caught.value).splitlines()
    assert re.fullmatch(rf"m\.onnx: Quant 'quant\d' \(node 0\): {re.escape(message)}", lines[0])
    assert lines[-1] == f"  help: {help}"
