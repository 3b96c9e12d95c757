"""Builds small QDQ networks for the compiler's tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

TYPES = {
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "float32": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
}

Parameters = tuple[float, int, str]
"""Scale, zero point and type of an activation."""


class Network:
    """A graph under construction; methods return names of values."""

    def __init__(self, opset: int = 13) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def fresh(self, stem: str) -> str:
        """A name that nobody has."""
        self._count += 1
        return f"{stem}{self._count}"

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TYPES[dtype], list(shape)))
        return name

    def output(self, name: str, dtype: str) -> None:
        self.outputs.append(helper.make_tensor_value_info(name, TYPES[dtype], None))

    def constant(self, value: npt.ArrayLike, dtype: str, name: str | None = None) -> str:
        name = name or self.fresh("constant")
        array = np.asarray(value).astype(dtype)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def node(
        self, operator: str, *inputs: str, name: str = "", output: str = "", **attributes: Any
    ) -> str:
        output = output or self.fresh(operator.lower())
        name = name or output
        self.nodes.append(
            helper.make_node(operator, list(inputs), [output], name=name, **attributes)
        )
        return output

    def quantize(self, x: str, parameters: Parameters, *, output: str = "") -> str:
        scale, zero_point, dtype = parameters
        names = (self.constant(scale, "float32"), self.constant(zero_point, dtype))
        return self.node("QuantizeLinear", x, *names, output=output)

    def dequantize(self, codes: str, parameters: Parameters) -> str:
        scale, zero_point, dtype = parameters
        names = (self.constant(scale, "float32"), self.constant(zero_point, dtype))
        return self.node("DequantizeLinear", codes, *names)

    def weight(
        self,
        codes: npt.NDArray[Any],
        scale: npt.ArrayLike,
        zero_point: npt.ArrayLike = 0,
        *,
        axis: int | None = None,
    ) -> str:
        """A dequantized constant; scale and zero point are lists along `axis` where it is given."""
        dtype = codes.dtype.name
        scales = np.asarray(scale, dtype=np.float32)
        zeros = np.broadcast_to(np.asarray(zero_point), scales.shape)
        names = (
            self.constant(codes, dtype),
            self.constant(scales, "float32"),
            self.constant(zeros, dtype),
        )
        attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
        return self.node("DequantizeLinear", *names, **attributes)

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "network", self.inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def save(self, path: Path) -> Path:
        path.write_bytes(self.model().SerializeToString())
        return path


def random_conv(
    network: Network,
    rng: np.random.Generator,
    x: str,
    shape: tuple[int, int, int, int],
    parameters: tuple[Parameters, Parameters],
    *,
    per_channel: bool = True,
    zero_points: bool = False,
    relu: bool = False,
    **attributes: Any,
) -> str:
    """DQ, Conv with random weight [O, C / group, kh, kw] and bias, perhaps Relu, Q; the codes."""
    before, after = parameters
    dtype = before[2]
    info = np.iinfo(dtype)
    codes = rng.integers(info.min + (dtype == "int8"), info.max + 1, shape).astype(dtype)
    depth = shape[1] * shape[2] * shape[3]
    scale = rng.uniform(0.5, 1.0, shape[0] if per_channel else 1) * 2.0 / (128 * depth**0.5)
    scale = scale.astype(np.float32) if per_channel else np.float32(scale[0])
    middle = 128 if dtype == "uint8" else 0
    zero = middle + (rng.integers(-9, 10) if zero_points else 0)
    bias = rng.integers(-3000, 3000, shape[0]).astype(np.int32)
    axis = {"axis": 0} if per_channel else {}
    operands = [
        network.dequantize(x, before),
        network.weight(codes, scale, zero, **axis),
        network.weight(bias, np.float32(before[0]) * scale, **axis),
    ]
    result = network.node("Conv", *operands, **attributes)
    if relu:
        result = network.node("Relu", result)
    return network.quantize(result, after)


def random_codes(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """Random codes over the whole range of a type."""
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


Arrays = Mapping[str, npt.NDArray[Any]]
