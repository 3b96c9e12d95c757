"""Golden's integer layers on a quantized network, against ONNX Runtime's float ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

from qcompile.compiler.frontend.log_quantize import NAME
from qcompile.compiler.golden import log_domain
from qcompile.compiler.ir import Int64Array
from qcompile.compiler.log_format import LogFormat
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.sessions import observe
from sim_tests.compiler import float_networks

IMAGES = 40


def formats(model: onnx.ModelProto) -> dict[str, tuple[str, LogFormat]]:
    """Of each LogQuantize: its result, and what its codes mean, by its operand."""
    return {
        node.input[0]: (node.output[0], LogFormat(**{one.name: one.i for one in node.attribute}))
        for node in model.graph.node
        if node.op_type == NAME
    }


def windows(codes: Int64Array, node: onnx.NodeProto, kernel: tuple[int, int]) -> Int64Array:
    """Codes under a convolution's kernel: [N, channels, height, width, taps]; zeros beyond."""
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    strides = attributes.get("strides", [1, 1])
    padded = np.pad(codes, ((0, 0), (0, 0), (top, bottom), (left, right)))
    view = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))
    view = view[:, :, :: strides[0], :: strides[1]]
    return view.reshape(*view.shape[:4], -1)


def layer_codes(
    node: onnx.NodeProto,
    codes: Int64Array,
    constants: dict[str, npt.NDArray[Any]],
    inputs: LogFormat,
    outputs: LogFormat,
) -> npt.NDArray[np.uint8]:
    """A convolution with a rectifier behind it, from codes to codes."""
    weight, bias = (name.removesuffix("/real") for name in node.input[1:3])
    weights = constants[f"{weight}/codes"].astype(np.int64)
    seen = windows(codes, node, weights.shape[2:])
    result = []
    for channel, kernel in enumerate(weights):
        per_channel = len(kernel) == 1 and codes.shape[1] > 1
        taken = seen[:, channel : channel + 1] if per_channel else seen
        operands = np.moveaxis(taken, 1, -2).reshape(*taken.shape[:1], *taken.shape[2:4], -1)
        sums = log_domain.class_sums(kernel.reshape(-1), operands, inputs.step)
        total = log_domain.joined(sums, int(constants[f"{bias}/codes"][channel]), inputs.step)
        scale = float(constants[f"{weight}/scale"][channel])
        result.append(log_domain.encode(total, log_domain.thresholds(inputs, outputs, scale)))
    return np.stack(result, axis=1)


@pytest.mark.parametrize(
    ("levels", "step", "allowed"), [(8, 16, 0.0), (16, 16, 0.0), (16, 8, 5e-4)]
)
def test_convolutions_give_the_codes_of_onnxruntime(levels: int, step: int, allowed: float) -> None:
    subject = float_networks.digits()
    model = subject.quantized(Options(activations=f"log:{levels}", log_step=step)).model
    constants = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    logs = formats(model)
    by_result = {result: found for result, found in logs.values()}
    relus = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "Relu"}
    chosen = [
        node
        for node in model.graph.node
        if node.op_type == "Conv" and relus.get(node.output[0]) in logs
    ]
    results = {node.output[0]: logs[relus[node.output[0]]] for node in chosen}
    names = sorted({node.input[0] for node in chosen} | {result for result, _ in results.values()})
    seen = observe(model, subject.part(slice(IMAGES)), names)
    assert len(chosen) == 5
    for node in chosen:
        inputs = by_result[node.input[0]]
        result, outputs = results[node.output[0]]
        codes = inputs.codes(seen[node.input[0]]).astype(np.int64)
        expected = outputs.codes(seen[result]).astype(np.int64)
        found = layer_codes(node, codes, constants, inputs, outputs).astype(np.int64)
        assert np.mean(found != expected) <= allowed, node.name
        assert np.abs(found - expected).max() <= 1
        assert len(np.unique(expected)) > levels // 2
