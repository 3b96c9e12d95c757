"""What is refused of quantized operators: one message that names the culprit and a way out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper

from qcompile.compiler.errors import ModelError, QcompileError, UnsupportedError
from qcompile.compiler.pipeline import load_model
from sim_tests.compiler.networks import Network
from sim_tests.compiler.qoperator_networks import MICROSOFT, single, tensor

U8 = (0.05, 100, "uint8")


def refused(network: Network, path: Path, family: type[QcompileError], *lines: str) -> None:
    """Loading fails with exactly these lines."""
    network.save(path)
    with pytest.raises(family, match=rf"^{re.escape(chr(10).join(lines))}$") as caught:
        load_model(path)
    assert type(caught.value) is family


def qlinear_conv(
    *,
    scale: npt.ArrayLike = 0.01,
    bias: str = "",
) -> Network:
    """QLinearConv 'q' of x uint8 [1, 4, 6, 6] with constants 'w', 'ws', 'wz'."""
    network = Network()
    x = tensor(network, network.input("x", "uint8", (1, 4, 6, 6)), U8)
    w = [
        network.constant(np.ones((4, 4, 1, 1)), "int8", "w"),
        network.constant(scale, "float32", "ws"),
        network.constant(0, "int8", "wz"),
    ]
    b = [network.constant(np.ones(4), bias, "b")] if bias else []
    return single(network, "QLinearConv", [*x, *w, *tensor(network, "", U8), *b], "uint8")


CONTEXT = (
    "  input 'x' uint8[1,4,6,6]; constant 'constant1' float32[]; constant 'constant2' uint8[]; "
    "constant 'w' int8[4,4,1,1]; constant 'ws' float32{}; constant 'wz' int8[]; "
    "constant 'constant3' float32[]; constant 'constant4' uint8[]{}"
)


def test_bias_of_another_type_is_refused(tmp_path: Path) -> None:
    refused(
        qlinear_conv(bias="float32"),
        tmp_path / "m.onnx",
        ModelError,
        "m.onnx: QLinearConv 'q' (node 0): bias 'b' has type float32, not int32",
        CONTEXT.format("[]", "; constant 'b' float32[4]"),
    )


def test_scales_of_another_number_than_channels_are_refused(tmp_path: Path) -> None:
    refused(
        qlinear_conv(scale=[0.1, 0.2, 0.3]),
        tmp_path / "m.onnx",
        ModelError,
        "m.onnx: QLinearConv 'q' (node 0): scale [3] and zero point [] do not fit axis 0 "
        "of [4, 4, 1, 1]",
        CONTEXT.format("[3]", ""),
    )


def test_scale_that_is_none_is_refused(tmp_path: Path) -> None:
    refused(
        qlinear_conv(scale=-0.5),
        tmp_path / "m.onnx",
        ModelError,
        "m.onnx: QLinearConv 'q' (node 0): scale 'ws' holds -0.5",
        CONTEXT.format("[]", ""),
        "  help: a scale must be finite and above 0; quantize the model again",
    )


def test_scale_that_is_computed_is_refused(tmp_path: Path) -> None:
    network = Network()
    x = tensor(network, network.input("x", "uint8", (1, 4)), U8)
    x[1] = network.input("s", "float32", (1,))
    w = tensor(network, network.constant(np.ones((4, 4)), "int8", "w"), (0.01, 0, "int8"))
    single(network, "QLinearMatMul", [*x, *w, *tensor(network, "", U8)], "uint8")
    refused(
        network,
        tmp_path / "m.onnx",
        UnsupportedError,
        "m.onnx: QLinearMatMul 'q' (node 0): scale 's' is computed at run time",
        "  input 'x' uint8[1,4]; input 's' float32[1]; constant 'constant2' uint8[]; "
        "constant 'w' int8[4,4]; constant 'constant3' float32[]; constant 'constant4' int8[]; "
        "constant 'constant5' float32[]; constant 'constant6' uint8[]",
        "  help: export the model with a constant scale",
    )


def test_product_of_two_activations_is_refused(tmp_path: Path) -> None:
    network = Network()
    a = tensor(network, network.input("x", "uint8", (1, 4)), U8)
    b = tensor(network, network.input("z", "uint8", (1, 4)), U8)
    codes = network.node("Reshape", b[0], network.constant([4, 1], "int64"))
    single(network, "QLinearMatMul", [*a, codes, *b[1:], *tensor(network, "", U8)], "uint8")
    refused(
        network,
        tmp_path / "m.onnx",
        UnsupportedError,
        "m.onnx: QLinearMatMul 'q' (node 1): weight 'y:b' is computed at run time",
        "  input 'y:a' float32[1,4]",
        "  input 'y:b' float32[4,1]",
        "  help: use a constant weight: products of two activations, as in attention, do not run "
        "on the accelerator; end the network in front of them",
    )


def test_codes_of_16_bits_are_refused(tmp_path: Path) -> None:
    network = Network()
    network.inputs.append(helper.make_tensor_value_info("x", TensorProto.INT16, [1, 4]))
    names = [network.constant(0.05, "float32"), network.constant(0, "int16")]
    operands = ["x", *names, *tensor(network, "", U8)]
    single(network, "QLinearSigmoid", operands, "uint8", domain=MICROSOFT)
    refused(
        network,
        tmp_path / "m.onnx",
        UnsupportedError,
        "m.onnx: QLinearSigmoid 'q' (node 0): input 'x' has type int16",
        "  input 'x' int16[1,4]; constant 'constant1' float32[]; constant 'constant2' int16[]; "
        "constant 'constant3' float32[]; constant 'constant4' uint8[]",
        "  help: only int8 and uint8 are supported",
    )


def test_blocks_of_scales_are_refused(tmp_path: Path) -> None:
    network = Network(21)
    x = network.input("x", "uint8", (1, 4))
    scale = network.constant([[0.1, 0.2]], "float32", "s")
    real = network.node("DequantizeLinear", x, scale, name="d", block_size=2, axis=1)
    network.output(network.quantize(real, U8, output="y"), "uint8")
    refused(
        network,
        tmp_path / "m.onnx",
        UnsupportedError,
        "m.onnx: DequantizeLinear 'd' (node 0): block_size=2 is not supported",
        "  input 'x' uint8[1,4]; constant 's' float32[1,2]",
        "  help: use one scale a tensor or a channel",
    )


def test_gemm_that_ends_in_float_is_no_layer(tmp_path: Path) -> None:
    network = Network()
    a = tensor(network, network.input("x", "uint8", (1, 4)), U8)
    b = tensor(network, network.constant(np.ones((4, 4)), "int8"), (0.01, 0, "int8"))
    single(network, "QGemm", [*a, *b], "float32", domain=MICROSOFT)
    refused(
        network,
        tmp_path / "m.onnx",
        UnsupportedError,
        "m.onnx: has no operator for the accelerator",
        "  help: the model needs at least one quantized Conv, MatMul, Gemm, AveragePool or Add",
    )


def test_operator_of_a_known_domain_that_is_not_read_is_named(tmp_path: Path) -> None:
    network = Network()
    x = network.input("x", "uint8", (1, 4))
    single(network, "QLinearReduceMean", tensor(network, x, U8), "uint8", domain=MICROSOFT)
    refused(
        network,
        tmp_path / "m.onnx",
        UnsupportedError,
        "m.onnx: QLinearReduceMean 'q' (node 0): the operator is not supported",
        "  input 'x' uint8[1,4]; constant 'constant1' float32[]; constant 'constant2' uint8[]",
        "  help: quantize in QDQ form: quantize_static(..., quant_format=QuantFormat.QDQ)",
    )


def test_gemm_with_a_bias_of_another_scale_is_refused(tmp_path: Path) -> None:
    network = Network()
    x = network.dequantize(network.input("x", "uint8", (1, 4)), U8)
    w = network.weight(np.ones((4, 4), np.int8), 0.01)
    b = network.weight(np.array([0, 5, 6, 7], np.int32), 0.001)
    network.output(network.quantize(network.node("Gemm", x, w, b, name="g"), U8), "uint8")
    refused(
        network,
        tmp_path / "m.onnx",
        UnsupportedError,
        "m.onnx: Gemm 'g' (node 3): bias scale is 2 times input scale * weight scale",
        "  input 'dequantizelinear3' float32[1,4]",
        "  input 'dequantizelinear7' float32[4,4]",
        "  input 'dequantizelinear11' float32[4]",
        "  help: quantize the bias with the product of input scale and weight scale",
    )
