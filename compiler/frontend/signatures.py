"""What an operator takes in an opset: inputs, outputs and attributes.

ONNX Runtime loads no node that has more.
"""

from __future__ import annotations

import onnx

from qcompile.compiler.frontend.node_reader import Refusal

MICROSOFT_INPUTS = {
    "DequantizeLinear": 3,
    "QGemm": 9,
    "QLinearAdd": 8,
    "QLinearAveragePool": 5,
    "QLinearGlobalAveragePool": 5,
    "QLinearLeakyRelu": 5,
    "QLinearMul": 8,
    "QLinearSigmoid": 5,
    "QLinearSoftmax": 5,
    "QuantizeLinear": 3,
}
"""Most inputs of com.microsoft's operators (ONNX Runtime's ContribOperators.md); QLinearConcat
and QLinearWhere are not limited here."""


def check_counts(node: onnx.NodeProto, opset: int) -> None:
    """Refuse a node with more inputs or outputs than its operator has."""
    most_inputs = MICROSOFT_INPUTS.get(node.op_type, len(node.input))
    most_outputs = len(node.output)
    if node.domain in ("", "ai.onnx"):
        try:
            schema = onnx.defs.get_schema(node.op_type, opset)
        except onnx.defs.SchemaError:
            raise Refusal(f"opset {opset} has no operator {node.op_type}", broken=True) from None
        most_inputs, most_outputs = schema.max_input, schema.max_output
    for what, count, most in (
        ("inputs", len(node.input), most_inputs),
        ("outputs", len(node.output), most_outputs),
    ):
        if count > most:
            raise Refusal(f"has {count} {what}; {node.op_type} takes {most} at most", broken=True)


def foreign_attributes(node: onnx.NodeProto, opset: int) -> tuple[str, ...]:
    """Attributes that a standard operator does not have in this opset; ONNX Runtime takes none."""
    if node.domain not in ("", "ai.onnx"):
        return ()
    known = onnx.defs.get_schema(node.op_type, opset).attributes
    return tuple(attribute.name for attribute in node.attribute if attribute.name not in known)


def first_opset(operator: str) -> int:
    """The version of the standard operators that brought this one."""
    versions = [
        schema.since_version
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.name == operator and schema.domain == ""
    ]
    return min(versions)
