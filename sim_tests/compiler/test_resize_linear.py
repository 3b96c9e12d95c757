"""Resize with mode linear: golden beside ONNX Runtime, layers beside golden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler import backend
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.golden.interpreter import run_graph, run_model
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from qcompile.hw.boards.icebreaker import ICEBREAKER
from sim_tests.compiler.agreement import random_inputs
from sim_tests.compiler.layer_runs import run_layers
from sim_tests.compiler.networks import Network, Parameters

BEFORE: dict[str, Parameters] = {"int8": (0.05, -17, "int8"), "uint8": (0.05, 255, "uint8")}
SAME_MODES = ("half_pixel", "asymmetric", "pytorch_half_pixel", "align_corners")
MODES = (*SAME_MODES, "half_pixel_symmetric", "tf_half_pixel_for_nn")
OPSETS = {"half_pixel_symmetric": 19, "tf_half_pixel_for_nn": 11}

FACTORS = {
    "twice": ((3, 4), (2, 2)),
    "three times": ((3, 4), (3, 3)),
    "four times, and not": ((4, 5), (4, 1)),
    "half": ((6, 8), (0.5, 0.5)),
    "half of an odd number": ((5, 7), (0.5, 0.5)),
    "a third": ((9, 6), (1 / 3, 1 / 3)),
    "up and down": ((4, 4), (2, 0.5)),
    "one and a half": ((4, 6), (1.5, 1)),
    "from one pixel": ((1, 1), (2, 3)),
    "to one pixel": ((4, 5), (0.25, 0.2)),
}


def network(
    dtype: str, size: tuple[int, ...], scales: tuple[float, ...], mode: str, after: Parameters
) -> Network:
    """A Resize of three channels, between codes."""
    made = Network(OPSETS.get(mode, 13))
    x = made.dequantize(made.input("x", dtype, [1, 3, *size]), BEFORE[dtype])
    factors = made.constant([1, 1, *scales], "float32")
    rest: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": mode}
    roi = "" if made.opset > 11 else made.constant([], "float32")
    made.output(
        made.quantize(made.node("Resize", x, roi, factors, **rest), after, output="y"), dtype
    )
    return made


@pytest.mark.parametrize("dtype", BEFORE)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("size", "scales"), FACTORS.values(), ids=FACTORS)
def test_images_are_within_a_step_of_onnx_runtime(
    tmp_path: Path,
    rng: np.random.Generator,
    size: tuple[int, int],
    scales: tuple[float, float],
    mode: str,
    dtype: str,
) -> None:
    for after in (BEFORE[dtype], (0.043, 9, dtype)):
        path = network(dtype, size, scales, mode, after).save(tmp_path / "m.onnx")
        model = load_model(path)
        inputs = random_inputs(model, rng, 10)
        reference = Reference(path, [])
        assert [island.tensor for island in reference.islands] == ["y"]
        found, expected = run_model(model, inputs)["y"], reference.run(inputs).outputs["y"]
        assert found.dtype == expected.dtype and found.shape == expected.shape
        assert np.abs(found.astype(np.int64) - expected).max() <= 1


@pytest.mark.parametrize("mode", SAME_MODES)
@pytest.mark.parametrize(("size", "scales"), FACTORS.values(), ids=FACTORS)
def test_layers_give_goldens_codes(
    tmp_path: Path,
    rng: np.random.Generator,
    size: tuple[int, int],
    scales: tuple[float, float],
    mode: str,
) -> None:
    made = network("int8", size, scales, mode, (0.04, 11, "int8"))
    model = load_model(made.save(tmp_path / "m.onnx"))
    codes = {
        name: rng.integers(-128, 128, model.graph.values[name].shape).astype(np.int8)
        for name in model.graph.inputs
    }
    layers = lower(model.graph)
    found = {name: array[0] for name, array in codes.items()}
    run_layers(layers, found)
    for name in model.graph.outputs:
        np.testing.assert_array_equal(found[name], run_graph(model.graph, codes)[name][0])
    assert backend.compile_model(model, board=ICEBREAKER, requant="exact").total_cycles > 0


@pytest.mark.parametrize("scale", [2.0, 0.5])
def test_lines_are_within_a_step_of_onnx_runtime(
    tmp_path: Path, rng: np.random.Generator, scale: float
) -> None:
    path = network("int8", (8,), (scale,), "half_pixel", (0.043, 9, "int8")).save(
        tmp_path / "m.onnx"
    )
    model = load_model(path)
    inputs = random_inputs(model, rng, 10)
    found, expected = run_model(model, inputs)["y"], Reference(path, []).run(inputs).outputs["y"]
    assert np.abs(found.astype(np.int64) - expected).max() <= 1


def refusal(path: Path) -> str:
    with pytest.raises(UnsupportedError) as caught:
        load_model(path)
    return caught.value.render()


def test_factors_without_small_whole_weights_are_refused(tmp_path: Path) -> None:
    parameters = BEFORE["int8"]
    for size, scales, mode, message in (
        ((4, 4), (10, 10), "half_pixel", "mode=linear needs weights up to 361; 255 is the largest"),
        ((4, 4), (1.37, 2), "half_pixel", "mode=linear with the scale 1.37"),
        ((40, 4), (2, 2), "align_corners", "reads between inputs in steps of 1/79"),
        ((12, 12), (1.25, 1.25), "align_corners", "14 x 14 different sets of taps"),
        ((4, 4), (2, 2), "tf_crop_and_resize", "tf_crop_and_resize with mode=linear"),
    ):
        made = network("int8", size, scales, mode, parameters)
        assert message in refusal(made.save(tmp_path / "m.onnx"))


def test_resize_of_codes_is_refused_because_onnx_runtime_truncates(tmp_path: Path) -> None:
    made = Network(13)
    x = made.input("x", "int8", [1, 1, 1, 4])
    factors = made.constant([1, 1, 1, 2], "float32")
    rest: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}
    y = made.node("Resize", x, "", factors, output="y", **rest)
    made.output(y, "int8")
    path = made.save(tmp_path / "m.onnx")
    codes = np.asarray([[[[-5, -4, 3, 8]]]], np.int8)
    theirs = Reference(path, []).run({"x": codes}).outputs["y"]
    assert theirs.reshape(-1).tolist() == [-5, -4, -4, 0, 3, 5, 8, 8]
    made.dequantize(y, BEFORE["int8"])
    assert "mode=linear of codes is not supported" in refusal(path)
