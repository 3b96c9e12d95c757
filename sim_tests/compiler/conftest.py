"""Fixtures of the compiler's tests: ONNX Runtime as the source of expected values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

RunNode = Callable[..., npt.NDArray[np.int64]]


@pytest.fixture(scope="session")
def run_node() -> RunNode:
    """One operator in ONNX Runtime, without any optimization."""
    return _run_node


def _run_node(
    operator: str,
    inputs: Mapping[str, npt.NDArray[Any]],
    *,
    constants: Mapping[str, npt.ArrayLike],
    order: str,
    output_type: int,
    domain: str = "",
    **attributes: Any,
) -> npt.NDArray[np.int64]:
    """One operator in ONNX Runtime; `order` lists its inputs, of which some are constants."""
    types = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8}
    node = helper.make_node(operator, order.split(), ["result"], domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "single",
        [
            helper.make_tensor_value_info(k, types.get(v.dtype.name, TensorProto.FLOAT), v.shape)
            for k, v in inputs.items()
        ],
        [helper.make_tensor_value_info("result", output_type, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, dict(inputs))[0], dtype=np.int64)
