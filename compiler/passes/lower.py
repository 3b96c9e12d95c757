"""lower: integer graph -> layers; Add and Lookup join the layer that makes their input."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Literal

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.add_tables import AddTables, solve_add_tables
from qcompile.compiler.errors import CapacityError, QcompileError, UnsupportedError
from qcompile.compiler.layers import Layer, Shape3
from qcompile.compiler.passes.channels import HALF_SHIFT, hardware_channels

Mode = Literal["exact", "shift"]

COPY_WEIGHT = 2


def lower(graph: ir.Graph, mode: Mode = "exact") -> tuple[Layer, ...]:
    """All layers of the accelerator's graph, in execution order; `mode` is the requantization's.

    Raises UnsupportedError with every operation that has no layer form.
    """
    uses = _uses(graph)
    layers: list[Layer] = []
    alias: dict[str, str] = {}
    problems: list[QcompileError] = []
    for op in graph.ops:
        try:
            _lower_op(graph, op, mode, uses, layers, alias)
        except (UnsupportedError, CapacityError) as error:
            problems.append(error)
    if problems:
        raise UnsupportedError("\n".join(problem.render() for problem in problems))
    return tuple(layers)


def _uses(graph: ir.Graph) -> Counter[str]:
    """How often each tensor is read; a use of a reshaped tensor is one of the tensor in memory."""
    uses = Counter(graph.outputs)
    for op in reversed(graph.ops):
        uses.update({op.inputs[0]: uses[op.name]} if isinstance(op, ir.Reshape) else op.inputs)
    return uses


def _lower_op(
    graph: ir.Graph,
    op: ir.Op,
    mode: Mode,
    uses: Counter[str],
    layers: list[Layer],
    alias: dict[str, str],
) -> None:
    source = [alias.get(name, name) for name in op.inputs]
    match op:
        case ir.Conv():
            layers.append(convolution(graph, op, source[0]))
        case ir.AveragePool():
            layers.append(_average_pool(graph, op, source[0]))
        case ir.Binary():
            _fuse_add(graph, op, mode, source, uses, layers)
        case ir.Lookup():
            _fuse_lookup(graph, op, mode, source[0], uses, layers)
        case ir.Reshape():
            alias[op.outputs[0]] = _reshape(graph, op, source[0])
        case _:
            raise UnsupportedError(f"'{op.name}': {type(op).__name__} has no hardware form")


def shape3(graph: ir.Graph, name: str) -> Shape3:
    """A value's shape as channels, height, width."""
    shape = graph.values[name].shape
    if len(shape) == 2:
        return shape[1], 1, 1
    if len(shape) == 4:
        return shape[1], shape[2], shape[3]
    if len(shape) == 3:
        return shape[1], 1, shape[2]
    raise UnsupportedError(
        f"'{name}': a tensor of rank {len(shape)} does not fit the memory layout",
        help="use tensors of shape [1, channels, height, width] or [1, features]",
    )


def _reshape(graph: ir.Graph, op: ir.Reshape, source: str) -> str:
    before, after = shape3(graph, op.inputs[0]), shape3(graph, op.outputs[0])
    if before != after and not (before[1] * before[2] == 1 and after[1] * after[2] == 1):
        raise UnsupportedError(
            f"'{op.name}': reshape of {list(before)} to {list(after)} inside the network",
            help="reshape only tensors of 1 x 1 pixels, or in front of a fully connected layer",
        )
    return source


def _split_weights(weight: ir.Int16Array) -> ir.Int8Array:
    """int8 arrays along a new first axis that add up to `weight`: one, two, or three for 255."""
    parts = [np.clip(weight, -128, 127)]
    while np.any(rest := weight - sum(parts)):
        parts.append(np.clip(rest, -128, 127))
    return np.stack(parts).astype(np.int8)


def convolution(graph: ir.Graph, op: ir.Conv, source: str) -> Layer:
    """The layer of a convolution that reads `source`."""
    in_shape, out_shape = shape3(graph, op.inputs[0]), shape3(graph, op.outputs[0])
    weight = op.weight
    if op.group == 1:
        kind, per_position = "dense", weight[0].size
    elif op.group == in_shape[0] == out_shape[0]:
        kind, per_position, weight = "depthwise", weight[0].size, weight[:, 0]
    else:
        raise UnsupportedError(
            f"'{op.name}': convolution with group={op.group}",
            context=[f"input channels {in_shape[0]}, output channels {out_shape[0]}"],
            help="use group=1 or a depthwise convolution (group = input = output channels)",
        )
    return _layer(
        op,
        operator=op.origins[0].operator if op.origins else "Conv",
        kind=kind,
        source=source,
        shapes=(in_shape, out_shape),
        weight=weight,
        bias=op.bias,
        strides=op.strides,
        dilations=op.dilations,
        pads=op.pads,
        input_zero_point=op.input_zero_point,
        requant=op.requant,
        macs=per_position * int(np.prod(out_shape)),
    )


def _average_pool(graph: ir.Graph, op: ir.AveragePool, source: str) -> Layer:
    in_shape, out_shape = shape3(graph, op.inputs[0]), shape3(graph, op.outputs[0])
    channels = in_shape[0]
    return _layer(
        op,
        operator="AveragePool",
        kind="depthwise",
        source=source,
        shapes=(in_shape, out_shape),
        weight=np.full((channels, *op.kernel), op.weight, np.int16),
        bias=np.zeros(channels, np.int64),
        strides=op.strides,
        dilations=(1, 1),
        pads=op.pads,
        input_zero_point=op.input_zero_point,
        requant=op.requant,
        macs=0,
    )


def _copy(graph: ir.Graph, op: ir.Op, mode: Mode, source: str) -> Layer:
    """A layer that copies `source`, for an Add or Lookup that no other layer can take in."""
    shape = shape3(graph, op.outputs[0])
    channels = shape[0]
    ones = np.ones(channels, np.int64)
    exact = mode == "exact"
    requant = ir.Requant(
        mode=mode,
        mantissa=ones << 23 if exact else ones,
        shift=ones * (HALF_SHIFT if exact else 1),
        zero_point=0,
    )
    return _layer(
        op,
        operator=op.origins[0].operator if op.origins else type(op).__name__,
        kind="depthwise",
        source=source,
        shapes=(shape, shape),
        weight=np.full((channels, 1, 1), COPY_WEIGHT, np.int16),
        bias=ones * 0,
        strides=(1, 1),
        dilations=(1, 1),
        pads=(0, 0, 0, 0),
        input_zero_point=0,
        requant=requant,
        macs=0,
    )


def _layer(
    op: ir.Op,
    *,
    operator: str,
    kind: str,
    source: str,
    shapes: tuple[Shape3, Shape3],
    weight: ir.Int16Array,
    bias: ir.Int64Array,
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int, int, int],
    input_zero_point: int,
    requant: ir.Requant,
    macs: int,
) -> Layer:
    channels = hardware_channels(op, weight, bias, input_zero_point, requant)
    weight, bias = channels.weight, channels.bias
    flat = weight.reshape(weight.shape[0], -1).astype(np.int64)
    folded = bias - input_zero_point * flat.sum(axis=1)
    if np.abs(folded).max(initial=0) >= 1 << 31:
        raise UnsupportedError(f"'{op.name}': bias and zero point correction exceed 32 bits")
    return Layer(
        kind="dense" if kind == "dense" else "depthwise",
        operator=operator,
        name=op.name,
        origins=op.origins,
        input=source,
        output=op.outputs[0],
        residual=None,
        input_shape=shapes[0],
        output_shape=shapes[1],
        weight=_split_weights(weight),
        bias=folded,
        mantissa=channels.mantissa,
        shift=channels.shift,
        strides=strides,
        dilations=dilations,
        pads=pads,
        pad_code=input_zero_point,
        zero_point=requant.zero_point,
        low=requant.low,
        high=requant.high,
        zero_point_inside=requant.zero_point_inside,
        table=None,
        add_tables=None,
        macs=macs,
    )


def _producer(layers: list[Layer], name: str, uses: Counter[str]) -> int | None:
    """Index of the layer that makes `name`, if nothing else reads it and it has room to fuse."""
    for index, layer in enumerate(layers):
        if layer.output == name and uses[name] == 1 and layer.table is None:
            return index
    return None


def _fuse_add(
    graph: ir.Graph,
    op: ir.Binary,
    mode: Mode,
    source: list[str],
    uses: Counter[str],
    layers: list[Layer],
) -> None:
    """The Add joins the later of its producers; the other operand becomes the residual."""
    tables, clamp = _add_tables(op)
    candidates = [
        (index, operand)
        for operand in (0, 1)
        if (index := _producer(layers, source[operand], uses)) is not None
        and layers[index].residual is None
        and index == len(layers) - 1
    ]
    if candidates and source[0] != source[1]:
        index, operand = max(candidates)
    else:
        layers.append(_copy(graph, op, mode, source[0]))
        index, operand = len(layers) - 1, 0
    if operand == 1:
        tables = replace(tables, a=tables.b, b=tables.a)
    layers[index] = replace(
        layers[index],
        name=op.name,
        output=op.outputs[0],
        origins=layers[index].origins + op.origins,
        residual=source[1 - operand],
        add_tables=tables,
        table=clamp,
    )


def _add_tables(op: ir.Binary) -> tuple[AddTables, ir.Int8Array | None]:
    """Proved tables for the adder, and a table that clamps where the adder's own range is wider."""
    tables = solve_add_tables(op.table)
    if not tables.differing.size:
        return tables, None
    low, high = int(op.table.min()), int(op.table.max())
    tables = solve_add_tables(op.table, low=low, high=high)
    if tables.differing.size:
        raise UnsupportedError(
            f"'{op.name}': {len(tables.differing)} of 65,536 operand pairs of this Add have no "
            "exact form as a sum of two tables",
            help="choose scales of the operands nearer to the output's",
        )
    return tables, np.clip(np.arange(-128, 128), low, high).astype(np.int8)


def _fuse_lookup(
    graph: ir.Graph,
    op: ir.Lookup,
    mode: Mode,
    source: str,
    uses: Counter[str],
    layers: list[Layer],
) -> None:
    index = _producer(layers, source, uses)
    if index is None:
        layers.append(_copy(graph, op, mode, source))
        index = len(layers) - 1
    layers[index] = replace(
        layers[index],
        name=op.name,
        output=op.outputs[0],
        origins=layers[index].origins + op.origins,
        table=op.table,
    )
