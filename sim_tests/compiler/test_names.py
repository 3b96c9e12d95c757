"""Tensors of a model may be called as passes call their own; results and names stay the model's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler.pipeline import load_model
from sim_tests.compiler.agreement import assert_equal_everywhere, random_inputs
from sim_tests.compiler.networks import Network, random_conv

UINT8 = (0.0417, 105, "uint8")


def small_network() -> onnx.ModelProto:
    """x, Conv `c`, float Flatten `f`, MatMul `m`, its real numbers `y`."""
    rng = np.random.default_rng(0)
    network = Network()
    x = network.input("x", "uint8", (1, 3, 6, 6))
    codes = random_conv(network, rng, x, (4, 3, 3, 3), (UINT8, UINT8))
    flat = network.node("Flatten", network.dequantize(codes, UINT8), output="f")
    flat = network.dequantize(network.quantize(flat, UINT8), UINT8)
    weight = network.weight(rng.integers(0, 256, (64, 5)).astype(np.uint8), 0.002, 128)
    network.quantize(network.node("MatMul", flat, weight), UINT8, output="m")
    network.node("Identity", network.dequantize("m", UINT8), output="y")
    network.output("y", "float32")
    model = network.model()
    rename(model, codes, "c")
    return model


def rename(model: onnx.ModelProto, old: str, new: str) -> None:
    """A tensor's other name, wherever it occurs."""
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for entry in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        entry.name = new if entry.name == old else entry.name


@pytest.mark.parametrize(
    "names",
    [
        {"c": "x:int8"},
        {"c": "f:codes"},
        {"c": "m:onnx"},
        {"m": "m:onnx"},
        {"f": "f:codes:0", "c": "f"},
        {"y": "m:onnx", "c": "m:onnx:", "x": "m_onnx"},
        {"x": "c:codes", "m": "x", "f": "x:codes:codes"},
        {"x": "y:int8"},
    ],
)
def test_names_that_passes_use_stay_the_models_own(
    tmp_path: Path, rng: np.random.Generator, names: dict[str, str]
) -> None:
    proto = small_network()
    for old, new in names.items():
        rename(proto, old, new)
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    model = load_model(path)
    assert [value.name for value in model.inputs] == [value.name for value in proto.graph.input]
    assert [value.name for value in model.outputs] == [value.name for value in proto.graph.output]
    assert_equal_everywhere(path, model, random_inputs(model, rng, 3))


def test_shape_of_an_input_that_is_set_aside_is_found(tmp_path: Path) -> None:
    proto = small_network()
    rename(proto, "x", "c:int8")
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    model = load_model(path, shapes={"c:int8": (1, 3, 6, 6)})
    assert [(value.name, value.shape) for value in model.inputs] == [("c:int8", (1, 3, 6, 6))]
