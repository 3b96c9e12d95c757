"""Executes integer-level graphs with numpy: the definition of what the hardware must compute.

Every value of a graph is returned by name, for a batch of samples at once. Sums are taken in
floating point where every partial sum is a whole number below the type's precision, so they are
exact in any order; rounding is `numerics.requantize`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler.golden.log_domain import fraction_bits, multiples
from qcompile.compiler.golden.log_functions import softmax
from qcompile.compiler.golden.numerics import requantize
from qcompile.compiler.ir import (
    AveragePool,
    Binary,
    Constant,
    Conv,
    Graph,
    Int8Array,
    Int64Array,
    Lookup,
    MaxPool,
    Model,
    Op,
    Requant,
    Reshape,
    Select,
    Softmax,
)
from qcompile.runtime.host_ops import run_host_ops

CHUNK_ELEMENTS = 1 << 18
"""Window elements that are unfolded at a time: 2 MB as float64, which caches hold."""


def run_model(model: Model, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """The model's outputs by name for inputs [N, ...] in the model's own types and shapes."""
    values = run_host_ops(model.prologue, dict(inputs))
    codes = run_graph(model.graph, {name: values[name] for name in model.graph.inputs})
    values.update({name: codes[name] for name in model.graph.outputs})
    values = run_host_ops(model.epilogue, values)
    return {value.name: values[value.name] for value in model.outputs}


def run_graph(graph: Graph, inputs: Mapping[str, Int8Array]) -> dict[str, Int8Array]:
    """All values of the graph, int8 [N, ...], for inputs int8 [N, ...] by name."""
    values: dict[str, Int8Array] = {}
    for name in graph.inputs:
        shape = graph.values[name].shape[1:]
        if inputs[name].dtype != np.int8 or inputs[name].shape[1:] != shape:
            raise ValueError(
                f"input '{name}' is {inputs[name].dtype}{list(inputs[name].shape)}, "
                f"not int8[N, {', '.join(map(str, shape))}]"
            )
        values[name] = inputs[name]
    for op in graph.ops:
        values[op.name] = run_op(op, [values[name] for name in op.inputs])
    return values


def run_op(op: Op, inputs: list[Int8Array]) -> Int8Array:
    """One operation on a batch."""
    match op:
        case Conv():
            return _in_chunks(op, inputs[0], 1 if _is_depthwise(op) else op.weight[0].size)
        case AveragePool():
            return _in_chunks(op, inputs[0], 1)
        case Binary():
            a, b = (x.astype(np.int64) + 128 for x in inputs)
            return op.table[a, b]
        case Constant():
            return op.data
        case MaxPool():
            return _max_pool(op, inputs[0])
        case Select():
            return _select(op, inputs)
        case Softmax():
            return softmax(op, inputs[0])
        case Lookup():
            return op.table[inputs[0].astype(np.int64) + 128]
        case Reshape():
            return inputs[0].reshape(inputs[0].shape[0], *op.shape[1:])
        case _:
            raise TypeError(f"{type(op).__name__} is no operation of the integer level")


def accumulate(op: Conv | AveragePool, x: Int8Array) -> Int64Array:
    """Accumulators [N, channels, height, width], bias included, before requantization."""
    if isinstance(op, AveragePool):
        weight = np.full((x.shape[1], 1, *op.kernel), op.weight, dtype=np.int64)
        bias = np.zeros((), np.int64)
        products = _depthwise(op, x, weight)
    else:
        bias = op.bias[:, np.newaxis, np.newaxis]
        products = _depthwise(op, x, op.weight) if _is_depthwise(op) else _convolve(op, x)
    fraction = 0 if op.log is None else fraction_bits(op.log.step)
    if fraction and op.requant.mode == "log":
        return np.asarray(products + (bias << fraction))
    dropped = fraction - op.requant.fraction
    if dropped > 0:
        return np.asarray((products + (1 << (dropped - 1)) >> dropped) + bias)
    return np.asarray((products << -dropped) + bias)


def _in_chunks(op: Conv | AveragePool, x: Int8Array, unfolded: int) -> Int8Array:
    """Accumulate and requantize as many samples at a time as CHUNK_ELEMENTS allows."""
    requant: Requant = op.requant
    size = max(1, CHUNK_ELEMENTS // max(1, unfolded * x[0, 0].size))
    parts = [
        requantize(accumulate(op, x[start : start + size]), requant, axis=1)
        for start in range(0, x.shape[0], size)
    ]
    return np.concatenate(parts)


def _taps(op: Conv | AveragePool, x: Int8Array) -> npt.NDArray[np.signedinteger[Any]]:
    """Windows of x minus zero point: a view [N, C, H', W', kh, kw]; padding contributes 0.

    Of logarithmic codes it is what they stand for.
    """
    top, left, bottom, right = op.pads
    centred: npt.NDArray[np.signedinteger[Any]] = x.astype(np.int16)
    if op.log is None:
        centred -= np.int16(op.input_zero_point)
    else:
        centred = multiples(op.log)[x]
    padded = np.pad(centred, ((0, 0), (0, 0), (top, bottom), (left, right)))
    dilations = op.dilations if isinstance(op, Conv) else (1, 1)
    kernel = op.weight.shape[2:] if isinstance(op, Conv) else op.kernel
    span = tuple(d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(2, 3))
    strided = windows[:, :, :: op.strides[0], :: op.strides[1], :: dilations[0], :: dilations[1]]
    return strided


def _exact_float(bound: int) -> type[np.floating[Any]]:
    """The narrowest float type that holds every whole number up to the bound."""
    return np.float32 if bound < 2**24 else np.float64


def _farthest(op: Conv | AveragePool) -> int:
    """The largest |x - zero point|."""
    return 255 if op.log is None else int(multiples(op.log)[-1])


def _is_depthwise(op: Conv) -> bool:
    outputs, depth = op.weight.shape[:2]
    return bool(1 < op.group == outputs and depth == 1)


def _convolve(op: Conv, x: Int8Array) -> Int64Array:
    """Any groups: channels of group g make the outputs of group g alone."""
    taps = _taps(op, x)
    weight = op.weight.reshape(op.group, op.weight.shape[0] // op.group, -1)
    bound = int(np.abs(weight.astype(np.int64)).sum(axis=2).max()) * _farthest(op)
    real = _exact_float(bound)
    batch, _, height, width = taps.shape[:4]
    columns = taps.transpose(0, 1, 4, 5, 2, 3).astype(real)
    grouped = columns.reshape(batch, op.group, weight.shape[2], height * width)
    products = np.matmul(weight.astype(real), grouped)
    return np.asarray(products.reshape(batch, -1, height, width), dtype=np.int64)


def _depthwise(
    op: Conv | AveragePool, x: Int8Array, weight: npt.NDArray[np.signedinteger[Any]]
) -> Int64Array:
    taps = _taps(op, x)
    bound = int(np.abs(weight.astype(np.int64)).sum(axis=(1, 2, 3)).max()) * _farthest(op)
    real = _exact_float(bound)
    acc = np.zeros(taps.shape[:4], dtype=real)
    for row in range(taps.shape[4]):
        for column in range(taps.shape[5]):
            factor = weight[:, 0, row, column].astype(real)
            acc += taps[..., row, column] * factor[:, np.newaxis, np.newaxis]
    return acc.astype(np.int64)


def _max_pool(op: MaxPool, x: Int8Array) -> Int8Array:
    top, left, bottom, right = op.pads
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=-128)
    span = tuple(d * (k - 1) + 1 for d, k in zip(op.dilations, op.kernel, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(2, 3))
    taps = windows[:, :, :: op.strides[0], :: op.strides[1], :: op.dilations[0], :: op.dilations[1]]
    return np.asarray(taps.max(axis=(4, 5)))


def _select(op: Select, inputs: list[Int8Array]) -> Int8Array:
    batch = max(x.shape[0] for x in inputs)  # a constant has one sample for all
    fill = np.full((1, 1), op.fill, dtype=np.int8)  # index -1 is the last entry
    parts = [x.reshape(x.shape[0], -1) for x in (*inputs, fill)]
    codes = np.concatenate([np.broadcast_to(x, (batch, x.shape[1])) for x in parts], axis=1)
    return np.asarray(codes[:, op.index[0]])
