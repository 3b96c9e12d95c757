"""Float networks to quantize in tests, and what every scheme's model must hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.ir import Graph
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import load_float
from qcompile.compiler.quantize.quantizer import Quantized, accuracy, quantize, save
from qcompile.compiler.reference import Reference

Array = npt.NDArray[Any]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CALIBRATION = 200
"""Rows that calibrate; the others measure."""


def digits() -> tuple[Path, Array, Array]:
    """The digits network, its inputs [360, 1, 8, 8] and labels."""
    data = np.load(EXAMPLES / "digits/digits_test.npz")
    return EXAMPLES / "digits/digits_float.onnx", data["x"], data["y"]


def mnist(shared: Path) -> tuple[Path, Array, Array]:
    """CNTK's network for MNIST, inputs [1000, 1, 28, 28] of 0..255 and labels."""
    data = np.load(shared / "data/mnist2k.npz")
    images = data["x"].astype(np.float32).reshape(-1, 1, 28, 28)
    return shared / "models/float/mnist_float.onnx", images, data["y"]


def keywords(shared: Path) -> tuple[Path, Array, Array]:
    """Alibaba's keyword spotting, inputs [500, 49, 10, 1] and labels."""
    data = np.load(shared / "data/kws01.npz")
    values = (data["x"].astype(np.float32) - 83) * np.float32(0.5847029089927673)
    return shared / "models/float/alibaba_kws_float.onnx", values, data["y"]


def network_of(name: str, shared: Path | None) -> tuple[Path, Array, Array]:
    """One of the three by name; `shared` is needed for all but digits."""
    if name == "digits":
        return digits()
    assert shared is not None
    return mnist(shared) if name == "mnist" else keywords(shared)


def quantized(path: Path, inputs: Array, **options: Any) -> Quantized:
    """A float network of one input, quantized with these inputs."""
    network = load_float(path)
    return quantize(network, {network.inputs[0].name: inputs}, Options(**options))


def accuracies(
    path: Path, inputs: Array, labels: Array, model: onnx.ModelProto
) -> tuple[float, float]:
    """Of the float network and of a model made of it, on what did not calibrate."""
    network = load_float(path)
    given = {network.inputs[0].name: inputs[CALIBRATION:]}
    rest = labels[CALIBRATION:]
    return accuracy(network.to_model(), given, rest), accuracy(model, given, rest)


def shift_graph(path: Path) -> tuple[Graph, Graph]:
    """The accelerator's graph with exact and with shift requantization."""
    return load_model(path).graph, load_model(path, requant="shift").graph


def differences(
    model: onnx.ModelProto, inputs: Array, folder: Path, *, requant: Literal["exact", "shift"]
) -> int:
    """Elements of all outputs in which golden, with this requantization, and ONNX Runtime differ.

    The model is written to `folder` as model.onnx.
    """
    path = folder / "model.onnx"
    save(model, path)
    given = {model.graph.input[0].name: inputs}
    found = run_model(load_model(path, requant=requant), given)
    expected = Reference(path, ()).run(given).outputs
    assert set(found) == set(expected)
    return sum(int(np.count_nonzero(found[name] != expected[name])) for name in expected)


def differences_with_shifts(model: onnx.ModelProto, inputs: Array, folder: Path) -> int:
    """Those with --requant shift."""
    return differences(model, inputs, folder, requant="shift")


def save_image_network(path: Path, nodes: list[onnx.NodeProto], **constants: Array) -> None:
    """A float network from x [1, 4, 9, 9] to y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 4, 9, 9])],
        [helper.make_tensor_value_info("y", 1, ["n", "c", "h", "w"])],
        [
            numpy_helper.from_array(np.asarray(array, np.float32), name)
            for name, array in constants.items()
        ],
    )
    imports = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
