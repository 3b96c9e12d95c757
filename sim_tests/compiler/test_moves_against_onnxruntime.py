"""Moves of codes and of float results through all passes, element for element as ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import helper

from qcompile.compiler.compare import compare_layer
from qcompile.compiler.golden.interpreter import run_graph, run_model
from qcompile.compiler.ir import AveragePool, Binary, Conv, Model, Reshape, Select
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from qcompile.runtime.host_ops import run_host_ops
from sim_tests.compiler.networks import Network, Parameters, random_codes, random_conv

SAMPLES = 4
FIRST = (0.0631, -11, "int8")
SECOND = (0.0417, 5, "int8")
THIRD = (0.0273, -77, "int8")


def check(network: Network, folder: Path, inputs: dict[str, npt.NDArray[Any]]) -> Model:
    """Golden and ONNX Runtime agree in every output, and in every layer of a common name."""
    path = network.save(folder / "network.onnx")
    model = load_model(path)
    layers = [op.name for op in model.graph.ops]
    run = Reference(path, layers).run(inputs)
    entered = run_host_ops(model.prologue, inputs)
    codes = run_graph(model.graph, {name: entered[name] for name in model.graph.inputs})
    for name, expected in run.layers.items():
        assert compare_layer(name, codes[name], expected).mismatches == 0, name
    got = run_model(model, inputs)
    assert set(got) == set(run.outputs)
    for name, expected in run.outputs.items():
        assert got[name].dtype == expected.dtype
        assert got[name].shape == expected.shape
        assert np.array_equal(got[name], expected), name
    return model


Move = Callable[[Network, str], str]


def node(operator: str, *constants: npt.ArrayLike, **attributes: Any) -> Move:
    """An operator on one tensor; constants are int64, but for float ones, and None is absent."""

    def build(network: Network, x: str) -> str:
        names = []
        for value in constants:
            dtype = "float32" if isinstance(value, float) else "int64"
            names.append("" if value is None else network.constant(value, dtype))
        return network.node(operator, x, *names, **attributes)

    return build


def chain(*moves: Move) -> Move:
    """Moves one after the other."""

    def build(network: Network, x: str) -> str:
        for move in moves:
            x = move(network, x)
        return x

    return build


def split(*lengths: int, axis: int) -> Move:
    """Split, and Concat of all parts but the first, in another order."""

    def build(network: Network, x: str) -> str:
        parts = [network.fresh("part") for _ in lengths]
        sizes = network.constant(lengths, "int64")
        network.nodes.append(helper.make_node("Split", [x, sizes], parts, axis=axis))
        return network.node("Concat", *reversed(parts[1:]), axis=axis)

    return build


IMAGE = (1, 8, 6, 4)
MOVES: dict[str, Move] = {
    "identity": node("Identity"),
    "transpose": node("Transpose", perm=[0, 3, 1, 2]),
    "transpose, batch elsewhere": chain(
        node("Reshape", [1, 1, 48, 4]), node("Transpose", perm=[1, 0, 3, 2])
    ),
    "channel shuffle": chain(
        node("Reshape", [1, 2, 4, 6, 4]),
        node("Transpose", perm=[0, 2, 1, 3, 4]),
        node("Reshape", [0, 8, 6, 4]),
    ),
    "two moves without the batch": chain(
        node("Reshape", [8, 6, 4, 1]),
        node("Transpose", perm=[3, 2, 0, 1]),
    ),
    "split": split(3, 1, 4, axis=1),
    "slice": node("Slice", [1, 0], [5, 3], [1, 3]),
    "slice, clamped": node("Slice", [-100, 2], [100, 1 << 40], [-2, 3], [2, 1]),
    "slice, negative steps": node(
        "Slice", [-1, 100, 2], [-100, -(1 << 62), 0], [1, 2, 3], [-1, -3, -1]
    ),
    "pad": node("Pad", [0, 0, 1, 2, 0, 0, 3, 0], 0.0),
    "pad, another code": node("Pad", [0, 1, 1, 0, 0, 0, 3, 0], -1.0),
    "pad, beyond all codes": node("Pad", [0, 0, 1, 2, 0, 0, 3, 0], -1e30),
    "pad, negative": node("Pad", [0, -1, 1, 0, 0, 0, -2, 0]),
    "pad, reflect": node("Pad", [0, 0, 3, 2, 0, 0, 5, 1], mode="reflect"),
    "pad, edge": node("Pad", [0, 2, 3, 2, 0, 0, 7, 1], mode="edge"),
    "depth to space": node("DepthToSpace", blocksize=2),
    "depth to space, CRD": node("DepthToSpace", blocksize=2, mode="CRD"),
    "space to depth": node("SpaceToDepth", blocksize=2),
    "gather": node("Gather", [[3, 0], [-1, 0]], axis=2),
    "gather of channels": node("Gather", [5, 2, 2, -8, 7], axis=1),
    "tile": node("Tile", [1, 1, 2, 3]),
    "slice and expand": chain(node("Slice", [2], [3], [2]), node("Expand", [8, 5, 4])),
    "concat with itself": lambda network, x: network.node("Concat", x, x, axis=3),
}


def add(network: Network, codes: str, parameters: Parameters) -> str:
    """The codes of x + x, a layer that takes any image."""
    real = network.dequantize(codes, parameters)
    return network.quantize(network.node("Add", real, real), parameters)


def as_image(network: Network, move: Move, x: str) -> str:
    """A move with a result of four axes, the first of which is the batch."""
    return network.node("Reshape", move(network, x), network.constant([1, -1, 1, 1], "int64"))


@pytest.mark.parametrize("parameters", [SECOND, (0.0417, 200, "uint8")])
@pytest.mark.parametrize("move", MOVES)
def test_moves_between_two_layers_equal_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, move: str, parameters: Parameters
) -> None:
    network = Network(13)
    x = network.input("x", parameters[2], IMAGE)
    real = network.dequantize(add(network, x, parameters), parameters)
    moved = network.quantize(as_image(network, MOVES[move], real), parameters)
    network.output(add(network, moved, parameters), parameters[2])
    model = check(network, tmp_path, {"x": random_codes(rng, (SAMPLES, *IMAGE[1:]), parameters[2])})
    moves = [type(op) for op in model.graph.ops if not isinstance(op, Binary)]
    assert moves in ([Select], [Reshape])


HOST_MOVES = [name for name in MOVES if name != "two moves without the batch"]


def random_inputs(rng: np.random.Generator, dtype: str) -> dict[str, npt.NDArray[Any]]:
    if dtype == "float32":
        return {"x": rng.normal(size=(SAMPLES, *IMAGE[1:])).astype(np.float32) * 4}
    return {"x": random_codes(rng, (SAMPLES, *IMAGE[1:]), dtype)}


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8"])
@pytest.mark.parametrize("move", HOST_MOVES)
def test_moves_before_the_first_layer_equal_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, move: str, dtype: str
) -> None:
    parameters = SECOND if dtype == "float32" else (0.0417, 100, dtype)
    network = Network(13)
    x = network.input("x", dtype, IMAGE)
    real = x if dtype == "float32" else network.dequantize(x, parameters)
    codes = network.quantize(as_image(network, MOVES[move], real), parameters)
    network.output(add(network, codes, parameters), parameters[2])
    model = check(network, tmp_path, random_inputs(rng, dtype))
    assert [type(op) for op in model.graph.ops] == [Binary]


@pytest.mark.parametrize("result", ["float32", "codes"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("move", HOST_MOVES)
def test_moves_behind_the_last_layer_equal_onnxruntime(
    tmp_path: Path, rng: np.random.Generator, move: str, dtype: str, result: str
) -> None:
    parameters = (0.0417, 100, dtype)
    network = Network(13)
    x = network.input("x", dtype, IMAGE)
    real = network.dequantize(add(network, x, parameters), parameters)
    moved = MOVES[move](network, real)
    if result == "float32":
        network.output(moved, result)
    else:
        network.output(network.quantize(moved, parameters), dtype)
    model = check(network, tmp_path, random_inputs(rng, dtype))
    assert [type(op) for op in model.graph.ops] == [Binary]


def test_moved_float_result_ends_in_its_quantization(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 3, 6, 6))
    weight = network.weight(random_codes(rng, (4, 3, 3, 3), "int8"), 0.02)
    real = network.node("Conv", network.dequantize(x, FIRST), weight)
    real = network.node("Transpose", real, perm=[0, 2, 3, 1])
    real = network.node("Relu", network.node("Reshape", real, network.constant([1, 64], "int64")))
    codes = network.quantize(real, (0.05, -128, "int8"), output="flat")
    weight = network.weight(random_codes(rng, (64, 5), "int8"), 0.01)
    product = network.node("MatMul", network.dequantize(codes, (0.05, -128, "int8")), weight)
    network.output(network.quantize(product, SECOND, output="y"), "int8")
    check(network, tmp_path, {"x": random_codes(rng, (SAMPLES, 3, 6, 6), "int8")})


def test_concat_requantizes_each_operand_as_onnxruntime(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    network = Network()
    x = network.input("x", "int8", (1, 3, 6, 6))
    a = random_conv(network, rng, x, (4, 3, 3, 3), (FIRST, SECOND))
    b = random_conv(network, rng, x, (2, 3, 3, 3), (FIRST, THIRD))
    c = random_conv(network, rng, x, (3, 3, 3, 3), (FIRST, SECOND))
    operands = [network.dequantize(y, p) for y, p in ((a, SECOND), (b, THIRD), (c, SECOND))]
    both = network.quantize(network.node("Concat", *operands, axis=1), SECOND)
    y = random_conv(network, rng, both, (5, 9, 2, 2), (SECOND, THIRD))
    network.output(y, "int8")
    check(network, tmp_path, {"x": random_codes(rng, (SAMPLES, 3, 6, 6), "int8")})


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("operator", ["Conv", "AveragePool"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_pads_of_the_zero_point_become_the_layers_own(
    tmp_path: Path, rng: np.random.Generator, layout: str, operator: str, dtype: str
) -> None:
    parameters = (0.5, 113, dtype)
    network = Network(13)
    x = network.input("x", dtype, (1, 4, 7, 6))
    codes = add(network, x, parameters)
    for pads in ([0, 0, 1, 0, 0, 0, 2, 1], [0, 0, 2, 2, 0, 0, 0, 2]):  # the last is too much
        real = network.dequantize(codes, parameters)
        if layout == "NHWC":
            real = network.node("Transpose", real, perm=[0, 2, 3, 1])
            pads = [0, *pads[2:4], 0, 0, *pads[6:], 0]
        real = network.node("Pad", real, network.constant(pads, "int64"))
        if layout == "NHWC":
            real = network.node("Transpose", real, perm=[0, 3, 1, 2])
        codes = network.quantize(real, parameters)
        if operator == "Conv":
            codes = random_conv(
                network, rng, codes, (4, 4, 3, 3), (parameters, parameters), pads=[1, 1, 0, 0]
            )
        else:
            real = network.node(
                "AveragePool",
                network.dequantize(codes, parameters),
                kernel_shape=[3, 3],
                pads=[1, 1, 0, 0],
                count_include_pad=1,
            )
            codes = network.quantize(real, parameters)
    network.output(codes, dtype)
    model = check(network, tmp_path, {"x": random_codes(rng, (SAMPLES, 4, 7, 6), dtype)})
    layers = [op for op in model.graph.ops if isinstance(op, Conv | AveragePool)]
    assert [op.pads for op in layers] == [(2, 1, 2, 1), (1, 1, 0, 0)]
    assert sum(isinstance(op, Select) for op in model.graph.ops) == 1


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("last", [False, True])
def test_concat_with_constants(tmp_path: Path, dtype: str, last: bool) -> None:
    rng = np.random.default_rng(4)
    zero = 128 if dtype == "uint8" else 0
    first, third = (0.0631, zero - 11, dtype), (0.0273, zero - 77, dtype)
    network = Network(13)
    x = network.dequantize(network.input("x", dtype, ("N", 4, 5, 6)), first)
    codes = random_codes(rng, (1, 3, 5, 6), dtype)
    constant = network.dequantize(network.constant(codes, dtype), third)
    joined = network.quantize(network.node("Concat", x, constant, axis=1), third, output="joined")
    if last:
        network.output(joined, dtype)
    else:
        y = random_conv(network, rng, joined, (4, 7, 1, 1), (third, first))
        network.output(y, dtype)
    check(network, tmp_path, {"x": random_codes(rng, (SAMPLES, 4, 5, 6), dtype)})
