"""QLinear operators as the float operators that they stand for.

Sources: ONNX (QLinearConv, QLinearMatMul) and ONNX Runtime's contributed operators (com.microsoft).
Weights and biases, which are constants, are dequantized: a bias has the product of both scales.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import NodeProto, helper

from qcompile.compiler.errors import UnsupportedError

Array = npt.NDArray[Any]
LAYERS = {"QLinearConv": "Conv", "QLinearMatMul": "MatMul", "QGemm": "Gemm"}
"""Inputs: operand, weights with scale and zero point each, then as POSITIONS say."""
POSITIONS = {"QLinearConv": (6, 8), "QLinearMatMul": (6, None), "QGemm": (7, 6)}
"""Of the result's scale and of the bias."""
POOLS = {"QLinearAveragePool": "AveragePool", "QLinearGlobalAveragePool": "GlobalAveragePool"}
FLOAT_FORMS = (*LAYERS, *POOLS, "QLinearAdd")

Form = tuple[NodeProto, dict[str, Array], str | None, str | None]
"""A node, its new constants, names of the result's scale and zero point (no scale: it is float)."""


def operand_places(node: NodeProto) -> tuple[int, ...]:
    """Inputs that are activations; scale and zero point follow each."""
    return (0, 3) if node.op_type == "QLinearAdd" else (0,)


def float_form(node: NodeProto, constants: Mapping[str, Array]) -> Form:
    """One of FLOAT_FORMS as a float node."""
    kept = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    if kept.pop("channels_last", 0):
        raise UnsupportedError(
            f"{node.op_type} '{node.name}' has its channels last",
            help="convert the model to channels first",
        )
    made: dict[str, Array] = {}
    if node.op_type in LAYERS:
        inputs, made = _layer_inputs(node, constants, float(kept.get("alpha", 1.0)))
        kind, scale = LAYERS[node.op_type], POSITIONS[node.op_type][0]
    elif node.op_type in POOLS:
        kind, inputs, scale = POOLS[node.op_type], [node.input[0]], 3
    else:
        kind, inputs, scale = "Add", [node.input[0], node.input[3]], 6
    result = helper.make_node(kind, inputs, list(node.output), name=node.name, **kept)
    return result, made, _name(node, scale), _name(node, scale + 1)


def _layer_inputs(
    node: NodeProto, constants: Mapping[str, Array], alpha: float
) -> tuple[list[str], dict[str, Array]]:
    codes, zero_point = (constants.get(node.input[one]) for one in (3, 5))
    scales = [constants.get(node.input[one]) for one in (1, 4)]
    if codes is None or zero_point is None or scales[0] is None or scales[1] is None:
        raise UnsupportedError(
            f"{node.op_type} '{node.name}' has weights or scales that are no constants",
            help="make them initializers",
        )
    shape = [1] * codes.ndim
    shape[_channel_axis(node)] = -1
    steps, zero = scales[1].reshape(-1), zero_point.reshape(-1).astype(np.int64)
    whole = codes.astype(np.int64) - (zero.reshape(shape) if zero.size > 1 else zero)
    real = whole * (steps.reshape(shape) if steps.size > 1 else steps)
    made = {f"{node.name}/real_weight": real.astype(np.float32)}
    bias = _name(node, POSITIONS[node.op_type][1])
    if bias is not None:
        step = steps.astype(np.float64) * float(scales[0].reshape(())) * alpha
        made[f"{node.name}/real_bias"] = (constants[bias] * step).astype(np.float32)
    return [node.input[0], *made], made


def _channel_axis(node: NodeProto) -> int:
    """Axis of the weights along which scales may differ."""
    if node.op_type == "QLinearConv":
        return 0
    transposed = any(one.name == "transB" and one.i for one in node.attribute)
    return 0 if transposed else 1


def _name(node: NodeProto, position: int | None) -> str | None:
    """An input's name; None where it is absent."""
    if position is None or position >= len(node.input):
        return None
    return node.input[position] or None
