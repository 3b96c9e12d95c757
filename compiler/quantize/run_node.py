"""Runs single nodes in ONNX Runtime, with weights as operands, over many inputs at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper

from qcompile.compiler.quantize.prepare import IR_VERSION, OPSET
from qcompile.compiler.quantize.sessions import run_alone

Array = npt.NDArray[Any]
TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64}


class NodeRunner:
    """One node with one result. A session is made at the first run, for the operands' types."""

    def __init__(self, node: NodeProto) -> None:
        self.node = node
        self._run: Any = None

    def run(self, operands: Mapping[str, Array]) -> Array:
        """The node's result for operands by name, each float32 or int64."""
        given = {name: operands[name] for name in dict.fromkeys(self.node.input) if name}
        if self._run is None:
            self._run = run_alone(self._model(given))
        (result,) = self._run(given)
        return np.asarray(result)

    def _model(self, operands: Mapping[str, Array]) -> onnx.ModelProto:
        inputs = [
            helper.make_tensor_value_info(name, TYPES[array.dtype], [None] * array.ndim)
            for name, array in operands.items()
        ]
        output = onnx.ValueInfoProto(name=self.node.output[0])
        graph = helper.make_graph([self.node], "node", inputs, [output])
        imports = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)
