"""Give the leading and trailing operators that do no arithmetic of weight to the host.

The accelerator keeps everything from the first to the last Conv, MatMul, AveragePool, Add and
Lookup. What comes before goes to the prologue, what comes after to the epilogue, as plain dicts
that `qcompile.runtime.host_ops` runs with numpy alone and that the manifest records as JSON::

    {"op": "QuantizeLinear", "inputs": ["x"], "outputs": ["x_codes"],
     "attributes": {"scale": 0.5, "zero_point": 3, "dtype": "int8"}}

Host operations have one output, and one input but for Select. Every value has the batch as its
first axis: shapes are written for one sample, with a leading 1, and hold for N samples with N in
its place; `batch_axis` says what becomes of tensors that are without it in the model.
An operation may have the same name for its input and its output: it then replaces the value.
Scales are float32 values (a JSON number that float32 holds exactly), dtypes are numpy names.

| op | attributes | result |
|---|---|---|
| Reshape | shape | the elements, row-major, in shape [N, *shape[1:]] |
| Transpose | permutation (0 first) | `numpy.transpose` |
| Cast | dtype | ONNX Cast: to an integer by truncation toward zero |
| Offset | offset, dtype | value + offset as dtype: uint8 codes to int8 (-128) and back |
| Arithmetic | function, constant, shape, constant_first | Add, Sub, Mul, Div or Prelu, float32 |
| FloatProduct | weight, outputs, zero_point, scale, bias | real product of code vectors |
| Function | name, its constants | one of `runtime.float_functions.FUNCTIONS` |
| Clip | low, high (null: no bound) | float32 clamp; a Relu is low 0 |
| QuantizeLinear | scale, zero_point, dtype | rint(clip(x / scale, low - zp, high - zp)) + zp |
| DequantizeLinear | scale, zero_point | float32(code - zero_point) * scale |
| LogDequantize | values | values[code] |
| LogQuantize | thresholds | int8: how many of the ascending thresholds it reaches |
| Lookup | table (256 codes), dtype | table[code - lowest code of the input's own dtype] as dtype |
| ArgMax | axis, keepdims, select_last_index | int64 index of the first or last largest |
| Select | index (flat), shape, fill | entries of the inputs behind one another; -1: fill |
| Softmax | axis | float32 softmax along one axis |
| WindowColumns | kernel, stride, dilation, pad, out_width, fill | windows' columns as channels |
| Windows | kernel, strides, dilations, pads, size, fill | windows' taps as channels |
| PixelBlocks | block, start, size, fill | blocks of pixels as channels |
| QLinearSoftmax | axis, x_scale, y_scale, y_zero_point, dtype | as ONNX Runtime's operator |

Per sample the order of the prologue and the epilogue is the order of execution. After the prologue
the accelerator's inputs are int8 codes, 4-D; the epilogue starts from its int8 outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qcompile.compiler import ir_float, ir_quantized
from qcompile.compiler.diagnostics import Problems
from qcompile.compiler.ir import Constant, Graph, Lookup, Op, Reshape, Select
from qcompile.compiler.passes.batch_axis import HostOp, has_batch_axis
from qcompile.compiler.passes.gather_moves import gather_moves
from qcompile.compiler.passes.host_operations import OPERATIONS, host_operations, offset
from qcompile.compiler.passes.matmul_to_conv import LAYERS
from qcompile.compiler.passes.merge_pads import merge_pads

HOST_RUNS = "the host runs one sample a time, before the first and after the last layer"
INT8_CODES = ":int8"
"""Suffix of an input of the accelerator whose codes are uint8 in the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitModel:
    """The host's operations and the accelerator's graph, still at the quantized level.

    Values of the graph keep the model's types; the codes that they stand for are int8 from here
    on, uint8 codes being 128 lower. `fuse_requant` writes that into the values.
    """

    prologue: tuple[HostOp, ...]
    graph: Graph
    epilogue: tuple[HostOp, ...]


def split_host(graph: Graph, problems: Problems) -> SplitModel:
    """Divide the quantized graph; what would need the host in the middle is a problem."""
    leading = _leading(graph)
    trailing = _trailing(graph, leading)
    host = {op.name for op in (*leading, *trailing)}
    middle = [op for op in graph.ops if op.name not in host]
    if not middle:
        problems.unsupported(
            "has no operator for the accelerator",
            help="the model needs at least one quantized Conv, MatMul, Gemm, AveragePool or Add",
        )
    for op in middle:
        if not isinstance(op, LAYERS | Lookup | Reshape | ir_float.Transpose | Select):
            _refuse(graph, op, problems, "stands between two layers", _help(op))
    for op in (*leading, *trailing):
        if type(op) not in OPERATIONS:
            _refuse(graph, op, problems, "is no operation for the host")
    problems.raise_if_any()
    split = _assemble(graph, leading, middle, trailing)
    gathered = merge_pads(gather_moves(split.graph))
    for op in gathered.ops:
        if not has_batch_axis(gathered.values[op.name].shape):
            _refuse(gathered, op, problems, "does not keep the batch as the first axis")
    problems.raise_if_any()
    return replace(split, graph=gathered)


def _leading(graph: Graph) -> list[Op]:
    """Operations before the first layer: they depend on the model's inputs alone."""
    known = set(graph.inputs)
    leading = []
    for op in graph.ops:
        if not isinstance(op, LAYERS) and known.issuperset(op.inputs):
            leading.append(op)
            known.update(op.outputs)
    return leading


def _trailing(graph: Graph, leading: Sequence[Op]) -> list[Op]:
    """Operations behind the last layer: no layer depends on them."""
    first = {op.name for op in leading}
    needed: set[str] = set()
    constants = {op.name for op in graph.ops if isinstance(op, Constant)}
    trailing: list[Op] = []
    for op in reversed(graph.ops):
        joins = not constants.isdisjoint(op.inputs)  # the host has no constants
        if _is_layer(op) or joins or needed.intersection(op.outputs):
            needed.update(op.inputs)
        elif op.name not in first:
            trailing.append(op)
    return trailing[::-1]


def _is_layer(op: Op) -> bool:
    return isinstance(op, LAYERS) or (isinstance(op, Select) and op.joins_parts)


def _help(op: Op) -> str:
    if isinstance(op, ir_quantized.QuantizedSoftmax):
        return "add --softmax chip, which computes it there, within one step of ONNX Runtime"
    return HOST_RUNS


def _refuse(graph: Graph, op: Op, problems: Problems, message: str, help: str = HOST_RUNS) -> None:
    origin = op.origins[0]
    value = graph.values[op.inputs[0]]
    name = f" '{origin.node}'" if origin.node else ""
    problems.unsupported(
        f"{origin.operator}{name} (node {origin.index}): {message}",
        context=(f"input '{value.name}' {value.dtype}{list(value.shape)}".replace(", ", ","),),
        help=help,
    )


def _assemble(
    graph: Graph, leading: Sequence[Op], middle: Sequence[Op], trailing: Sequence[Op]
) -> SplitModel:
    made = {name for op in middle for name in op.outputs}
    wanted = [name for op in middle for name in op.inputs if name not in made]
    inputs = tuple(dict.fromkeys(wanted))
    later = {name for op in trailing for name in op.inputs} | set(graph.outputs)
    outputs = tuple(name for op in middle for name in op.outputs if name in later)
    moved = {name: name + INT8_CODES for name in inputs if graph.values[name].dtype == "uint8"}
    prologue = [step for op in leading for step in host_operations(graph, op)]
    prologue += [offset(name, moved[name], -128, "int8") for name in inputs if name in moved]
    epilogue = [
        offset(name, name, 128, "uint8") for name in outputs if graph.values[name].dtype == "uint8"
    ]
    epilogue += [step for op in trailing for step in host_operations(graph, op)]
    names = {name for op in middle for name in (*op.inputs, *op.outputs)}
    accelerated = Graph(
        name=graph.name,
        inputs=tuple(moved.get(name, name) for name in inputs),
        outputs=outputs,
        values={
            moved.get(name, name): replace(value, name=moved.get(name, name))
            for name, value in graph.values.items()
            if name in names
        },
        ops=tuple(
            replace(op, inputs=tuple(moved.get(name, name) for name in op.inputs)) for op in middle
        ),
    )
    return SplitModel(prologue=tuple(prologue), graph=accelerated, epilogue=tuple(epilogue))
