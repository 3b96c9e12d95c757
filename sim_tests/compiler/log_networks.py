"""A network whose activations are all logarithmic: convolutions, a pool, and a linear end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import load_float
from qcompile.compiler.quantize.quantizer import quantize

SIZE = 6


def float_network(rng: np.random.Generator, *, residual: bool = False) -> onnx.ModelProto:
    """Dense, depthwise, pointwise and strided convolutions, a pool of maxima, a Clip; channels fill
    no words. With `residual` a sum of two tensors too."""
    constants: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def weights(name: str, *shape: int) -> list[str]:
        weight = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
        bias = rng.normal(0, 0.1, shape[0]).astype(np.float32)
        constants.append(numpy_helper.from_array(weight, f"{name}/weight"))
        constants.append(numpy_helper.from_array(bias, f"{name}/bias"))
        return [f"{name}/weight", f"{name}/bias"]

    def layer(name: str, source: str, shape: tuple[int, ...], *clip: str, **attributes: Any) -> str:
        operands = [source, *weights(name, *shape)]
        nodes.append(helper.make_node("Conv", operands, [f"{name}/sum"], name, **attributes))
        behind = "Clip" if clip else "Relu"
        nodes.append(helper.make_node(behind, [f"{name}/sum", *clip], [name], f"{name}/relu"))
        return name

    x = layer("dense", "image", (6, 1, 3, 3), pads=[1] * 4)
    x = layer("depthwise", x, (6, 1, 3, 3), pads=[1] * 4, group=6)
    window: dict[str, Any] = {"kernel_shape": [2, 3], "pads": [0, 1, 0, 1]}
    nodes.append(helper.make_node("MaxPool", [x], ["pool"], "pool", **window))
    constants.append(numpy_helper.from_array(np.zeros((), np.float32), "low"))
    constants.append(numpy_helper.from_array(np.array(0.7, np.float32), "high"))
    x = layer("pointwise", "pool", (9, 6, 1, 1), "low", "high")
    if residual:
        operands = [x, *weights("inner", 9, 9, 3, 3)]
        nodes.append(helper.make_node("Conv", operands, ["inner"], "inner", pads=[1] * 4))
        nodes.append(helper.make_node("Add", ["inner", x], ["added"], "added"))
        nodes.append(helper.make_node("Relu", ["added"], ["sum"], "sum"))
        x = "sum"
    x = layer("strided", x, (8, 9, 3, 3), pads=[1] * 4, strides=[2, 2])
    nodes.append(helper.make_node("GlobalAveragePool", [x], ["mean"], "mean"))
    nodes.append(helper.make_node("Flatten", ["mean"], ["features"], "features"))
    operands = ["features", *weights("classes", 5, 8)]
    nodes.append(helper.make_node("Gemm", operands, ["y"], "classes", transB=1))
    graph = helper.make_graph(
        nodes,
        "log",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def images(rng: np.random.Generator, count: int) -> npt.NDArray[np.float32]:
    """Images of numbers of 0 and more, [count, 1, SIZE, SIZE]."""
    return np.abs(rng.normal(0, 1, (count, 1, SIZE, SIZE))).astype(np.float32)


def log_network(
    folder: Path,
    rng: np.random.Generator,
    levels: int = 8,
    step: int = 16,
    *,
    residual: bool = False,
) -> Path:
    """The network quantized, as a file of the folder."""
    network = float_network(rng, residual=residual)
    (folder / "float.onnx").write_bytes(network.SerializeToString())
    options = Options(activations=f"log:{levels}", log_step=step)
    made = quantize(load_float(folder / "float.onnx"), {"image": images(rng, 50)}, options)
    path = folder / f"log{levels}x{step}.onnx"
    path.write_bytes(made.model.SerializeToString())
    return path


def main() -> None:
    """Write the network as log8x16.onnx and int8.onnx into the folder that is named."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    log_network(folder, np.random.default_rng(0))
    network = load_float(folder / "float.onnx")
    int8 = quantize(network, {"image": images(np.random.default_rng(1), 50)}, Options())
    (folder / "int8.onnx").write_bytes(int8.model.SerializeToString())


if __name__ == "__main__":
    main()
