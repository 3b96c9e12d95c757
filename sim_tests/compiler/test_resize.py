"""Resize with mode nearest: every way to compute coordinates, position by position."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler.errors import QcompileError
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from sim_tests.compiler.networks import Network, Parameters, random_codes

INT8 = (0.0417, 5, "int8")
UINT8 = (0.0417, 121, "uint8")


def resized(
    opset: int,
    image: tuple[int, ...],
    parameters: Parameters,
    operands: list[Any],
    **attributes: Any,
) -> Network:
    """A layer, Resize and a layer."""
    network = Network(opset)
    x = network.input("x", parameters[2], (1, *image))
    real = network.dequantize(x, parameters)
    codes = network.quantize(network.node("Add", real, real), parameters)
    names = []
    for operand in operands:
        dtype = "" if operand is None else "int64" if isinstance(operand[0], int) else "float32"
        names.append("" if operand is None else network.constant(operand, dtype))
    real = network.node("Resize", network.dequantize(codes, parameters), *names, **attributes)
    real = network.dequantize(network.quantize(real, parameters), parameters)
    network.output(network.quantize(network.node("Add", real, real), parameters), parameters[2])
    return network


def check(path: Path, rng: np.random.Generator, image: tuple[int, ...], dtype: str) -> None:
    inputs = {"x": random_codes(rng, (2, *image), dtype)}
    (expected,) = Reference(path, ()).run(inputs).outputs.values()
    (got,) = run_model(load_model(path), inputs).values()
    assert got.shape == expected.shape
    assert np.array_equal(got, expected)


COORDINATES = [
    *("align_corners", "asymmetric", "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel"),
    "tf_half_pixel_for_nn",
]


@pytest.mark.parametrize("nearest", ["ceil", "floor", "round_prefer_ceil", "round_prefer_floor"])
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_scales_and_sizes_equal_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, coordinates: str, nearest: str
) -> None:
    modes = {"coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
    for number in range(8):
        image = tuple(int(d) for d in rng.integers([1, 1, 1], [4, 40, 40]))
        parameters = INT8 if number % 2 else UINT8
        opset = 19 if coordinates == "half_pixel_symmetric" else 13
        if number < 4:
            scales = [
                1.0,
                1.0,
                *(float(s) for s in rng.choice([0.25, 0.5, 0.37, 1.0, 1.7, 2.0, 3.0], 2)),
            ]
            if min(int(np.float32(s) * d) for s, d in zip(scales[2:], image[1:], strict=True)) < 1:
                continue
            operands: list[Any] = [None, scales]
        else:
            operands = [None, None, [1, image[0], *(int(s) for s in rng.integers(1, 50, 2))]]
        network = resized(opset, image, parameters, operands, mode="nearest", **modes)
        check(network.save(tmp_path / f"{number}.onnx"), rng, image, parameters[2])


@pytest.mark.parametrize("scale", [0.5, 0.3, 2.0, 2.6])
def test_resize_of_opset_10_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, scale: float
) -> None:
    network = resized(10, (3, 7, 6), UINT8, [[1.0, 1.0, scale, 2.0]], mode="nearest")
    check(network.save(tmp_path / "resize.onnx"), rng, (3, 7, 6), "uint8")


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
@pytest.mark.parametrize("sizes", [[9, 17], [5, 3], [14, 12], [1, 1]])
def test_axes_and_policies_of_opset_18_equal_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, sizes: list[int], policy: str
) -> None:
    attributes = {"axes": [3, 2], "keep_aspect_ratio_policy": policy}
    network = resized(18, (3, 7, 6), INT8, [None, None, sizes], mode="nearest", **attributes)
    check(network.save(tmp_path / "resize.onnx"), rng, (3, 7, 6), "int8")


def test_region_of_tf_crop_and_resize_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    region = [0.0, 0.0, 0.2, 0.4, 1.0, 1.0, 0.7, 0.9]
    for height, width in ((5, 9), (1, 3), (11, 1)):
        network = resized(
            13,
            (3, 8, 9),
            INT8,
            [region, None, [1, 3, height, width]],
            mode="nearest",
            coordinate_transformation_mode="tf_crop_and_resize",
        )
        check(network.save(tmp_path / "resize.onnx"), rng, (3, 8, 9), "int8")


def test_mode_cubic_is_refused(tmp_path: Path) -> None:
    network = resized(13, (3, 8, 9), INT8, [None, [1.0, 1.0, 2.0, 2.0]], mode="cubic", name="r")
    message = (
        r"^m\.onnx: Resize 'r' \(node 4\): mode=cubic is not supported\n"
        r"  input 'dequantizelinear11' float32\[1,3,8,9\]; constant 'constant8' float32\[4\]\n"
        r"  help: only nearest and linear$"
    )
    with pytest.raises(QcompileError, match=message):
        load_model(network.save(tmp_path / "m.onnx"))
