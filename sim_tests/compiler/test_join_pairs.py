"""Tensors that are quantized twice in a row, against ONNX Runtime, which makes one pair of two."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from sim_tests.compiler.networks import Network, Parameters, random_codes

INPUT = (0.05, 3, "int8")
A = (0.05, 0, "int8")
B = (0.0313, -20, "int8")
C = (0.021, 7, "int8")
SAMPLES = 3


def convolution(dtype: str = "int8") -> tuple[Network, str]:
    """A network and the float result [1, 4, 5, 5] of its Conv, about -10 to 10."""
    rng = np.random.default_rng(0)
    network = Network()
    x = network.dequantize(network.input("x", dtype, (1, 4, 5, 5)), (0.05, 3, dtype))
    middle = 128 if dtype == "uint8" else 0
    codes = (rng.integers(-127, 128, (4, 4, 1, 1)) + middle).astype(dtype)
    return network, network.node("Conv", x, network.weight(codes, 0.006, middle))


def behind(network: Network, x: str, parameters: Parameters) -> str:
    """What a pair of QuantizeLinear and DequantizeLinear makes of `x`."""
    return network.dequantize(network.quantize(x, parameters), parameters)


def quantized(network: Network, x: str, chain: Sequence[Parameters]) -> str:
    """The float behind one pair after the other."""
    for parameters in chain:
        x = behind(network, x, parameters)
    return x


def check(network: Network, path: Path, rng: np.random.Generator, dtype: str = "int8") -> None:
    """Golden's outputs are ONNX Runtime's, without any island."""
    inputs = {"x": random_codes(rng, (SAMPLES, 4, 5, 5), dtype)}
    network.save(path)
    got = run_model(load_model(path), inputs)
    reference = Reference(path, ())
    assert reference.islands == ()
    for name, expected in reference.run(inputs).outputs.items():
        assert np.array_equal(got[name], expected), name


def random_parameters(rng: np.random.Generator, dtype: str) -> Parameters:
    """Scales from 2**-8 to 2**-2 (often the same), zero points often at the ends."""
    info = np.iinfo(dtype)
    middle = (int(info.min) + int(info.max) + 1) // 2
    zero = (info.min, info.max, middle, int(rng.integers(info.min, info.max + 1)))[rng.integers(4)]
    scale = float(np.float32(rng.choice([0.05, 2.0 ** rng.uniform(-8, -2)])))
    return scale, zero, dtype


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("count", [2, 2, 2, 3, 4, 5, 6])
def test_random_chains_equal_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, dtype: str, count: int
) -> None:
    for case in range(10):
        chain = [random_parameters(rng, dtype) for _ in range(count)]
        lows, highs = ({_end(p, which) for p in chain} for which in (0, 1))
        if max(lows) == min(highs) == 0:
            continue  # refused, see below
        network, x = convolution(dtype)
        network.output(quantized(network, x, chain), "float32")
        check(network, tmp_path / f"chain{case}.onnx", rng, dtype)


def _end(parameters: Parameters, which: int) -> float:
    scale, zero, dtype = parameters
    return scale * ((int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))[which] - zero)


def test_type_changes_are_no_pairs_to_join(tmp_path: Path, rng: np.random.Generator) -> None:
    network, x = convolution()
    network.output(quantized(network, x, [A, (0.04, 100, "uint8"), B, C]), "float32")
    path = network.save(tmp_path / "types.onnx")
    inputs = {"x": random_codes(rng, (SAMPLES, 4, 5, 5), "int8")}
    got = run_model(load_model(path), inputs)
    for name, expected in Reference(path, ()).run(inputs).outputs.items():
        assert np.array_equal(got[name], expected), name


def quantized_output(network: Network, x: str) -> None:
    """Q1's codes are an output."""
    codes = network.quantize(x, A)
    network.output(codes, "int8")
    network.output(behind(network, network.dequantize(codes, A), B), "float32")


def real_output(network: Network, x: str) -> None:
    """DQ1's real numbers are an output."""
    real = behind(network, x, A)
    network.output(real, "float32")
    network.output(behind(network, real, B), "float32")


def second_output(network: Network, x: str) -> None:
    """Q2's codes are an output."""
    codes = network.quantize(behind(network, x, A), B)
    network.output(codes, "int8")
    network.output(network.dequantize(codes, B), "float32")


def two_readers_of_the_first(network: Network, x: str) -> None:
    """Two DQ1, one for a table."""
    codes = network.quantize(x, A)
    network.output(behind(network, network.dequantize(codes, A), B), "float32")
    real = network.node("Sigmoid", network.dequantize(codes, A))
    network.output(network.quantize(real, (1 / 256, -128, "int8")), "int8")


def two_readers_of_the_second(network: Network, x: str) -> None:
    """Two DQ2, one goes on to a third pair: only the first two pairs are joined."""
    codes = network.quantize(behind(network, x, A), B)
    network.output(network.dequantize(codes, B), "float32")
    network.output(behind(network, network.dequantize(codes, B), C), "float32")


def move_of_the_second(network: Network, x: str) -> None:
    """Q2's codes are reshaped as codes too."""
    codes = network.quantize(behind(network, x, A), B)
    shape = network.constant([1, 100], "int64")
    network.output(network.node("Reshape", codes, shape), "int8")
    network.output(network.dequantize(codes, B), "float32")


def dead_reader(network: Network, x: str) -> None:
    """DQ1 has a reader that nobody needs."""
    real = behind(network, x, A)
    network.quantize(real, C)
    network.output(behind(network, real, B), "float32")


def layer_between(network: Network, x: str) -> None:
    """The joined pair feeds a layer, and a reshape stands between two other pairs."""
    real = quantized(network, x, [A, B])
    weight = network.weight(np.arange(-8, 8, dtype=np.int8).reshape(4, 4, 1, 1), 0.01)
    real = quantized(network, network.node("Conv", real, weight), [C, A])
    flat = network.node("Reshape", real, network.constant([1, 100], "int64"))
    network.output(behind(network, flat, B), "float32")


def handed_on(network: Network, x: str) -> None:
    """Operators that hand a tensor on stand everywhere."""
    for parameters in (A, B, C):
        codes = network.node("Identity", network.quantize(x, parameters))
        x = network.node("Identity", network.dequantize(codes, parameters))
        x = network.node("Cast", network.node("Identity", x), to=1)
    network.output(network.quantize(network.node("Sigmoid", x), (1 / 256, -128, "int8")), "int8")


def redundant_relu(network: Network, x: str) -> None:
    """A Relu between the pairs, which ONNX Runtime removes after it has looked for pairs."""
    real = network.node("Relu", behind(network, x, A))
    network.output(quantized(network, real, [(0.0313, -128, "int8"), C]), "float32")


def sum_of_joined(network: Network, x: str) -> None:
    """An Add reads the joined pair twice."""
    real = quantized(network, x, [B, A])
    network.output(network.quantize(network.node("Add", real, real), C), "int8")


@pytest.mark.parametrize(
    "build",
    [
        quantized_output,
        real_output,
        second_output,
        two_readers_of_the_first,
        two_readers_of_the_second,
        move_of_the_second,
        dead_reader,
        layer_between,
        handed_on,
        redundant_relu,
        sum_of_joined,
    ],
)
def test_readers_and_outputs_decide_as_in_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, build: Callable[[Network, str], None]
) -> None:
    network, x = convolution()
    build(network, x)
    check(network, tmp_path / "m.onnx", rng)


@pytest.mark.parametrize("absent", range(4))
def test_zero_point_that_is_not_stated_keeps_pairs_apart(
    tmp_path: Path, rng: np.random.Generator, absent: int
) -> None:
    network, x = convolution("uint8")
    for position, scale in enumerate((0.05, 0.05, 0.0313, 0.0313)):
        names = [network.constant(scale, "float32")]
        names += [] if position == absent else [network.constant(0, "uint8")]
        x = network.node(("QuantizeLinear", "DequantizeLinear")[position % 2], x, *names)
    network.output(x, "float32")
    check(network, tmp_path / "m.onnx", rng, "uint8")


def test_layer_in_qoperator_form_is_no_first_pair(tmp_path: Path, rng: np.random.Generator) -> None:
    network = Network()
    weight = network.constant(np.arange(-8, 8).reshape(4, 4, 1, 1), "int8")
    operands = [network.input("x", "int8", (1, 4, 5, 5))]
    for scale, zero in ((0.05, 3), (0.02, 0), A[:2]):
        operands += [network.constant(scale, "float32"), network.constant(zero, "int8")]
        operands += [weight] if len(operands) == 3 else []
    real = network.dequantize(network.node("QLinearConv", *operands), A)
    network.output(behind(network, real, B), "float32")
    check(network, tmp_path / "m.onnx", rng)


def test_three_pairs_in_front_of_codes_that_a_move_reads_are_refused(tmp_path: Path) -> None:
    network, x = convolution()
    codes = network.quantize(quantized(network, x, [A, C, B]), B)
    network.output(network.node("Reshape", codes, network.constant([1, 100], "int64")), "int8")
    with pytest.raises(UnsupportedError, match=r"quantized three times in a row in front of"):
        load_model(network.save(tmp_path / "m.onnx"))


@pytest.mark.parametrize("before", [True, False])
def test_three_pairs_beside_a_move_are_refused(tmp_path: Path, before: bool) -> None:
    network, x = convolution()
    shape = network.constant([1, 100], "int64")
    x = network.node("Reshape", x, shape) if before else x
    x = quantized(network, x, [A, B])
    x = network.dequantize(network.quantize(x, C, output="third"), C)
    network.output(x if before else network.node("Reshape", x, shape), "float32")
    index = 8 if before else 7
    message = (
        f"m.onnx: QuantizeLinear 'third' (node {index}): the tensor is quantized three times in a "
        "row in front of, or behind, a move\n  help: remove all but one of the pairs of "
        "QuantizeLinear and DequantizeLinear"
    )
    with pytest.raises(UnsupportedError, match=rf"^{re.escape(message)}$"):
        load_model(network.save(tmp_path / "m.onnx"))


def test_pairs_with_only_zero_in_common_are_refused(tmp_path: Path) -> None:
    network, x = convolution()
    real = behind(network, x, (0.05, -128, "int8"))
    codes = network.quantize(real, (0.03, 127, "int8"), output="second")
    network.output(network.dequantize(codes, (0.03, 127, "int8")), "float32")
    message = (
        "m.onnx: QuantizeLinear 'second' (node 5): its range and the one that the tensor was "
        "quantized with before have only 0 in common\n"
        "  help: quantize the model again; a tensor needs only one QuantizeLinear"
    )
    with pytest.raises(UnsupportedError, match=rf"^{re.escape(message)}$"):
        load_model(network.save(tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    ("operator", "number", "first"),
    [("Add", 0, False), ("Add", 0, True), ("Sub", 0, False), ("Mul", 1, True), ("Div", 1, False)],
)
def test_a_number_that_changes_nothing_is_no_operator_between_pairs(
    tmp_path: Path, rng: np.random.Generator, operator: str, number: int, first: bool
) -> None:
    network, x = convolution()
    x = behind(network, x, A)
    constant = network.constant(number, "float32")
    x = network.node(operator, *((constant, x) if first else (x, constant)))
    network.output(behind(network, x, B), "float32")
    check(network, tmp_path / "neutral.onnx", rng)
