"""QONNX models in standard operators, because ONNX Runtime knows no QONNX.

Quant becomes QuantizeLinear, Clip of codes and DequantizeLinear, as qonnx's own conversion does;
BipolarQuant compares and selects. Codes are called as `qonnx` calls them, so that they compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from qcompile.compiler.frontend.node_reader import NodeReader
from qcompile.compiler.frontend.qonnx import CODES, DOMAINS, code_bounds
from qcompile.compiler.frontend.qonnx_trunc import read_truncation
from qcompile.compiler.ir import Value

Constants = Mapping[str, npt.NDArray[Any]]


def in_standard_operators(path: Path, folder: Path) -> Path:
    """The file itself, or one in `folder` where it has operators of QONNX.

    The model must have been read by the frontend: what that refuses is not checked again.
    """
    model = onnx.load(path, load_external_data=False)
    if not any(node.domain in DOMAINS for node in model.graph.node):
        return path
    model = onnx.load(path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    builder = _Builder(constants)
    for node in model.graph.node:
        builder.add(node)
    del model.graph.node[:]
    model.graph.node.extend(builder.nodes)
    model.graph.initializer.extend(builder.tensors)
    kept = [entry for entry in model.opset_import if entry.domain not in DOMAINS]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    rewritten = folder / path.name
    onnx.save_model(model, rewritten)
    return rewritten


class _Builder:
    """Nodes and constants of the rewritten graph."""

    def __init__(self, constants: Constants) -> None:
        self.constants = constants
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def add(self, node: onnx.NodeProto) -> None:
        """A node in standard operators, or as it is."""
        if node.domain not in DOMAINS:
            self.nodes.append(node)
            return
        if node.op_type == "Trunc":
            self._trunc(node)
            return
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        bits = 1
        if node.op_type != "BipolarQuant":
            bits = int(self.constants[node.input[3]].reshape(()))
        if node.op_type == "BipolarQuant" or (bits == 1 and attributes["signed"]):
            self._bipolar(node)
            return
        bounds = code_bounds(
            bits, signed=bool(attributes["signed"]), narrow=bool(attributes["narrow"])
        )
        zero_point = int(self.constants[node.input[2]].reshape(()))
        dtype = np.int8 if attributes["signed"] else np.uint8
        self._quantize(node, node.input[0], dtype, zero_point, bounds)

    def _bipolar(self, node: onnx.NodeProto) -> None:
        y = node.output[0]
        zero = self._constant(f"{y}:zero", np.float32(0))
        signs = [self._constant(f"{y}:{s:+}", np.float32(s)) for s in (1, -1)]
        scale = node.input[1]
        self._node("GreaterOrEqual", [node.input[0], zero], f"{y}:positive")
        self._node("Where", [f"{y}:positive", *signs], f"{y}:sign")
        self._node("Mul", [f"{y}:sign", scale], f"{y}:real")
        self._quantize(node, f"{y}:real", np.int8, 0, (-1, 1))

    def _trunc(self, node: onnx.NodeProto) -> None:
        y = node.output[0]
        values = {name: self.constants[name] for name in node.input[1:]}
        reader = NodeReader(
            node,
            0,
            opset=21,
            values={node.input[0]: Value(name=node.input[0], shape=(1,), dtype="float32")},
            constants=values,
            read=numpy_helper.to_array,
        )
        meaning = read_truncation(reader)
        x = node.input[0]
        steps: list[tuple[str, float | None]] = [
            ("Div", float(meaning.scale)),
            ("Add", meaning.zero_point),
            ("Round", None),
        ]
        steps.append(("Mul", meaning.factor))
        if meaning.low is not None:
            steps += [("Max", meaning.low), ("Min", meaning.high)]
        steps += [(meaning.rounding.title(), None), ("Sub", meaning.out_zero)]
        quantizer = meaning.quantizer()
        for number, (operator, constant) in enumerate(steps):
            names = []
            if constant is not None:
                names = [self._constant(f"{y}:constant{number}", np.float32(constant))]
            self._node(operator, [x, *names], f"{y}:step{number}")
            x = f"{y}:step{number}"
        scale = self._constant(f"{y}:out", np.float32(meaning.out_scale))
        real = y if quantizer is None else f"{y}:real"
        self._node("Mul", [x, scale], real)
        if quantizer is not None:
            dtype = np.int8 if quantizer.dtype == "int8" else np.uint8
            names = [
                self._constant(f"{y}:scale", quantizer.scale),
                self._constant(f"{y}:zero_point", np.asarray(quantizer.zero_point, dtype=dtype)),
            ]
            limits = [
                self._constant(f"{y}:{name}", np.asarray(bound, dtype=dtype))
                for name, bound in (("low", quantizer.low), ("high", quantizer.high))
            ]
            self._node("QuantizeLinear", [real, *names], f"{y}:quantized")
            self._node("Clip", [f"{y}:quantized", *limits], y + CODES)  # as behind Quant
            self._node("DequantizeLinear", [y + CODES, *names], y)

    def _quantize(
        self,
        node: onnx.NodeProto,
        x: str,
        dtype: type[np.int8] | type[np.uint8],
        zero_point: int,
        bounds: tuple[int, int],
    ) -> None:
        y = node.output[0]
        scale = self.constants[node.input[1]]
        long = [axis - scale.ndim for axis, size in enumerate(scale.shape) if size != 1]
        axis = {"axis": long[0]} if long else {}
        flat = scale.reshape(-1) if long else scale.reshape(())
        names = [
            self._constant(f"{y}:scale", flat),
            self._constant(f"{y}:zero_point", np.full(flat.shape, zero_point, dtype=dtype)),
        ]
        limits = [
            self._constant(f"{y}:{name}", np.asarray(bound, dtype=dtype))
            for name, bound in zip(("low", "high"), bounds, strict=True)
        ]
        self._node("QuantizeLinear", [x, *names], f"{y}:quantized", **axis)
        self._node("Clip", [f"{y}:quantized", *limits], y + CODES)
        self._node("DequantizeLinear", [y + CODES, *names], y, **axis)

    def _constant(self, name: str, value: npt.ArrayLike) -> str:
        self.tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
