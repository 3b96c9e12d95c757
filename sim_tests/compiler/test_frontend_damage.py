"""Damaged files: whatever is in them, the answer is a model or one of our errors."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler.errors import QcompileError, VerifyError
from qcompile.compiler.frontend.reader import DOMAINS
from qcompile.compiler.pipeline import load_model
from sim_tests.compiler.networks import Network, random_conv

FIRST = (0.0631, -11, "int8")
SECOND = (0.0417, 5, "int8")
ODD_NUMBERS = (-5, -1, 0, 1, 2, 3, 7, 2**31, 2**40)


def small_model() -> onnx.ModelProto:
    """Conv with Relu, pool, flatten, MatMul with bias, Softmax."""
    rng = np.random.default_rng(0)
    network = Network()
    x = network.input("x", "int8", (1, 2, 6, 6))
    y = random_conv(network, rng, x, (4, 2, 3, 3), (FIRST, SECOND), relu=True, pads=[1, 1, 1, 1])
    pooled = network.node("AveragePool", network.dequantize(y, SECOND), kernel_shape=[6, 6])
    real = network.dequantize(network.quantize(pooled, SECOND), SECOND)
    flat = network.node("Reshape", real, network.constant([1, 4], "int64"))
    weight = network.weight(np.ones((4, 3), np.int8), 0.01)
    bias = network.weight(np.arange(3, dtype=np.int32), np.float32(0.0417) * np.float32(0.01))
    total = network.node("Add", network.node("MatMul", flat, weight), bias)
    logits = network.dequantize(network.quantize(total, SECOND), SECOND)
    shares = network.node("Softmax", logits, axis=-1)
    network.output(network.quantize(shares, (1 / 256, -128, "int8")), "int8")
    return network.model()


def rewire(model: onnx.ModelProto, dice: random.Random) -> None:
    graph = model.graph
    names = [tensor.name for tensor in graph.initializer]
    names += [name for node in graph.node for name in node.output]
    node = dice.choice(graph.node)
    node.input[dice.randrange(len(node.input))] = dice.choice(names)


def drop_input(model: onnx.ModelProto, dice: random.Random) -> None:
    node = dice.choice(model.graph.node)
    del node.input[dice.randrange(len(node.input))]


def other_operator(model: onnx.ModelProto, dice: random.Random) -> None:
    dice.choice(model.graph.node).op_type = dice.choice(sorted(DOMAINS[""]))


def odd_attribute(model: onnx.ModelProto, dice: random.Random) -> None:
    node = dice.choice([node for node in model.graph.node if node.attribute])
    attribute = dice.choice(node.attribute)
    if attribute.ints:
        attribute.ints[dice.randrange(len(attribute.ints))] = dice.choice(ODD_NUMBERS)
    else:
        attribute.i = dice.choice(ODD_NUMBERS)


def odd_dimension(model: onnx.ModelProto, dice: random.Random) -> None:
    tensor = dice.choice([tensor for tensor in model.graph.initializer if tensor.dims])
    tensor.dims[dice.randrange(len(tensor.dims))] = dice.choice(ODD_NUMBERS)


def odd_type(model: onnx.ModelProto, dice: random.Random) -> None:
    dice.choice(model.graph.initializer).data_type = dice.randrange(25)


def odd_input(model: onnx.ModelProto, dice: random.Random) -> None:
    tensor = model.graph.input[0].type.tensor_type
    tensor.shape.dim[dice.randrange(4)].dim_value = dice.choice(ODD_NUMBERS)
    tensor.elem_type = dice.choice([tensor.elem_type, dice.randrange(25)])


def odd_byte(model: onnx.ModelProto, dice: random.Random) -> None:
    tensor = dice.choice([tensor for tensor in model.graph.initializer if tensor.raw_data])
    data = bytearray(tensor.raw_data)
    data[dice.randrange(len(data))] = dice.randrange(256)
    tensor.raw_data = bytes(data)


EDITS: tuple[Callable[[onnx.ModelProto, random.Random], None], ...] = (
    *(rewire, drop_input, other_operator, odd_attribute),
    *(odd_dimension, odd_type, odd_input, odd_byte),
)


def load_or_refuse(path: Path) -> bool:
    """Whether the file was loaded; anything but a model or an error of the user's fails."""
    try:
        load_model(path)
    except VerifyError:
        raise
    except QcompileError as error:
        assert str(error).startswith("m.onnx: ")
        return False
    return True


@pytest.mark.parametrize("edit", EDITS)
def test_edited_model_is_loaded_or_refused(
    tmp_path: Path, seed: int, edit: Callable[[onnx.ModelProto, random.Random], None]
) -> None:
    dice = random.Random(seed)
    path = tmp_path / "m.onnx"
    original = small_model()
    for _ in range(20):
        model = onnx.ModelProto()
        model.CopyFrom(original)
        for _ in range(dice.randint(1, 2)):
            edit(model, dice)
        path.write_bytes(model.SerializeToString())
        load_or_refuse(path)


def test_file_with_flipped_bytes_is_loaded_or_refused(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    data = small_model().SerializeToString()
    path = tmp_path / "m.onnx"
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(dice.randint(1, 4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path.write_bytes(damaged)
        outcomes.add(load_or_refuse(path))
    assert outcomes == {True, False}, "the damage should sometimes hit, and sometimes not"
