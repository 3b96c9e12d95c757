"""Models that drop, move or compute along the batch's axis, against ONNX Runtime."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from sim_tests.compiler.networks import Network, random_codes, random_conv

SAMPLES = 3
FIRST = (0.0631, -11, "int8")
SECOND = (0.0417, 5, "int8")

Tail = Callable[[Network, str], str]
"""Nodes behind a float image [1, 4, 3, 3] or vector [1, 4, 1, 1]; the name of the last result."""


def network_with(tail: Tail, *, kernel: int) -> Network:
    """A Conv with 4 output channels whose dequantized result goes through `tail`."""
    rng = np.random.default_rng(1)
    network = Network()
    x = network.input("x", "int8", (1, 3, 6, 6))
    y = random_conv(network, rng, x, (4, 3, kernel, kernel), (FIRST, SECOND))
    network.output(tail(network, network.dequantize(y, SECOND)), "float32")
    return network


def check(path: Path, rng: np.random.Generator) -> None:
    """Golden's outputs for several samples are ONNX Runtime's for each one, stacked."""
    inputs = {"x": random_codes(rng, (SAMPLES, 3, 6, 6), "int8")}
    got = run_model(load_model(path), inputs)
    for name, expected in Reference(path, ()).run(inputs).outputs.items():
        assert got[name].shape == expected.shape
        assert np.array_equal(got[name], expected), name


def node(operator: str, **attributes: Any) -> Tail:
    """A tail of one node."""
    return lambda network, x: network.node(operator, x, **attributes)


def chain(*tails: Tail) -> Tail:
    """One tail behind the other."""

    def build(network: Network, x: str) -> str:
        for tail in tails:
            x = tail(network, x)
        return x

    return build


def reshape(*shape: int) -> Tail:
    """A Reshape."""
    return lambda network, x: network.node("Reshape", x, network.constant(shape, "int64"))


@pytest.mark.parametrize(
    ("kernel", "tail"),
    [
        (6, node("Squeeze")),
        (6, chain(node("Squeeze"), node("Softmax", axis=0))),
        (6, chain(reshape(1, 4), node("Transpose"))),
        (6, chain(reshape(1, 4), node("Softmax", axis=0))),
        (6, chain(reshape(4), reshape(1, 2, 2), node("Transpose", perm=[2, 1, 0]))),
        (4, node("Transpose", perm=[1, 0, 3, 2])),
        (4, chain(node("Squeeze"), node("Transpose"), node("Softmax", axis=-1))),
        (4, chain(node("Squeeze"), node("Transpose", perm=[0, 2, 1]), reshape(1, 12, 3))),
        (4, chain(reshape(1, 1, 4, 9), node("Transpose", perm=[1, 3, 2, 0]))),
    ],
)
def test_result_without_the_batch_axis_equals_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, kernel: int, tail: Tail
) -> None:
    check(network_with(tail, kernel=kernel).save(tmp_path / "tail.onnx"), rng)


def test_input_may_lose_the_batch_axis_before_the_first_layer(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 3, 6, 6))
    turned = chain(node("Squeeze"), node("Transpose"), reshape(1, 6, 6, 3))(
        network, network.dequantize(x, FIRST)
    )
    codes = network.quantize(turned, FIRST)
    network.output(random_conv(network, rng, codes, (4, 6, 3, 3), (FIRST, SECOND)), "int8")
    check(network.save(tmp_path / "head.onnx"), rng)


def test_batch_axis_dropped_between_layers_is_refused(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 3, 6, 6))
    y = random_conv(network, rng, x, (4, 3, 1, 1), (FIRST, SECOND))
    split = reshape(4, 1, 6, 6)(network, network.dequantize(y, SECOND))
    network.node("Relu", split, output="relu")
    codes = network.quantize("relu", SECOND)
    joined = network.quantize(
        reshape(1, 4, 6, 6)(network, network.dequantize(codes, SECOND)), SECOND
    )
    network.output(random_conv(network, rng, joined, (4, 4, 1, 1), (SECOND, FIRST)), "int8")
    help = "    help: the host runs one sample a time, before the first and after the last layer"
    lines = (
        "middle.onnx: 2 problems",
        "  middle.onnx: Reshape 'reshape20' (node 6): does not keep the batch as the first axis",
        "    input 'quantizelinear15' int8[1,4,6,6]",
        help,
        "  middle.onnx: Relu 'relu' (node 7): does not keep the batch as the first axis",
        "    input 'reshape20:codes' int8[4,1,6,6]",
        help,
    )
    with pytest.raises(UnsupportedError, match=rf"^{re.escape(chr(10).join(lines))}$"):
        load_model(network.save(tmp_path / "middle.onnx"))
