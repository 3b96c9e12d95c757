"""Cross-layer equalization: the same network, channels that suit each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from onnx import helper

from qcompile.compiler.quantize.equalize import equalize, relu_for_clip
from qcompile.compiler.quantize.observe import Observations
from qcompile.compiler.quantize.options import Equalization
from qcompile.compiler.quantize.prepare import Network, load_float
from sim_tests.compiler.test_quantize import save_network

Array = npt.NDArray[Any]


def result_of(network: Network, x: Array) -> Array:
    session = ort.InferenceSession(network.to_model().SerializeToString())
    return np.concatenate([np.asarray(session.run(None, {"x": one[None]})[0]) for one in x])


def uneven_network(path: Path, *, transposed: bool = False) -> tuple[Network, Array]:
    """Pointwise, depthwise, grouped and pooled layers up to Gemm, channels of unlike ranges."""
    dice = np.random.default_rng(8)
    kind = "ConvTranspose" if transposed else "Conv"
    constants = {
        "w1": dice.normal(size=(8, 4, 1, 1)) * np.geomspace(0.01, 3, 8).reshape(8, 1, 1, 1),
        "b1": dice.normal(size=8),
        "w2": dice.normal(size=(8, 1, 3, 3)) * np.geomspace(1, 0.02, 8).reshape(8, 1, 1, 1),
        "b2": dice.normal(size=8),
        "w3": dice.normal(size=(8, 3, 1, 1) if transposed else (6, 4, 1, 1)),
        "w4": dice.normal(size=(6 * 36, 5)),
        "b4": dice.normal(size=5),
    }
    shape = np.array([1, -1], np.int64)
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["t1"], name="pointwise"),
        helper.make_node("Relu", ["t1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["t2"], name="depth", group=8, pads=[1] * 4),
        helper.make_node("Relu", ["t2"], ["r2"]),
        helper.make_node(kind, ["r2", "w3"], ["t3"], name="grouped", group=2),
        helper.make_node("MaxPool", ["t3"], ["p"], kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Reshape", ["p", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["y"], name="last"),
    ]
    arrays = {name: array.astype(np.float32) for name, array in constants.items()}
    save_network(path / "net.onnx", nodes, **arrays, shape=shape)
    x = dice.normal(size=(12, 4, 6, 6)).astype(np.float32)
    return load_float(path / "net.onnx"), x


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("source", ["weights", "activations"])
def test_equalized_network_is_the_same(
    tmp_path: Path, source: Equalization, transposed: bool
) -> None:
    network, x = uneven_network(tmp_path, transposed=transposed)
    before = result_of(network, x)
    assert equalize(network, Observations(network, {"x": x}), source) == 3
    after = result_of(network, x)
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-4 * np.abs(before).max())


def test_weights_of_both_sides_have_ranges_in_one_ratio_afterwards(tmp_path: Path) -> None:
    network, x = uneven_network(tmp_path)
    equalize(network, Observations(network, {"x": x}), "weights")
    nodes = {node.name: node for node in network.nodes}
    weights = {name: network.constants[nodes[name].input[1]] for name in nodes if name in
               ("pointwise", "depth", "grouped", "last")}  # fmt: skip
    front = np.abs(weights["pointwise"]).max(axis=(1, 2, 3))
    middle = np.abs(weights["depth"]).max(axis=(1, 2, 3))
    ratio = front / middle  # s = sqrt(r1 / r2) makes it the same number for every channel
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=0.01)
    grouped = weights["grouped"].reshape(2, 3, 4)  # channel 4 * g + k is read by group g at k
    behind = np.abs(grouped).max(axis=1).reshape(-1)
    np.testing.assert_allclose(middle / behind, (middle / behind).mean(), rtol=0.01)
    runs = np.abs(weights["last"]).reshape(6, 36, 5).max(axis=(1, 2))
    outs = np.abs(weights["grouped"]).max(axis=(1, 2, 3))
    np.testing.assert_allclose(outs / runs, (outs / runs).mean(), rtol=0.01)


def test_a_tensor_that_two_nodes_read_or_that_is_an_output_stays(tmp_path: Path) -> None:
    dice = np.random.default_rng(9)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["t"], name="one"),
        helper.make_node("Conv", ["t", "w"], ["u"], name="two"),
        helper.make_node("Add", ["t", "u"], ["y"], name="sum"),
    ]
    weights = dice.normal(size=(4, 4, 1, 1)).astype(np.float32)
    save_network(tmp_path / "net.onnx", nodes, w=weights)
    network = load_float(tmp_path / "net.onnx")
    x = dice.normal(size=(2, 4, 6, 6)).astype(np.float32)
    assert equalize(network, Observations(network, {"x": x}), "weights") == 0
    np.testing.assert_array_equal(network.constants["w"], weights)


def test_relu6_is_a_barrier_until_it_is_a_relu(tmp_path: Path) -> None:
    dice = np.random.default_rng(10)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["t"], name="one"),
        helper.make_node("Clip", ["t", "low", "high"], ["r"], name="relu6"),
        helper.make_node("Conv", ["r", "w"], ["y"], name="two"),
    ]
    constants = {"w": dice.normal(size=(4, 4, 1, 1)), "low": np.zeros(()), "high": np.array(6.0)}
    save_network(
        tmp_path / "net.onnx", nodes, **{k: v.astype(np.float32) for k, v in constants.items()}
    )
    network = load_float(tmp_path / "net.onnx")
    x = dice.uniform(-0.1, 0.1, size=(2, 4, 6, 6)).astype(np.float32)
    before = result_of(network, x)
    assert equalize(network, Observations(network, {"x": x}), "weights") == 0
    assert relu_for_clip(network) == 1
    assert equalize(network, Observations(network, {"x": x}), "weights") == 1
    np.testing.assert_allclose(result_of(network, x), before, rtol=1e-4, atol=1e-5)
    one, two = (network.constants[node.input[1]] for node in network.nodes if node.name != "relu6")
    assert not np.array_equal(one, two)  # they shared one array, each has its own now
