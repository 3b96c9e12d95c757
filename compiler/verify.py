"""Checks a graph after every pass; what it finds is a bug of ours, and names the pass."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.errors import VerifyError
from qcompile.compiler.golden.numerics import MAX_SHIFT


def verify(graph: ir.Graph, *, after: str) -> None:
    """Raise VerifyError, naming the pass `after`, unless names, order and operations are sound."""
    for message in (*_names(graph), *_operations(graph)):
        raise VerifyError(
            f"pass {after}: {message}",
            context=(f"graph '{graph.name}' with {len(graph.ops)} operations",),
            help="this is a bug of qcompile; please report it with the model",
        )


def _names(graph: ir.Graph) -> Iterator[str]:
    yield from _values(graph)
    defined = set(graph.inputs)
    for op in graph.ops:
        for name in op.inputs:
            if name not in defined:
                yield f"{type(op).__name__} '{op.name}' uses '{name}' before it is made"
        for name in op.outputs:
            if name in defined:
                yield f"'{name}' is made twice"
            defined.add(name)
    for name in graph.outputs:
        if name not in defined:
            yield f"output '{name}' is never made"


def _values(graph: ir.Graph) -> Iterator[str]:
    for name in (*graph.inputs, *(name for op in graph.ops for name in op.outputs)):
        if name not in graph.values:
            yield f"'{name}' has no value"
    constants = {op.name for op in graph.ops if not op.inputs}
    for name, value in graph.values.items():
        if name != value.name:
            yield f"value '{value.name}' is filed as '{name}'"
        if any(d < 1 for d in value.shape) and name not in constants:
            yield f"'{name}' has the shape {list(value.shape)}"


def _operations(graph: ir.Graph) -> Iterator[str]:
    for op in graph.ops:
        inputs = [graph.values[name] for name in op.inputs if name in graph.values]
        output = graph.values.get(op.name)
        if output is None or len(inputs) != len(op.inputs):
            continue  # _names has reported it
        for message in _operation(op, inputs, output):
            yield f"{type(op).__name__} '{op.name}' {message}"


def _operation(op: ir.Op, inputs: list[ir.Value], output: ir.Value) -> Iterator[str]:
    integer = isinstance(op, ir.Conv | ir.AveragePool | ir.Binary)
    if isinstance(op, ir.MaxPool | ir.Select) and any(x.dtype != output.dtype for x in inputs):
        yield f"makes {output.dtype} of {', '.join(x.dtype for x in inputs)}"
    if integer and any(value.dtype != "int8" for value in (*inputs, output)):
        yield "works on something else than int8 codes"
    match op:
        case ir.Conv():
            yield from _conv(op, inputs[0], output)
        case ir.AveragePool():
            yield from _window(op, op.kernel, (1, 1), inputs[0], output)
            yield from _requant(op.requant, output.shape[1])
        case ir.Binary():
            yield from _table(op.table, (256, 256), inputs, output)
        case ir.MaxPool():
            yield from _window(op, op.kernel, op.dilations, inputs[0], output)
        case ir.Constant():
            if op.data.shape != output.shape or op.data.dtype != np.int8:
                yield f"holds {op.data.dtype}{list(op.data.shape)}"
        case ir.Lookup():
            yield from _table(op.table, (256,), inputs, output)
        case _:
            yield from _moves(op, inputs, output)


def _moves(op: ir.Op, inputs: list[ir.Value], output: ir.Value) -> Iterator[str]:
    entries = sum(value.elements for value in inputs)
    match op:
        case ir.Select():
            if op.index.shape != output.shape or op.index.dtype != np.int32:
                yield f"has an index {op.index.dtype}{list(op.index.shape)}"
            elif op.index.min() < -1 or op.index.max() >= entries:
                yield f"selects {op.index.min()}..{op.index.max()} of {entries} codes"
        case ir.Softmax():
            if inputs[0].shape != output.shape or not 1 <= op.steps <= 256:
                yield f"makes {list(output.shape)} of {list(inputs[0].shape)} in {op.steps} steps"
            if {op.powers.shape, op.logs.shape} != {(256,)}:
                yield f"has tables {list(op.powers.shape)} and {list(op.logs.shape)}"
        case ir.Reshape():
            if entries != output.elements or op.shape != output.shape:
                yield f"makes {list(op.shape)} of {list(inputs[0].shape)}"
        case _:
            return


def _broadcast(shapes: list[tuple[int, ...]], output: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(*shapes) == output
    except ValueError:
        return False


def _table(
    table: ir.Int8Array, shape: tuple[int, ...], inputs: list[ir.Value], output: ir.Value
) -> Iterator[str]:
    shapes = [value.shape for value in inputs]
    if len(shapes) != len(shape) or not _broadcast(shapes, output.shape):
        yield f"makes {list(output.shape)} of {[list(shape) for shape in shapes]}"
    if table.shape != shape or table.dtype != np.int8:
        yield f"has a table {table.dtype}{list(table.shape)}"


def _conv(op: ir.Conv, x: ir.Value, output: ir.Value) -> Iterator[str]:
    if op.weight.ndim != 4 or len(x.shape) != 4 or len(output.shape) != 4:
        yield "is not two-dimensional"
        return
    outputs, depth, height, width = op.weight.shape
    if op.weight.dtype != np.int16 or np.abs(op.weight.astype(np.int64)).max() > 255:
        yield "has weights outside -255..255"
    if x.shape[1] != depth * op.group or outputs != output.shape[1] or outputs % op.group:
        yield f"has weights {list(op.weight.shape)} in {op.group} groups for {list(x.shape)}"
    if op.bias.shape != (outputs,) or op.bias.dtype != np.int64:
        yield f"has a bias {op.bias.dtype}{list(op.bias.shape)}"
    yield from _window(op, (height, width), op.dilations, x, output)
    yield from _requant(op.requant, outputs)


def _window(
    op: ir.Conv | ir.AveragePool | ir.MaxPool,
    kernel: tuple[int, int],
    dilations: tuple[int, int],
    x: ir.Value,
    output: ir.Value,
) -> Iterator[str]:
    if len(x.shape) != 4 or len(output.shape) != 4:
        yield "is not two-dimensional"
        return
    for axis in range(2):
        padded = x.shape[2 + axis] + op.pads[axis] + op.pads[2 + axis]
        span = dilations[axis] * (kernel[axis] - 1) + 1
        if (padded - span) // op.strides[axis] + 1 != output.shape[2 + axis]:
            yield f"makes {list(output.shape)} of {list(x.shape)} with kernel {list(kernel)}"
    if not isinstance(op, ir.MaxPool) and not -128 <= op.input_zero_point <= 127:
        yield f"has the input zero point {op.input_zero_point}"


def _requant(requant: ir.Requant, channels: int) -> Iterator[str]:
    mantissa, shift = requant.mantissa, requant.shift
    if mantissa.shape != (channels,) or shift.shape != (channels,):
        yield f"has {mantissa.size} mantissas and {shift.size} shifts for {channels} channels"
        return
    if requant.mode == "log":
        yield from _log_requant(requant)
        return
    live = mantissa != 0
    if requant.mode == "exact" and np.any((mantissa[live] < 2**23) | (mantissa[live] >= 2**24)):
        yield "has a mantissa that is not of 24 bits"
    if requant.mode == "shift" and np.any(mantissa != 1):
        yield "has a mantissa in mode shift"
    if np.any((shift < 0) | (shift > MAX_SHIFT)):
        yield f"has shifts {shift.min()}..{shift.max()}"
    if not -128 <= requant.low <= requant.high <= 127 or not -128 <= requant.zero_point <= 127:
        yield f"clamps to {requant.low}..{requant.high} around {requant.zero_point}"


def _log_requant(requant: ir.Requant) -> Iterator[str]:
    if requant.log is None or requant.limits is None:
        yield "has no format or no limits in mode log"
    elif np.any(requant.limits < 1) or len(requant.limits) != min(
        requant.log.classes, requant.log.levels - 1
    ):
        yield f"has limits {requant.limits.min()}.. of {len(requant.limits)} classes"
    elif not 0 <= requant.low <= requant.high < requant.log.levels:
        yield f"clamps to {requant.low}..{requant.high} in mode log"
    if np.any(requant.shift != 0) or (requant.zero_point, requant.fraction) != (0, 0):
        yield "has a shift, zero point or fraction in mode log"
