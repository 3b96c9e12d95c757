"""ConvTranspose: golden beside ONNX Runtime, layers beside golden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from qcompile.compiler import backend
from qcompile.compiler.errors import QcompileError, UnsupportedError
from qcompile.compiler.golden.interpreter import run_graph, run_model
from qcompile.compiler.ir import Model
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.simulate import reference_of, simulate
from qcompile.hw.boards.icebreaker import ICEBREAKER
from qcompile.runtime.inputs import Samples
from sim_tests.compiler.agreement import random_inputs
from sim_tests.compiler.layer_runs import run_layers
from sim_tests.compiler.networks import Network, Parameters
from sim_tests.compiler.test_qonnx import QonnxNetwork

BEFORE: dict[str, Parameters] = {"int8": (0.05, -17, "int8"), "uint8": (0.05, 255, "uint8")}
AFTER: dict[str, Parameters] = {"int8": (0.09, 127, "int8"), "uint8": (0.09, 101, "uint8")}

ATTRIBUTES: dict[str, dict[str, Any]] = {
    "plain": {},
    "strides": {"strides": [2, 3]},
    "pads": {"strides": [2, 2], "pads": [1, 0, 0, 1]},
    "output padding": {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 0]},
    "dilations": {"strides": [2, 1], "dilations": [2, 3]},
    "dilations with a common factor": {"strides": [2, 3], "dilations": [2, 2]},
    "kernel smaller than strides": {"strides": [4, 5], "output_padding": [1, 2]},
    "pads beyond the taps of a phase": {"strides": [3, 3], "pads": [2, 2, 2, 2]},
    "output shape": {"strides": [2, 2], "output_shape": [6, 7]},
    "output shape with an odd pad at the end": {
        "strides": [2, 2],
        "output_shape": [6, 8],
        "auto_pad": "SAME_UPPER",
    },
    "same upper": {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    "same lower": {"strides": [2, 2], "auto_pad": "SAME_LOWER"},
    "same with strides beyond the kernel": {"strides": [4, 2], "auto_pad": "SAME_LOWER"},
    "valid": {"strides": [2, 2], "auto_pad": "VALID"},
    "output shape beyond the input": {"strides": [2, 2], "output_shape": [8, 9]},
}


def network(
    dtype: str,
    attributes: dict[str, Any],
    *,
    group: int = 2,
    line: bool = False,
    axis: int | None = None,
    opset: int = 13,
) -> Network:
    """A ConvTranspose of 4 channels to 4, between codes, with bias."""
    made, rng = Network(opset), np.random.default_rng(5)
    size = (5,) if line else (3, 4)
    outputs = 4 // group
    x = made.dequantize(made.input("x", dtype, [1, 4, *size]), BEFORE[dtype])
    kind = np.iinfo(dtype)
    codes = rng.integers(kind.min, kind.max + 1, (4, outputs, *[3 for _ in size])).astype(dtype)
    count = (4, outputs)[axis] if axis is not None else 1
    scale: Any = np.linspace(0.004, 0.02, count) if axis is not None else 0.01
    zero: Any = np.arange(count) + 3 if axis is not None else 7
    bias = made.constant(rng.normal(size=4), "float32")
    w = made.weight(codes, scale, zero, axis=axis)
    real = made.node("ConvTranspose", x, w, bias, group=group, **attributes)
    made.output(made.quantize(real, AFTER[dtype], output="y"), dtype)
    return made


def agrees(model: Model, rng: np.random.Generator) -> None:
    """Within a step everywhere; the island is ConvTranspose alone and nothing else differs."""
    inputs = random_inputs(model, rng, 8)
    reference = reference_of(model)
    assert [island.tensor for island in reference.islands] == ["y"]
    samples = Samples(tensors=inputs, labels=None, notes=())
    assert simulate(model, reference, samples, progress=lambda _: None).failures == ()
    found, expected = run_model(model, inputs)["y"], reference.run(inputs).outputs["y"]
    steps = np.abs(found.astype(np.int64) - expected)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    assert steps.max() <= 1 and np.mean(steps != 0) < 0.02


@pytest.mark.parametrize("dtype", BEFORE)
@pytest.mark.parametrize("attributes", ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_images_are_within_a_step_of_onnx_runtime(
    tmp_path: Path, rng: np.random.Generator, dtype: str, attributes: dict[str, Any]
) -> None:
    agrees(load_model(network(dtype, attributes).save(tmp_path / "m.onnx")), rng)


@pytest.mark.parametrize("opset", [11, 21])
@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("axis", [None, 1])
def test_lines_and_groups_and_scales_of_channels_are_within_a_step(
    tmp_path: Path, rng: np.random.Generator, group: int, axis: int | None, opset: int
) -> None:
    if axis is not None and opset < 13:
        return  # DequantizeLinear has no axis there
    attributes = {"strides": [3], "pads": [1, 2], "output_padding": [2]}
    made = network("int8", attributes, group=group, line=True, axis=axis, opset=opset)
    agrees(load_model(made.save(tmp_path / "m.onnx")), rng)


def test_scales_of_input_channels_are_those_of_the_output_where_each_has_its_own(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    made = network("int8", {"strides": [2, 2]}, group=4, axis=0)
    agrees(load_model(made.save(tmp_path / "m.onnx")), rng)


@pytest.mark.parametrize("quantizer", ["QuantizeLinear", "Quant"])
def test_weights_that_are_quantized_in_the_graph(
    tmp_path: Path, rng: np.random.Generator, quantizer: str
) -> None:
    made = QonnxNetwork()
    x = made.dequantize(made.input("x", "int8", [1, 4, 3, 4]), BEFORE["int8"])
    weight = made.constant(rng.normal(size=(4, 3, 3, 3)) * 0.3, "float32")
    scales = np.linspace(0.1, 0.3, 3)
    if quantizer == "Quant":
        w = made.quant(weight, scales.reshape(1, 3, 1, 1), 3, narrow=1)
    else:
        names = [made.constant(scales, "float32"), made.constant([0, 0, 0], "int8")]
        codes = made.node("QuantizeLinear", weight, *names, axis=1)
        bounds = [made.constant(bound, "int8") for bound in (-3, 3)]
        w = made.node("DequantizeLinear", made.node("Clip", codes, *bounds), *names, axis=1)
    real = made.node("ConvTranspose", x, w, strides=[2, 2])
    made.output(made.quantize(real, AFTER["int8"], output="y"), "int8")
    agrees(load_model(made.save(tmp_path / "m.onnx")), rng)


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("attributes", ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_layers_give_goldens_codes(
    tmp_path: Path, rng: np.random.Generator, attributes: dict[str, Any], group: int
) -> None:
    model = load_model(network("int8", attributes, group=group).save(tmp_path / "m.onnx"))
    codes = random_inputs(model, rng, 1)
    layers = lower(model.graph)
    found = {name: array[0] for name, array in codes.items()}
    run_layers(layers, found)
    expected = run_graph(model.graph, codes)
    for name in model.graph.outputs:
        np.testing.assert_array_equal(found[name], expected[name][0])
    assert backend.compile_model(model, board=ICEBREAKER, requant="exact").total_cycles > 0


def test_every_phase_writes_its_place_and_multiplies_no_zeros(tmp_path: Path) -> None:
    attributes = {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}
    model = load_model(network("int8", attributes, group=1).save(tmp_path / "m.onnx"))
    layers = lower(model.graph)
    assert [layer.kernel for layer in layers] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert [layer.output for layer in layers] == ["y"] * 4
    assert [layer.inner for layer in layers] == [True, True, True, False]
    assert sum(layer.macs for layer in layers) == 3 * 4 * (1 + 2 + 2 + 4) * 4 * 4


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "output padding": (
        {"strides": [2, 2], "output_padding": [2, 0]},
        "output_padding=[2, 0] with strides=[2, 2] is not supported",
    ),
    "output shape": (
        {"strides": [2, 2], "output_shape": [9, 9]},
        "output_shape [9, 9] is larger than [7, 9], all that the input reaches",
    ),
    "output shape with channels": (
        {"strides": [2, 2], "output_shape": [1, 4, 6, 7]},
        "output_shape=[1, 4, 6, 7] does not fit the input",
    ),
    "pads": ({"pads": [3, 3, 2, 2]}, "makes an image of 0 x 1"),
}


@pytest.mark.parametrize(("attributes", "message"), REFUSED.values(), ids=REFUSED)
def test_sizes_without_meaning_are_refused(
    tmp_path: Path, attributes: dict[str, Any], message: str
) -> None:
    path = network("int8", attributes).save(tmp_path / "m.onnx")
    with pytest.raises(QcompileError) as caught:
        load_model(path)
    assert message in caught.value.render()


def test_onnx_runtime_refuses_such_an_output_shape_too(tmp_path: Path) -> None:
    path = network("int8", REFUSED["output shape"][0]).save(tmp_path / "m.onnx")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match="output_shape is inconsistent"):
        session.run(None, {"x": np.zeros((1, 4, 3, 4), np.int8)})


def test_strides_with_too_many_phases_are_refused_at_once(tmp_path: Path) -> None:
    made = network("int8", {"strides": [300, 300]})
    with pytest.raises(UnsupportedError, match="300 x 300 different sets of taps, more than 128"):
        load_model(made.save(tmp_path / "m.onnx"))


def test_scales_of_input_channels_that_are_added_up_are_refused(tmp_path: Path) -> None:
    path = network("int8", {}, group=2, axis=0).save(tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError, match="weight scales run along axis 0"):
        load_model(path)
