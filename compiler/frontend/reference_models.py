"""ONNX files that the reference needs: a probe of the machine, and a model with inner outputs.

`compiler.reference` runs ONNX Runtime; whatever must be read or written as ONNX for it is here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model, uses_external_data

PROBE_SHAPE = (64, 16)
PROBE_RESULT = 127
"""The probe's exact output, every element."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node of a model: operator, name, tensors."""

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceGraph:
    """The graph that ONNX Runtime runs: nodes in order, numpy types of constants, outputs."""

    nodes: tuple[Node, ...]
    constant_types: dict[str, str]
    outputs: tuple[str, ...]


def saturation_probe() -> bytes:
    """A QLinearMatMul of uint8 x [1, 64] with int8 weights of 127, all scales but the last 1.

    With x = 255 every column is 64 * 255 * 127 = 2,072,640; divided by the output's scale 2**14
    that is 126.504, so 127. A kernel that adds pairs of products in 16 bits saturates at 32,767
    for each pair and gives 64.
    """
    rows, columns = PROBE_SHAPE
    constants = {
        "one": np.float32(1.0),
        "zero_x": np.uint8(0),
        "w": np.full((rows, columns), 127, dtype=np.int8),
        "zero_w": np.int8(0),
        "scale": np.float32(2.0**14),
        "zero_y": np.uint8(0),
    }
    names = ["x", "one", "zero_x", "w", "one", "zero_w", "scale", "zero_y"]
    graph = helper.make_graph(
        [helper.make_node("QLinearMatMul", names, ["y"])],
        "saturation_probe",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, rows])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, columns])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())


def self_contained(path: Path, folder: Path) -> Path:
    """The model itself, or, where it has external data, a copy in `folder` with all data inside.

    A fused model that ONNX Runtime writes to another folder does not find the data's files.
    """
    model = onnx.load(path, load_external_data=False)
    tensors = [attribute.t for node in model.graph.node for attribute in node.attribute]
    if not any(uses_external_data(tensor) for tensor in (*model.graph.initializer, *tensors)):
        return path
    load_external_data_for_model(model, str(path.resolve().parent))
    copy = folder / path.name
    onnx.save(model, copy)
    return copy


def read_graph(path: Path) -> ReferenceGraph:
    """Nodes and constants of an optimized model that ONNX Runtime wrote."""
    graph = onnx.load(path, load_external_data=False).graph
    types = {
        tensor.name: helper.tensor_dtype_to_np_dtype(tensor.data_type).name
        for tensor in graph.initializer
    }
    nodes = tuple(
        Node(
            operator=node.op_type,
            name=node.name,
            inputs=tuple(node.input),
            outputs=tuple(node.output),
        )
        for node in graph.node
    )
    outputs = tuple(info.name for info in graph.output)
    return ReferenceGraph(nodes=nodes, constant_types=types, outputs=outputs)


def expose_tensors(path: Path, names: Iterable[str]) -> tuple[str, ...]:
    """Rewrite the model at `path` so that the inner tensors `names` are outputs too.

    Returns the names that the model has.
    """
    model = onnx.load(path, load_external_data=False)
    produced = {name for node in model.graph.node for name in node.output}
    outputs = {info.name for info in model.graph.output}
    present = tuple(dict.fromkeys(name for name in names if name in produced))
    model.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in present if name not in outputs
    )
    path.write_bytes(model.SerializeToString())
    return present
