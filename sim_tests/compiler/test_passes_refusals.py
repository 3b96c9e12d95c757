"""What the passes refuse: groups of operators that have no exact integer form."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from qcompile.compiler.errors import InputError, UnsupportedError
from qcompile.compiler.pipeline import load_model
from sim_tests.compiler.networks import Network

INT8 = (0.05, 3, "int8")


def refused(path: Path, *lines: str, requant: Literal["exact", "shift"] = "exact") -> None:
    """Loading fails with exactly these lines."""
    with pytest.raises(UnsupportedError, match=rf"^{re.escape(chr(10).join(lines))}$"):
        load_model(path, requant=requant)


def add_conv(network: Network, x: str, **attributes: object) -> str:
    """Quantized Conv of the codes x with weight [4, 4, 1, 1], called `c`; the codes."""
    w = network.weight(np.ones((4, 4, 1, 1), np.int8), 0.01)
    operands = (network.dequantize(x, INT8), w)
    y = network.node("Conv", *operands, name="c", output="c_out", **attributes)
    return network.quantize(y, INT8, output="c_codes")


def test_float_bias_beyond_the_sums_is_refused(tmp_path: Path) -> None:
    network = Network()
    x = network.dequantize(network.input("x", "int8", (1, 4, 8, 8)), INT8)
    w = network.weight(np.ones((4, 4, 1, 1), np.int8), 0.01)
    b = network.constant([0, 3e38, 6, 7], "float32", name="b")
    y = network.node("Conv", x, w, b, name="c", output="c_out")
    network.output(network.quantize(y, INT8, output="y"), "int8")
    refused(
        network.save(tmp_path / "m.onnx"),
        "m.onnx: Conv 'c' (node 2): bias reaches inf times input scale * weight scale, beyond 32 "
        "bits",
        "  input 'dequantizelinear3' float32[1,4,8,8]",
        "  input 'dequantizelinear7' float32[4,4,1,1]",
        "  input 'b' float32[4]",
        "  help: check the bias: a dead channel should have the bias 0",
    )


def test_bias_with_another_scale_is_refused(tmp_path: Path) -> None:
    network = Network()
    x = network.dequantize(network.input("x", "int8", (1, 4, 8, 8)), INT8)
    w = network.weight(np.ones((4, 4, 1, 1), np.int8), 0.01)
    b = network.weight(np.array([0, 5, 6, 7], np.int32), 0.001)
    y = network.node("Conv", x, w, b, name="c", output="c_out")
    network.output(network.quantize(y, INT8, output="y"), "int8")
    refused(
        network.save(tmp_path / "m.onnx"),
        "m.onnx: Conv 'c' (node 3): bias scale is 2 times input scale * weight scale",
        "  input 'dequantizelinear3' float32[1,4,8,8]",
        "  input 'dequantizelinear7' float32[4,4,1,1]",
        "  input 'dequantizelinear11' float32[4]",
        "  help: quantize the bias with the product of input scale and weight scale",
    )


def test_weight_scales_along_the_wrong_axis_are_refused(tmp_path: Path) -> None:
    network = Network()
    x = network.dequantize(network.input("x", "int8", (1, 4)), INT8)
    w = network.weight(np.ones((4, 4), np.int8), [0.01, 0.02, 0.03, 0.04], axis=0)
    network.output(network.quantize(network.node("MatMul", x, w), INT8, output="y"), "int8")
    refused(
        network.save(tmp_path / "m.onnx"),
        "m.onnx: MatMul 'matmul8' (node 2): weight scales run along axis 0",
        "  input 'dequantizelinear3' float32[1,4]",
        "  input 'dequantizelinear7' float32[4,4]",
        "  help: quantize weights per tensor or per output channel (axis 1)",
    )


def test_codes_that_are_read_with_other_parameters_are_refused(tmp_path: Path) -> None:
    network = Network()
    codes = add_conv(network, network.input("x", "int8", (1, 4, 8, 8)))
    network.output(network.dequantize(codes, (0.06, 3, "int8")), "float32")
    refused(
        network.save(tmp_path / "m.onnx"),
        "m.onnx: DequantizeLinear 'dequantizelinear12' (node 4): reads 'c_codes' with scale "
        "0.0599999987 and zero point 3, but it was made with 0.0500000007 and 3",
        "  input 'c_codes' int8[1,4,8,8]",
        "  help: give QuantizeLinear and DequantizeLinear of one tensor the same parameters",
    )


def test_constant_of_more_than_256_values_is_refused(tmp_path: Path) -> None:
    network = Network()
    x = network.dequantize(network.input("x", "int8", (1, 300)), INT8)
    constant = network.constant(np.arange(300) / 7, "float32", name="k")
    total = network.node("Mul", x, constant, name="a")
    network.output(network.quantize(total, INT8, output="y"), "int8")
    refused(
        network.save(tmp_path / "m.onnx"),
        "m.onnx: Mul 'a' (node 1): its constants have 300 different values",
        "  input 'dequantizelinear3' float32[1,300]",
        "  help: use constants with at most 256 different values, or fold them into a layer",
    )


def test_host_operation_between_two_layers_is_refused(tmp_path: Path) -> None:
    network = Network()
    codes = add_conv(network, network.input("x", "int8", (1, 4, 8, 8)))
    real = network.dequantize(codes, INT8)
    shares = network.quantize(network.node("Softmax", real, name="s", axis=1), INT8)
    w = network.weight(np.ones((4, 4, 3, 1), np.int8), 0.01)
    y = network.node("Conv", network.dequantize(shares, INT8), w)
    network.output(network.quantize(y, INT8), "int8")
    refused(
        network.save(tmp_path / "m.onnx"),
        "m.onnx: Softmax 's' (node 5): stands between two layers",
        "  input 'c_codes' int8[1,4,8,8]",
        "  help: add --softmax chip, which computes it there, within one step of ONNX Runtime",
    )


def test_sums_beyond_32_bits_are_refused(tmp_path: Path) -> None:
    network = Network()
    x = network.dequantize(network.input("x", "int8", (1, 4, 8, 8)), INT8)
    w = network.weight(np.ones((4, 4, 1, 1), np.int8), 0.01)
    bias = np.full(4, 2**31 - 400, np.int32)
    b = network.weight(bias, np.float32(0.05) * np.float32(0.01))
    y = network.node("Conv", x, w, b, name="c")
    network.output(network.quantize(y, INT8), "int8")
    refused(
        network.save(tmp_path / "m.onnx"),
        "m.onnx: Conv 'c' (node 3): its sums reach 2,147,483,772, beyond 32 bits",
        "  help: check the bias: a dead channel should have the bias 0",
    )


def test_left_shift_is_refused_in_mode_shift_and_done_in_mode_exact(tmp_path: Path) -> None:
    network = Network()
    x = network.dequantize(network.input("x", "int8", (1, 4, 8, 8)), INT8)
    w = network.weight(np.ones((4, 4, 1, 1), np.int8), 3.0)
    network.output(network.quantize(network.node("Conv", x, w, name="c"), INT8), "int8")
    path = network.save(tmp_path / "m.onnx")
    refused(
        path,
        "m.onnx: Conv 'c' (node 2): multiplies its sums by 3, which no right shift can do",
        "  help: use --requant exact",
        requant="shift",
    )
    assert len(load_model(path).graph.ops) == 1


def test_model_without_a_layer_is_refused(tmp_path: Path) -> None:
    network = Network()
    codes = network.quantize(network.input("x", "float32", (1, 4)), INT8)
    network.output(codes, "int8")
    refused(
        network.save(tmp_path / "m.onnx"),
        "m.onnx: has no operator for the accelerator",
        "  help: the model needs at least one quantized Conv, MatMul, Gemm, AveragePool or Add",
    )


def test_dump_after_a_pass_prints_the_graph_and_an_unknown_pass_is_named(tmp_path: Path) -> None:
    network = Network()
    network.output(add_conv(network, network.input("x", "int8", (1, 4, 8, 8))), "int8")
    path = network.save(tmp_path / "m.onnx")
    printed: list[str] = []
    requant = "requant=exact mantissa int64[4](10737419) shift int64[4](30) zero 3 outside "
    requant += "clamp -128..127"
    details = (
        *("weight=int16[4,4,1,1](1)", "bias=int64[4](0)", "input_zero_point=3"),
        *("strides=(1, 1)", "dilations=(1, 1)", "pads=(0, 0, 0, 0)", "group=1"),
        requant,
    )
    load_model(path, dump_after="fuse_requant", dump=printed.append)
    (text,) = printed
    assert text.splitlines() == [
        "graph 'm'",
        "  input  'x' int8[1,4,8,8] scale 0.0500000007 zero 3",
        f"  'c_codes' int8[1,4,8,8] scale 0.0500000007 zero 3 = Conv('x') {{{', '.join(details)}}}",
        "  output 'c_codes'",
    ]
    message = (
        r"^--dump-after nothing: no such pass\n  help: one of frontend, join_pairs, fold_qdq, "
        r"chip_softmax, matmul_to_conv, split_host, fuse_requant$"
    )
    with pytest.raises(InputError, match=message):
        load_model(path, dump_after="nothing")


def test_an_add_whose_sums_overflow_in_onnxruntime_is_refused(tmp_path: Path) -> None:
    network = Network()
    a, b = (
        network.dequantize(network.input(name, "int8", (1, 4, 2, 2)), (scale, 0, "int8"))
        for name, scale in (("a", 1.0), ("b", 8.0))
    )
    total = network.node("Add", a, b, name="sum", output="total")
    network.output(network.quantize(total, (2.0**-20, 0, "int8"), output="y"), "int8")
    refused(
        network.save(tmp_path / "m.onnx"),
        "m.onnx: Add 'sum' (node 2): adds an operand whose scale is 8.39e+06 times the result's",
        f"  input '{a}' float32[1,4,2,2]",
        f"  input '{b}' float32[1,4,2,2]",
        "  help: ONNX Runtime's integers overflow there; quantize the result again",
    )


def test_moved_codes_read_with_other_parameters_are_refused(tmp_path: Path) -> None:
    network = Network()
    codes = add_conv(network, network.input("x", "int8", (1, 4, 1, 1)))
    flat = network.node("Flatten", codes, name="f", output="f_codes")
    real = network.dequantize(flat, (0.05, 4, "int8"))
    product = network.node("MatMul", real, network.weight(np.ones((4, 2), np.int8), 0.01))
    network.output(network.quantize(product, INT8, output="y"), "int8")
    refused(
        network.save(tmp_path / "m.onnx"),
        "m.onnx: Flatten 'f' (node 4): moves codes of scale 0.0500000007 and zero point 3, but "
        "'f_codes' is read with 0.0500000007 and 4",
        "  input 'c_codes' int8[1,4,1,1]",
        "  help: give QuantizeLinear and DequantizeLinear of one tensor the same parameters",
    )


@pytest.mark.parametrize("operator", ["Sigmoid", "Softmax"])
def test_function_of_a_quantized_constant_is_refused(tmp_path: Path, operator: str) -> None:
    network = Network()
    network.output(add_conv(network, network.input("x", "int8", (1, 4, 2, 2))), "int8")
    real = network.weight(np.arange(3, dtype=np.int8), 0.01)
    shares = network.node(operator, real, name="s")
    network.output(network.quantize(shares, INT8, output="y"), "int8")
    refused(
        network.save(tmp_path / "m.onnx"),
        f"m.onnx: {operator} 's' (node 5): operand '{real}' is a constant",
        f"  input '{real}' float32[3]",
        "  help: simplify the model before it is quantized, so that no constant is computed",
    )


def test_sums_that_double_again_and_again_are_refused_soon(tmp_path: Path) -> None:
    network = Network()
    real = network.dequantize(network.input("x", "int8", (1, 4, 3, 3)), (0.1, 0, "int8"))
    for _ in range(60):
        real = network.node("Add", real, real)
    network.output(network.quantize(real, (0.1, 0, "int8")), "int8")
    start = time.monotonic()
    with pytest.raises(UnsupportedError) as caught:
        load_model(network.save(tmp_path / "chain.onnx"))
    assert time.monotonic() - start < 5
    assert "ends a computation of 1,023 operators, those that are used twice" in str(caught.value)


def test_names_of_nodes_are_printed_without_control_characters(tmp_path: Path) -> None:
    network = Network()
    real = network.dequantize(network.input("x", "int8", (1, 4, 3, 3)), (0.1, 0, "int8"))
    name = "\x1b[31mred\nm.onnx: all is well" + 500 * "z"
    network.output(network.node("Det", real, name=name), "float32")
    with pytest.raises(UnsupportedError) as caught:
        load_model(network.save(tmp_path / "m.onnx"))
    text = str(caught.value)
    assert text.startswith(r"m.onnx: Det '\x1b[31mred\nm.onnx: all is well")
    assert len(text.splitlines()[0]) < 300
