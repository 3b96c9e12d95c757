"""Functions of two operands that are not two tensors of one shape.

A constant that is one code makes the function a table; one that is a code for each channel makes
it a depthwise layer of one tap, where whole numbers exist with which that has the same code for all
256 inputs of every channel. An operand that broadcasts is enlarged by copies first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.golden.numerics import requantize, scale_to_mantissa
from qcompile.compiler.layers import Layer
from qcompile.compiler.passes.lowering.fuse import fuse_add, fuse_lookup
from qcompile.compiler.passes.lowering.layer import make_layer, operator_of, shape3
from qcompile.compiler.passes.lowering.select import select
from qcompile.compiler.passes.lowering.state import Lowering

CODES = np.arange(-128, 128)
LARGEST_BIAS = 1 << 23
"""So that every sum is exact in float32."""


def binary(state: Lowering, op: ir.Binary) -> None:
    """The layers of a Binary. UnsupportedError where it has no exact form."""
    constants = {c.name: c.data for c in state.graph.ops if isinstance(c, ir.Constant)}
    known = [name in constants for name in op.inputs]
    if all(known):
        raise UnsupportedError(f"'{op.name}': both operands of this {operator_of(op)} are constant")
    if any(known):
        _with_constant(state, op, known.index(True), constants[op.inputs[known.index(True)]])
        return
    shape = state.graph.values[op.name].shape
    sources = [
        state.source(name)
        if state.graph.values[name].shape == shape
        else _enlarged(state, op, operand)
        for operand, name in enumerate(op.inputs)
    ]
    fuse_add(state, op, sources)


def _enlarged(state: Lowering, op: ir.Binary, operand: int) -> str:
    """A tensor of the output's shape that holds a broadcast operand."""
    name = op.inputs[operand]
    shape = state.graph.values[op.name].shape
    value = state.graph.values[name]
    numbers = np.arange(value.elements, dtype=np.int32).reshape(value.shape)
    enlarged = f"{op.name}:operand{operand}"
    move = ir.Select(
        inputs=(name,),
        outputs=(enlarged,),
        origins=op.origins,
        index=np.broadcast_to(numbers, shape),
    )
    values = {**state.graph.values, enlarged: replace(state.graph.values[op.name], name=enlarged)}
    begin = len(state.layers)
    select(replace(state, graph=replace(state.graph, values=values)), move)
    state.layers[begin:] = [replace(layer, inner=True) for layer in state.layers[begin:]]
    state.uses[enlarged] += 1
    return enlarged


def _with_constant(state: Lowering, op: ir.Binary, operand: int, data: ir.Int8Array) -> None:
    other = op.inputs[1 - operand]
    shape = shape3(state.graph, op.name)
    codes = np.broadcast_to(data, state.graph.values[op.name].shape).reshape(shape)
    context = [
        f"operand '{other}' {list(state.graph.values[other].shape)}",
        f"constant '{op.inputs[operand]}' {list(data.shape)}",
    ]
    table = op.table if operand else op.table.T
    alike = state.graph.values[other].shape == state.graph.values[op.name].shape
    if alike and bool((codes == codes[:, :1, :1]).all()):
        functions = table[:, codes[:, 0, 0].astype(np.int64) + 128].T
        if bool((functions == functions[0]).all()):
            lookup = ir.Lookup(
                inputs=(other,), outputs=op.outputs, origins=op.origins, table=functions[0]
            )
            fuse_lookup(state, lookup)
            return
        layer = _per_channel(state, op, other, functions)
        if layer is not None:
            state.layers.append(layer)
            return
        problem = "with a constant for each channel has no exact form as one weight a channel"
    else:
        problem = "with a constant that changes between pixels has no hardware form"
    raise UnsupportedError(
        f"'{op.name}': {operator_of(op)} {problem}",
        context=context,
        help="use one constant for the tensor, or put it into the layer before",
    )


def _per_channel(
    state: Lowering, op: ir.Binary, name: str, functions: ir.Int8Array
) -> Layer | None:
    """A layer of one tap, function [channels, 256] in each channel; None where there is none."""
    shape = shape3(state.graph, op.name)
    low, high = int(functions.min()), int(functions.max())
    for zero_point in (0, 1) if state.mode == "exact" else ():
        fits = [_fit(function, low, high, zero_point) for function in functions.astype(np.int64)]
        found = [fit for fit in fits if fit is not None]
        if len(found) < len(fits):
            continue
        requant = ir.Requant(
            mode="exact",
            mantissa=np.array([fit.mantissa for fit in found]),
            shift=np.array([fit.shift for fit in found]),
            zero_point=zero_point,
            low=low,
            high=high,
        )
        return make_layer(
            op,
            operator=operator_of(op),
            kind="depthwise",
            source=state.source(name),
            shapes=(shape, shape),
            weight=np.array([fit.weight for fit in found], np.int16).reshape(-1, 1, 1),
            bias=np.array([fit.bias for fit in found]),
            strides=(1, 1),
            dilations=(1, 1),
            pads=(0, 0, 0, 0),
            input_zero_point=0,
            requant=requant,
            macs=0,
        )
    return None


@dataclass(frozen=True, slots=True)
class _Fit:
    """Of one channel: code = requantize(weight * x + bias)."""

    weight: int
    bias: int
    mantissa: int
    shift: int


def _fit(function: ir.Int64Array, low: int, high: int, zero_point: int) -> _Fit | None:
    """Whole numbers that give a function of 256 codes, clamped to low..high; None: none found."""
    slope, offset = _line(function - zero_point, low - zero_point, high - zero_point)
    for weight in range(127, 31, -1):
        mantissa, shift = scale_to_mantissa(np.array([abs(slope) / weight], np.float32))
        if not mantissa[0]:
            mantissa, shift = np.array([1 << 23]), np.array([24])
        scale = float(mantissa[0]) * 2.0 ** -float(shift[0])
        bias = round(offset / scale)
        if abs(bias) > LARGEST_BIAS:
            continue
        requant = ir.Requant(
            mode="exact", mantissa=mantissa, shift=shift, zero_point=zero_point, low=low, high=high
        )
        signed = (weight if slope > 0 else -weight) if slope else 0
        found = requantize((signed * CODES + bias)[np.newaxis], requant, axis=0)[0]
        if np.array_equal(found, function):
            return _Fit(signed, bias, int(mantissa[0]), int(shift[0]))
    return None


def _line(function: ir.Int64Array, low: int, high: int) -> tuple[float, float]:
    """Slope and offset of the straight line that stays farthest within the codes' intervals."""
    if bool((function == function[0]).all()):
        return 0.0, float(function[0])
    least = np.where(function > low, function - 0.5, -np.inf)
    most = np.where(function < high, function + 0.5, np.inf)

    def room(slope: float) -> tuple[float, float, float]:
        lower, upper = (least - slope * CODES).max(), (most - slope * CODES).min()
        return upper - lower, slope, (upper + lower) / 2

    begin, end = -256.0, 256.0
    for _ in range(200):  # the room is concave in the slope
        third = (end - begin) / 3
        if room(begin + third)[0] < room(end - third)[0]:
            begin += third
        else:
            end -= third
    _, slope, offset = room((begin + end) / 2)
    return slope, offset
