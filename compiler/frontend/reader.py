"""ONNX file to float-level graph: the only place that knows the names of ONNX operators.

Supported: opset 10 to 21 of the standard operators, in QDQ and in QOperator form. Whatever is not
supported is collected in `Problems`, all of it, before the caller gives up: the values that a
refused node would have made get the shapes that ONNX's own shape inference finds, so that reading
goes on.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy.typing as npt
import onnx

from qcompile.compiler import ir_float
from qcompile.compiler.diagnostics import Problems, printable
from qcompile.compiler.frontend import (
    arithmetic,
    binary,
    integer,
    log_quantize,
    movement,
    pools,
    qonnx,
    qonnx_trunc,
    qoperator,
    reductions,
    resize,
    selection,
    unary,
)
from qcompile.compiler.frontend.constants import fold_constant
from qcompile.compiler.frontend.inputs import read_inputs
from qcompile.compiler.frontend.loader import MAX_RANK, MAX_TENSOR_BYTES, ModelFile, read_tensor
from qcompile.compiler.frontend.node_reader import NodeReader, Refusal
from qcompile.compiler.frontend.operators import Operator
from qcompile.compiler.frontend.shapes import inferred_values
from qcompile.compiler.frontend.signatures import check_counts, foreign_attributes
from qcompile.compiler.frontend.structure import describe, ordered_nodes
from qcompile.compiler.ir import Graph, Op, Value

OPSETS = range(10, 22)
"""Versions of the standard operators whose attributes the importers know."""

QUANTIZERS = {**qonnx.OPERATORS, **qonnx_trunc.OPERATORS}

DOMAINS: dict[str, dict[str, Operator]] = {
    "": {
        **arithmetic.OPERATORS,
        **binary.OPERATORS,
        **integer.OPERATORS,
        **movement.OPERATORS,
        **pools.OPERATORS,
        **qoperator.STANDARD,
        **reductions.OPERATORS,
        **resize.OPERATORS,
        **selection.OPERATORS,
        **unary.OPERATORS,
    },
    "com.microsoft": qoperator.MICROSOFT,
    log_quantize.DOMAIN: log_quantize.OPERATORS,
    **dict.fromkeys(qonnx.DOMAINS, QUANTIZERS),
}
"""The operators of each domain."""


_RECURRENT = "replace it by convolutions over time; layers with a state do not run here"
_NORMALIZATION = "train with BatchNormalization: its sums are constants, which fold into layers"
_AT_THE_END = "end the network in front of it and compute it on the host"
WAYS_OUT = {
    **dict.fromkeys(("GRU", "LSTM", "RNN"), _RECURRENT),
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization"), _NORMALIZATION),
    **dict.fromkeys(("LRN", "LayerNormalization", "LpNormalization"), _NORMALIZATION),
    **dict.fromkeys(("NonMaxSuppression", "ReduceL2", "TopK"), _AT_THE_END),
    "LogSoftmax": "end with Softmax, or with the values in front of it: their order is the same",
    "Pow": "write x ** 2 as Mul(x, x), with its own QuantizeLinear",
    "ReduceSum": "use ReduceMean, quantize its result, and multiply that by the number of values",
}
"""For operators of usual networks that have no importer."""


def unsupported_help(operator: str) -> str:
    """A way out for an operator that has no importer."""
    if operator in WAYS_OUT:
        return WAYS_OUT[operator]
    if operator in ("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"):
        return "quantize statically (onnxruntime quantize_static): scales must be constants"
    if operator.startswith("QLinear"):
        return "quantize in QDQ form: quantize_static(..., quant_format=QuantFormat.QDQ)"
    near = difflib.get_close_matches(operator, DOMAINS[""], n=1, cutoff=0.8)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"docs/operators.md lists the operators that are supported{hint}"


@dataclass(slots=True)
class _Reading:
    """State of one walk over the nodes."""

    file: ModelFile
    problems: Problems
    opset: int
    values: dict[str, Value]
    constants: dict[str, npt.NDArray[Any]]
    dequantized: dict[str, ir_float.DequantizeLinear]
    ops: list[Op]
    inferred: Mapping[str, Value]


def read_graph(file: ModelFile, shapes: Mapping[str, tuple[int, ...]], problems: Problems) -> Graph:
    """The file's graph at the float level; problems are added, not raised."""
    proto = file.proto.graph
    opset = _read_opset(file.proto, problems)
    nodes = ordered_nodes(proto, problems)
    inputs = read_inputs(proto, shapes, problems)
    problems.raise_if_any()
    reading = _Reading(
        file=file,
        problems=problems,
        opset=opset,
        values={value.name: value for value in inputs},
        constants={},
        dequantized={},
        ops=[],
        inferred=inferred_values(file.proto, inputs),
    )
    for tensor in proto.initializer:
        _define_constant(reading, tensor.name, read_tensor(file, tensor))
    for index, node in nodes:
        _read_node(reading, node, index)
    return Graph(
        name=file.path.stem,
        inputs=tuple(value.name for value in inputs),
        outputs=tuple(value.name for value in proto.output),
        values=reading.values,
        ops=tuple(reading.ops),
    )


def _read_opset(proto: onnx.ModelProto, problems: Problems) -> int:
    versions = {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}
    opset = int(versions.get("ai.onnx", 0))
    if opset not in OPSETS:
        problems.unsupported(
            f"opset {opset} is not supported",
            help=f"convert the model to opset {OPSETS.start} to {OPSETS.stop - 1} "
            "(onnx.version_converter)",
        )
    log_quantize.check_functions(proto, problems)
    if proto.graph.sparse_initializer:
        problems.unsupported("sparse constants are not supported", help="save them dense")
    return opset


def _read_node(reading: _Reading, node: onnx.NodeProto, index: int) -> None:
    title = describe(node, index)
    domain = "" if node.domain == "ai.onnx" else node.domain
    if domain not in DOMAINS:
        reading.problems.unsupported(
            f"{title}: operators of {printable(node.domain)} are not supported",
            help=unsupported_help(node.op_type),
        )
        return _guess_outputs(reading, node)
    reader = NodeReader(
        node,
        index,
        opset=reading.opset,
        values=reading.values,
        constants=reading.constants,
        dequantized=reading.dequantized,
        read=partial(read_tensor, reading.file),
    )
    operator = DOMAINS[domain].get(node.op_type)
    if operator is None:
        reading.problems.unsupported(
            f"{title}: the operator is not supported",
            context=(reader.context(),) if reader.context() else (),
            help=unsupported_help(node.op_type),
        )
        return _guess_outputs(reading, node)
    if any(name and name not in reading.values for name in node.input):
        return None  # follows a refused node whose result has no known shape
    try:
        _import(reading, reader, operator)
    except Refusal as refusal:
        report = reading.problems.broken if refusal.broken else reading.problems.unsupported
        context = (reader.context(),) if reader.context() else ()
        report(f"{title}: {refusal.message}", context=context, help=refusal.help)
        _guess_outputs(reading, node)
    return None


def _import(reading: _Reading, reader: NodeReader, operator: Operator) -> None:
    check_counts(reader.node, reading.opset)
    made = operator.read(reader)
    _refuse_unread(reader)
    for op, value in [made] if isinstance(made, tuple) else made:
        if isinstance(op, ir_float.Constant):
            _define_constant(reading, op.name, op.data)
            continue
        _refuse_size(reading, op, value)
        folded = fold_constant(op, reading.constants)
        if folded is not None:
            _define_constant(reading, value.name, folded)
            continue
        if isinstance(op, ir_float.DequantizeLinear) and op.inputs[0] in reading.constants:
            reading.dequantized[value.name] = op
        reading.ops.append(op)
        reading.values[value.name] = value


def _refuse_size(reading: _Reading, op: Op, value: Value) -> None:
    """Refuse empty tensors, and those that are too large."""
    for name in op.inputs:
        if name in reading.values and reading.values[name].elements == 0:
            shape = list(reading.values[name].shape)
            raise Refusal(f"operand '{name}' {shape} is empty", broken=True)
    if value.elements == 0:
        raise Refusal(f"makes an empty tensor {list(value.shape)}", broken=True)
    if len(value.shape) > MAX_RANK:
        raise Refusal(f"makes a tensor of {len(value.shape)} dimensions", broken=True)
    if value.elements * 4 > MAX_TENSOR_BYTES:
        raise Refusal(f"makes a tensor of {value.elements:,} elements", help="too large")


def _refuse_unread(reader: NodeReader) -> None:
    unread = reader.unread_attributes()
    if unread:
        raise Refusal(
            f"attribute {', '.join(unread)} is not known here",
            help="remove it, or convert the model to the opset that it says it uses",
        )
    foreign = foreign_attributes(reader.node, reader.opset)
    if foreign:
        raise Refusal(
            f"opset {reader.opset} has no attribute {', '.join(foreign)} of {reader.node.op_type}",
            help="convert the model to a newer opset (onnx.version_converter)",
            broken=True,
        )


def _define_constant(reading: _Reading, name: str, data: npt.NDArray[Any]) -> None:
    reading.constants[name] = data
    reading.values[name] = Value(name=name, shape=tuple(data.shape), dtype=data.dtype.name)
    reading.ops.append(ir_float.Constant(inputs=(), outputs=(name,), data=data))


def _guess_outputs(reading: _Reading, node: onnx.NodeProto) -> None:
    """Let reading go on behind a refused node, where shape inference knows its results."""
    for name in filter(None, node.output):
        value = reading.inferred.get(name)
        if value is None or len(value.shape) > MAX_RANK or value.elements * 4 > MAX_TENSOR_BYTES:
            continue
        reading.values[name] = replace(value, name=name)
