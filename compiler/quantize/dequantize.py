"""The float network behind a model that is int8 already, in QDQ or QOperator form.

Codes become what they stand for: QuantizeLinear and DequantizeLinear of activations go, weights and
biases are dequantized, QLinear operators become their float ones. The ranges that codes had are
kept, so that a scheme can give the same tensors new codes: a Relu that was left to where codes end
is in them alone, and not in the float network. An input or output of codes is a float
one here; `Dequantized.restore` puts its conversion around the new model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.quantize.prepare import SAME_CODES, Network, fold_constants, name_nodes
from qcompile.compiler.quantize.qlinear import FLOAT_FORMS, float_form, operand_places
from qcompile.compiler.quantize.ranges import Range

Array = npt.NDArray[Any]
ENDS = {"int8": (-128, 127), "uint8": (0, 255)}
"""Lowest and highest code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """`real = scale * (code - zero_point)`, codes int8 or uint8 as `zero_point` is."""

    scale: np.float32
    zero_point: Array

    @property
    def range(self) -> Range:
        """Real values that codes reach."""
        low, high = ENDS[self.zero_point.dtype.name]
        zero, scale = int(self.zero_point), float(self.scale)
        return Range(low=(low - zero) * scale, high=(high - zero) * scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dequantized:
    """A float model, ranges by tensor, and inputs and outputs that were codes.

    `inputs` and `outputs` name the float tensor and what its codes stood for, by the model's names.
    """

    model: onnx.ModelProto
    ranges: Mapping[str, Range]
    original: onnx.ModelProto
    inputs: Mapping[str, tuple[str, Codes]]
    outputs: Mapping[str, tuple[str, Codes]]

    def values(self, given: Mapping[str, Array]) -> dict[str, Array]:
        """The float network's inputs, of the model's."""
        found = dict(given)
        for name, (real, codes) in self.inputs.items():
            whole = found.pop(name).astype(np.float32) - np.float32(codes.zero_point)
            found[real] = whole * codes.scale
        return found

    def restore(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """A model made of the float one, with the original's inputs and outputs."""
        result = onnx.ModelProto()
        result.CopyFrom(model)
        graph = result.graph
        nodes = list(graph.node)
        for name, (real, codes) in self.inputs.items():
            nodes.insert(0, _convert(graph, "DequantizeLinear", name, real, codes))
        for name, (real, codes) in self.outputs.items():
            nodes.append(_convert(graph, "QuantizeLinear", real, name, codes))
        del graph.node[:], graph.input[:], graph.output[:]
        graph.node.extend(nodes)
        weights = {tensor.name for tensor in self.original.graph.initializer}
        graph.input.extend(one for one in self.original.graph.input if one.name not in weights)
        graph.output.extend(self.original.graph.output)
        return result


def dequantize(model: onnx.ModelProto) -> Dequantized:
    """The float network of a quantized model; UnsupportedError where codes are no int8 or uint8."""
    network = Network(model)
    name_nodes(network)
    fold_constants(network)
    walk = _Walk(network)
    for node in network.nodes:
        walk.take(node)
    return walk.result(model)


def _convert(
    graph: onnx.GraphProto, kind: str, source: str, result: str, codes: Codes
) -> NodeProto:
    """A node between an input or output of codes and its real values; adds its constants."""
    names = [f"{result}/{kind}/{what}" for what in ("scale", "zero_point")]
    for name, array in zip(names, (np.float32(codes.scale), codes.zero_point), strict=True):
        graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return helper.make_node(kind, [source, *names], [result], name=f"{result}:{kind}")


@dataclass(slots=True)
class _Walk:
    """Nodes of the float network while they are being made.

    `real` names, for a tensor of the model, that of its values here; `codes` what codes stand for.
    """

    network: Network
    nodes: list[NodeProto] = field(default_factory=list)
    real: dict[str, str] = field(default_factory=dict)
    codes: dict[str, Codes] = field(default_factory=dict)
    ranges: dict[str, Range] = field(default_factory=dict)

    def take(self, node: NodeProto) -> None:
        """The next node in the order of execution."""
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            self._conversion(node)
            return
        if node.op_type in FLOAT_FORMS:
            made, constants, scale, zero_point = float_form(node, self.network.constants)
            self.network.constants |= constants
            for place in operand_places(node):
                self._operand(node, place)
            if scale is not None:
                self._note(node.output[0], node.output[0], self._codes(node, scale, zero_point))
        else:
            made = NodeProto()
            made.CopyFrom(node)
            if node.op_type in SAME_CODES and node.input[0] in self.codes:
                self.codes[node.output[0]] = self.codes[node.input[0]]
        for position, name in enumerate(made.input):
            made.input[position] = self.real.get(name, name)
        self.nodes.append(made)

    def _conversion(self, node: NodeProto) -> None:
        source, result = node.input[0], node.output[0]
        zero_point = node.input[2] if len(node.input) > 2 and node.input[2] else None
        codes = self._codes(node, node.input[1], zero_point)
        real = self.real.get(source, source)
        self.real[result] = real
        if node.op_type == "QuantizeLinear":
            self._note(result, real, codes)
        elif source not in self.codes:
            self._note(source, real, codes)
            self._note_in_front(source, codes)

    def _operand(self, node: NodeProto, place: int) -> None:
        """What an operand's codes stand for, where that is not known yet: an input's."""
        name, scale, zero_point = node.input[place : place + 3]
        if name not in self.codes:
            codes = self._codes(node, scale, zero_point)
            self._note(name, name, codes)
            self._note_in_front(name, codes)

    def _note(self, name: str, real: str, codes: Codes) -> None:
        self.codes[name] = codes
        self.ranges[real] = codes.range

    def _note_in_front(self, name: str, codes: Codes) -> None:
        """Codes came through moves from an input: it has the same."""
        makers = {node.output[0]: node for node in self.nodes}
        while name in makers and makers[name].op_type in SAME_CODES:
            name = makers[name].input[0]
            self._note(name, name, codes)

    def _codes(self, node: NodeProto, scale: str, zero_point: str | None) -> Codes:
        constants = self.network.constants
        steps = constants.get(scale)
        zero = constants.get(zero_point) if zero_point else self._zero(node)
        if steps is None or steps.size != 1 or zero is None or zero.dtype.name not in ENDS:
            raise UnsupportedError(
                f"{node.op_type} '{node.name}': only int8 and uint8 codes with one constant scale "
                "are requantized",
                help="start from the float model with qcompile quantize",
            )
        return Codes(scale=np.float32(steps.reshape(())), zero_point=np.asarray(zero).reshape(()))

    def _zero(self, node: NodeProto) -> Array:
        """The zero point where none is given: of the operand's type, or of uint8."""
        for value in self.network.inputs:
            if value.name == node.input[0] and value.type.tensor_type.elem_type == TensorProto.INT8:
                return np.asarray(np.int8(0))
        return np.asarray(np.uint8(0))

    def result(self, model: onnx.ModelProto) -> Dequantized:
        """The float model: inputs and outputs of codes get names of their own."""
        renamed: dict[str, str] = {}
        inputs, outputs = {}, {}
        graph_inputs, graph_outputs = [], []
        for value in self.network.inputs:
            copy = _float(value)
            if value.name in self.codes and value.type.tensor_type.elem_type != TensorProto.FLOAT:
                renamed[value.name] = copy.name = f"{value.name}/values"
                inputs[value.name] = copy.name, self.codes[value.name]
            graph_inputs.append(copy)
        for value in model.graph.output:
            copy, name = _float(value), self.real.get(value.name, value.name)
            if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                renamed[name] = value.name  # a DequantizeLinear's result, or itself
            elif value.name in self.codes:
                copy.name = f"{value.name}/values"
                renamed[name] = copy.name
                outputs[value.name] = copy.name, self.codes[value.name]
            graph_outputs.append(copy)
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [renamed.get(name, name) for name in names]
        used = {name for node in self.nodes for name in node.input}
        constants = [
            numpy_helper.from_array(array, name)
            for name, array in self.network.constants.items()
            if name in used
        ]
        graph = helper.make_graph(self.nodes, "float", graph_inputs, graph_outputs, constants)
        imports = [one for one in model.opset_import if one.domain in ("", "ai.onnx")]
        return Dequantized(
            model=helper.make_model(graph, opset_imports=imports, ir_version=model.ir_version),
            ranges={renamed.get(name, name): one for name, one in self.ranges.items()},
            original=model,
            inputs=inputs,
            outputs=outputs,
        )


def _float(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    copy.type.tensor_type.elem_type = TensorProto.FLOAT
    return copy
