"""ONNX Runtime's own test models: each one agrees with it, or is refused for a reason that is true.

Models that hold no quantized layer, compute on two activations of runtime scales or leave their
results in float cannot become integer layers; `REFUSED` says which and why. The phrase is a part of
the message, so that a model that fails in another way is noticed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from qcompile.compiler.compare import compare_output
from qcompile.compiler.errors import QcompileError
from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.ir import Model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from sim_tests.compiler.agreement import random_inputs

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "conformance" / "ort_testdata"

SIZE = 8
"""Of dimensions without a size; a leading one is 1."""

DYNAMIC = "DynamicQuantizeLinear"
FLOAT_RESULT = "is the float result of"
BATCH = "has a batch of"
OPSET = "opset 23 is not supported"
BIAS_SCALE = "times input scale * weight scale"

REFUSED = {
    "dynamic_quantize_matmul_int8": DYNAMIC,
    "dynamic_quantize_matmul_int8_bias": DYNAMIC,
    "dynamic_quantize_matmul_uint8": DYNAMIC,
    "dynamic_quantize_matmul_uint8_bias": DYNAMIC,
    "layout_transform_fix_transpose_without_dq.qdq": "uint16",
    "matmul_integer_to_float_int8": "MatMulInteger",
    "matmul_integer_to_float_int8_bias": "MatMulInteger",
    "matmul_integer_to_float_int8_bias_initializer_index0": OPSET,
    "matmul_integer_to_float_int8_bias_initializer_index1": OPSET,
    "matmul_integer_to_float_int8_int8": "MatMulInteger",
    "matmul_integer_to_float_int8_int8_bias": "MatMulInteger",
    "matmul_integer_to_float_uint8": "MatMulInteger",
    "matmul_integer_to_float_uint8_bias": "MatMulInteger",
    "qdq_minimal_model": "Shape",
    "qdq_with_multi_consumer_dq_nodes": FLOAT_RESULT,
    "qdq_with_multi_consumer_q_dq_axis": FLOAT_RESULT,
    "test_conv_follow_convtrans": "ConvTranspose",
    "transform__fusion__constant_folding_dequantizelinear": FLOAT_RESULT,
    "transform__fusion__constant_folding_dequantizelinear.qdq_contrib": FLOAT_RESULT,
    "transform__fusion__constant_folding_qdq_node_unit": "Add_213",
    "transform__fusion__constant_folding_qdq_node_unit.graph_output": "Add_213",
    "transform__fusion__constant_folding_qdq_node_unit.graph_output.qdq_contrib": "Add_213",
    "transform__fusion__constant_folding_qdq_node_unit.qdq_contrib": "Add_213",
    "transform__fusion__dynamic_quantize_matmul": BATCH,
    "transform__fusion__dynamic_quantize_matmul_bias": BATCH,
    "transform__fusion__dynamic_quantize_matmul_bias_ND": BATCH,
    "transform__fusion__dynamic_quantize_matmul_bias_b_no_zp": BATCH,
    "transform__fusion__matmul_integer_to_float": BATCH,
    "transform__fusion__matmul_integer_to_float_large_tensor": BATCH,
    "transform__fusion__qdq_fusion_int8": "no operator for the accelerator",
    "transform__fusion__qdq_fusion_uint8": "no operator for the accelerator",
    "transform__fusion__qdq_fusion_zp_not_provided": "no operator for the accelerator",
    "transform__qdq_conv": BIAS_SCALE,
    "transform__qdq_with_multi_consumer_dq_nodes.fixed": FLOAT_RESULT,
    "transform__qdq_with_multi_consumer_dq_nodes.fixed.qdq_contrib": FLOAT_RESULT,
    "transform__runtime_optimization__qdq_convs": BIAS_SCALE,
    "transpose_optimizer_qdq_fixup_unsqueeze_per_axis_dq": BATCH,
}
"""Model to a part of the message that refuses it."""


def chosen_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes for inputs with dimensions of no size."""
    graph = onnx.load(path, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    shapes: dict[str, tuple[int, ...]] = {}
    for info in graph.input:
        dims = info.type.tensor_type.shape.dim
        if info.name not in constants and any(not dim.HasField("dim_value") for dim in dims):
            shapes[info.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") else 1 if i == 0 else SIZE
                for i, dim in enumerate(dims)
            )
    return shapes


def assert_agrees(path: Path, model: Model, inputs: dict[str, Any]) -> None:
    """Outputs are equal; those of float islands are at most a step apart."""
    reference = Reference(path, [], [op.name for op in model.graph.ops])
    expected = reference.run(inputs).outputs
    steps = {value.name: value.quantization for value in model.outputs}
    apart = reference.downstream(reference.islands)
    outputs = run_model(model, inputs)
    assert set(outputs) == set(expected)
    for name, result in expected.items():
        quantization = steps[name]
        scale = None if quantization is None else quantization.scale
        record = compare_output(name, outputs[name], result, scale=scale, classes=False)
        if name in apart and record.max_steps is not None:
            assert record.max_steps <= 1
        elif name not in apart:
            assert record.differing == 0, record


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.onnx")))
def test_model_agrees_with_onnxruntime_or_is_refused_with_reason(
    shared: Path, rng: np.random.Generator, name: str
) -> None:
    path = shared / "conformance" / "ort_testdata" / f"{name}.onnx"
    try:
        model = load_model(path, shapes=chosen_shapes(path))
    except QcompileError as refusal:
        assert REFUSED.get(name, "(should be read)") in str(refusal)
        assert all(problem.help for problem in refusal.problems or [refusal]), str(refusal)
        return
    assert name not in REFUSED
    assert_agrees(path, model, random_inputs(model, rng, 3))
