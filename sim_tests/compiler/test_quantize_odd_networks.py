"""Networks that are legal and odd: channels without weights, weights that are no matrices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from qcompile.compiler.cli import main
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.quantize import Options, load_float, quantize, save
from qcompile.compiler.quantize.layer import (
    layers_of,
    quantize_layer,
    scales_with_room,
    symmetric_scales,
)
from sim_tests.compiler.test_quantize import save_network


def network_with_dead_channels(path: Path) -> None:
    """Three layers; a channel of each first two has a bias and no weights, or next to none."""
    dice = np.random.default_rng(3)
    weights = {f"w{place}": dice.normal(size=(4, 4, 3, 3)) / 6 for place in range(3)}
    weights["w0"][1] = 0
    weights["w1"][2] *= 1e-30
    bias = {f"b{place}": np.array([0.1, 5, 2, -0.2]) for place in range(3)}
    names = ["x", "t0", "t1", "y"]
    nodes = []
    for place in range(3):
        made = names[place + 1]
        given = [names[place], f"w{place}", f"b{place}"]
        nodes.append(helper.make_node("Conv", given, [f"{made}/sums"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"{made}/sums"], [made]))
    constants = {name: one.astype(np.float32) for name, one in (weights | bias).items()}
    save_network(path, nodes, **constants)


@pytest.mark.parametrize(
    ("options", "least_db"),
    [
        (Options(), 30),
        (Options(scheme="shift"), 30),
        (Options(scheme="f8net"), 25),
        (Options(weights="codebook:16"), 15),
        (Options(weights="codebook:32", rounding="search", bias_correction=True), 25),
        (Options(equalize="weights"), 30),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_channel_without_weights_keeps_its_bias(
    tmp_path: Path, options: Options, least_db: float
) -> None:
    network_with_dead_channels(tmp_path / "net.onnx")
    x = np.random.default_rng(1).normal(size=(20, 4, 6, 6)).astype(np.float32)
    result = quantize(load_float(tmp_path / "net.onnx"), {"x": x}, options)
    assert min(one.sqnr_db for one in result.tensors) > least_db


def test_a_channel_without_weights_fits_an_array_of_shifts(tmp_path: Path) -> None:
    network_with_dead_channels(tmp_path / "net.onnx")
    x = np.abs(np.random.default_rng(1).normal(size=(20, 4, 6, 6))).astype(np.float32)
    options = Options(activations="log:8", log_step=16)
    save(quantize(load_float(tmp_path / "net.onnx"), {"x": x}, options).model, tmp_path / "log")
    assert main(["check", str(tmp_path / "log"), "--target", "ice40"]) == 0


@pytest.mark.parametrize(("kind", "groups"), [("Conv", 1), ("ConvTranspose", 2)])
def test_scales_leave_room_for_biases(tmp_path: Path, kind: str, groups: int) -> None:
    shape = (4, 4, 1, 1) if kind == "Conv" else (4, 2, 1, 1)
    bias = np.array([1.0, -1e9, 3.0, 1e3], np.float32)
    nodes = [helper.make_node(kind, ["x", "w", "b"], ["y"], name="layer", group=groups)]
    save_network(tmp_path / "net.onnx", nodes, w=np.zeros(shape, np.float32), b=bias)
    (layer,) = layers_of(load_float(tmp_path / "net.onnx"))
    step = np.float32(0.01)
    codes = quantize_layer(layer, scales_with_room(layer, symmetric_scales(layer), step), step)
    assert codes.bias is not None
    assert int(np.abs(codes.bias.astype(np.int64)).max()) <= 2**22
    steps = np.tile(codes.scales.astype(np.float64), layer.repeats) * float(step)
    assert (np.abs(codes.bias * steps - bias) <= 0.500001 * steps).all()


@pytest.mark.parametrize("shape", [(1, 6, 3), (6,)])
def test_weights_that_are_no_matrix_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    save_network(tmp_path / "net.onnx", nodes, w=np.ones(shape, np.float32))
    with pytest.raises(UnsupportedError, match=r"^net\.onnx: MatMul 'product' has weights that"):
        load_float(tmp_path / "net.onnx")


def test_a_normalization_by_computed_numbers_is_refused(tmp_path: Path) -> None:
    ones = np.ones(4, np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["t"], name="layer"),
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Reshape", ["mean", "shape"], ["gamma"]),
        helper.make_node("BatchNormalization", ["t", "gamma", "o", "o", "o"], ["y"], name="norm"),
    ]
    constants = {"w": np.ones((4, 4, 1, 1), np.float32), "o": ones, "shape": np.array([4])}
    save_network(tmp_path / "net.onnx", nodes, **constants)
    with pytest.raises(UnsupportedError, match=r"^net\.onnx: BatchNormalization 'norm' is not"):
        load_float(tmp_path / "net.onnx")


@pytest.mark.parametrize("size", [1e-7, 1e-9])
@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(weights="codebook:32"),
        Options(scheme="ternary"),
        Options(rounding="search", bias_correction=True),
    ],
)
def test_small_weights_throughout_cost_no_more_than_large_ones(
    tmp_path: Path, size: float, options: Options
) -> None:
    dice = np.random.default_rng(4)
    names, nodes = ["x", "t0", "t1", "y"], []
    weights = {f"w{place}": dice.normal(size=(4, 4, 3, 3)) / 6 for place in range(3)}
    for place, name in enumerate(names[1:]):
        nodes.append(helper.make_node("Conv", [names[place], f"w{place}"], [name], pads=[1] * 4))
    x = dice.normal(size=(20, 4, 6, 6)).astype(np.float32)
    noise = []
    for factor in (1.0, size):
        made = {name: (one * factor).astype(np.float32) for name, one in weights.items()}
        save_network(tmp_path / "net.onnx", nodes, **made)
        result = quantize(load_float(tmp_path / "net.onnx"), {"x": x}, options)
        noise.append([one.sqnr_db for one in result.tensors])
    np.testing.assert_allclose(noise[1], noise[0], atol=1)


def test_layers_whose_weights_are_all_zero_keep_a_scale(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="layer")]
    save_network(tmp_path / "net.onnx", nodes, w=np.zeros((4, 4, 1, 1), np.float32))
    (layer,) = layers_of(load_float(tmp_path / "net.onnx"))
    assert (symmetric_scales(layer) > np.finfo(np.float32).tiny).all()
