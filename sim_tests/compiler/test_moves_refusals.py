"""What selections and pools refuse: one message that names the culprit and a way out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler.errors import QcompileError
from qcompile.compiler.pipeline import load_model
from sim_tests.compiler.networks import Network

INT8 = (0.05, 3, "int8")

X = "input 'x_real' float32[1,4,6,6]"


def refused(network: Network, folder: Path, *lines: str) -> None:
    """Loading fails with exactly these lines."""
    path = network.save(folder / "m.onnx")
    with pytest.raises(QcompileError, match=rf"^m\.onnx: {re.escape(chr(10).join(lines))}$"):
        load_model(path)


def one_operator(operator: str, *constants: Any, opset: int = 13, **attributes: Any) -> Network:
    """DequantizeLinear, the operator `o` with constants k0, k1, ..., QuantizeLinear."""
    network = Network(opset)
    x = network.input("x", "int8", (1, 4, 6, 6))
    scale, zero = network.constant(0.05, "float32"), network.constant(3, "int8")
    real = network.node("DequantizeLinear", x, scale, zero, output="x_real")
    names = [
        network.constant(value, "float32" if isinstance(value, float) else "int64", f"k{number}")
        for number, value in enumerate(constants)
    ]
    result = network.node(operator, real, *names, name="o", output="o_out", **attributes)
    network.output(network.quantize(result, INT8, output="y"), "int8")
    return network


CASES: list[tuple[Network, tuple[str, ...]]] = [
    (
        one_operator("Slice", [7], [9], [2]),
        (
            "Slice 'o' (node 1): makes an empty tensor [1, 4, 0, 6]",
            f"  {X}; constant 'k0' int64[1]; constant 'k1' int64[1]; constant 'k2' int64[1]",
            "  help: remove the operator",
        ),
    ),
    (
        one_operator("Pad", [0, 0, 6, 0, 0, 0, 0, 0], mode="reflect"),
        (
            "Pad 'o' (node 1): reflects 6 of 6 values",
            f"  {X}; constant 'k0' int64[8]",
            "  help: reflect less than the axis",
        ),
    ),
    (
        one_operator("Pad", [0, 0, -1, 0, 0, 0, 0, 0], mode="edge"),
        (
            "Pad 'o' (node 1): mode=edge with negative pads is not supported",
            f"  {X}; constant 'k0' int64[8]",
            "  help: use Slice",
        ),
    ),
    (
        one_operator("Pad", [0, 0, 1, 0, 0, 0, 0, 0], float("nan")),
        (
            "Pad 'o' (node 1): constant_value is not a number (NaN)",
            f"  {X}; constant 'k0' int64[8]; constant 'k1' float32[]",
        ),
    ),
    (
        one_operator("Gather", [0, 4], axis=1),
        (
            "Gather 'o' (node 1): indices 0..4 are not all of 4 values",
            f"  {X}; constant 'k0' int64[2]",
        ),
    ),
    (
        one_operator("DepthToSpace", blocksize=3),
        ("DepthToSpace 'o' (node 1): blocksize=3 does not divide 4 channels", f"  {X}"),
    ),
    (
        one_operator("MaxPool", kernel_shape=[2, 2], pads=[2, 0, 0, 0]),
        (
            "MaxPool 'o' (node 1): pads=[2, 0, 0, 0] reach a whole kernel [2, 2] beyond the image",
            f"  {X}",
            "  help: pad less than the kernel",
        ),
    ),
    (
        one_operator("AveragePool", kernel_shape=[2, 2], dilations=[2, 2], opset=19),
        (
            "AveragePool 'o' (node 1): dilations=[2, 2] is not supported",
            f"  {X}",
            "  help: use [1, 1]",
        ),
    ),
    (
        one_operator("ReduceMax", axes=[0]),
        (
            "ReduceMax 'o' (node 1): reduces axes [0] of [1, 4, 6, 6]",
            f"  {X}",
            "  help: keep axis 0, the batch",
        ),
    ),
]


@pytest.mark.parametrize(("network", "lines"), CASES)
def test_operator_is_refused(tmp_path: Path, network: Network, lines: tuple[str, ...]) -> None:
    refused(network, tmp_path, *lines)


def test_places_of_maxima_are_refused(tmp_path: Path) -> None:
    network = one_operator("MaxPool", kernel_shape=[2, 2])
    network.nodes[1].output.append("places")
    refused(
        network,
        tmp_path,
        "MaxPool 'o' (node 1): has 2 outputs; only the first is supported",
        f"  {X}",
    )


def test_function_behind_the_maximum_of_a_float_result_is_refused(tmp_path: Path) -> None:
    network = Network(13)
    x = network.dequantize(network.input("x", "int8", (1, 4, 6, 6)), INT8)
    w = network.weight(np.ones((4, 4, 1, 1), np.int8), 0.01)
    real = network.node("MaxPool", network.node("Conv", x, w), name="p", kernel_shape=[2, 2])
    real = network.node("Sigmoid", real, name="s", output="s_out")
    network.output(network.quantize(real, INT8, output="y"), "int8")
    refused(
        network,
        tmp_path,
        "Sigmoid 's' (node 4): Sigmoid reads the float result of MaxPool",
        "  input 'maxpool9' float32[1,4,5,5]",
        "  help: add QuantizeLinear and DequantizeLinear in front of Sigmoid",
    )


def test_infinite_padding_on_the_host_is_refused(tmp_path: Path) -> None:
    network = Network(13)
    x = network.input("x", "float32", (1, 4, 6, 6))
    pads = network.constant([0, 0, 1, 1, 0, 0, 1, 1], "int64", "pads")
    value = network.constant(-np.inf, "float32", "value")
    codes = network.quantize(network.node("Pad", x, pads, value, name="o"), INT8)
    pooled = network.node("MaxPool", network.dequantize(codes, INT8), kernel_shape=[2, 2])
    network.output(network.quantize(pooled, INT8, output="y"), "int8")
    refused(
        network,
        tmp_path,
        "Pad 'o' (node 0): fills a float tensor with -inf",
        "  input 'x' float32[1,4,6,6]",
        "  help: pad with a finite number",
    )
