"""Codebook weights for a model that is int8 already: the same QDQ model, but for its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.quantize.codebook import Criterion, entropy_codebook
from qcompile.compiler.quantize.encoding import signal_to_noise
from qcompile.compiler.quantize.layer import nearest_level
from qcompile.compiler.quantize.prepare import LAYERS
from qcompile.compiler.quantize.squared_error import best_codebook

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recoded:
    """Weights that got a codebook: the initializer's name, the codebook, SQNR in dB of weights."""

    name: str
    levels: tuple[int, ...]
    sqnr_db: float


def with_codebooks(
    model: onnx.ModelProto, levels: int, criterion: Criterion = "mse"
) -> tuple[onnx.ModelProto, tuple[Recoded, ...]]:
    """A model whose symmetric int8 weights are each one of at most `levels` values, 0 among them.

    Scales, biases and activations stay; so do weights with a zero point, of another type, or of few
    values already. UnsupportedError where there are no int8 weights behind a DequantizeLinear.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    found = {array_name: (array, scales) for array_name, array, scales in _weights(graph)}
    if not found:
        raise UnsupportedError(
            "the model has no int8 weights with zero point 0 behind a DequantizeLinear",
            help="quantize in QDQ form with symmetric weights, or start from the float model",
        )
    rows: list[Recoded] = []
    made: list[NodeProto] = []
    for name, (array, scales) in found.items():
        importance = np.broadcast_to(scales.astype(np.float64) ** 2, array.shape)
        if criterion == "entropy":
            book = entropy_codebook(array.astype(np.float64) * scales / scales.max(), levels)
        else:
            book = best_codebook(array, levels, importance)
        known = tuple(int(one) for one in book)
        codes = nearest_level(array.astype(np.float64), known)
        noise = signal_to_noise(array * scales, codes * scales)
        rows.append(Recoded(name=name, levels=known, sqnr_db=noise))
        made += _store(graph, name, codes, book)
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*made, *nodes])
    return result, tuple(rows)


def _weights(graph: onnx.GraphProto) -> Iterator[tuple[str, Array, Array]]:
    """Name, codes and broadcasting scales of int8 initializers that layers multiply with."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in constants:
            continue
        name = node.input[0]
        tensor = constants[name]
        if tensor.data_type != TensorProto.INT8 or not _multiplied(graph, node.output[0]):
            continue
        given = [constants.get(other) for other in node.input[1:]]
        if None in given or any(np.any(_array(one)) for one in given[1:]):
            continue
        codes, scale = _array(tensor), _array(given[0])
        axis = next((int(one.i) for one in node.attribute if one.name == "axis"), 1)
        shape = [1] * codes.ndim
        if scale.size > 1:
            shape[axis] = -1
        yield name, codes, scale.reshape(shape)


def _array(tensor: TensorProto | None) -> Array:
    assert tensor is not None
    return np.asarray(numpy_helper.to_array(tensor))


def _multiplied(graph: onnx.GraphProto, name: str) -> bool:
    """Whether a real tensor is, perhaps transposed, only the weights of layers."""
    readers = [(node, place) for node in graph.node for place, one in enumerate(node.input)
               if one == name]  # fmt: skip
    return bool(readers) and all(
        (node.op_type in LAYERS and place == 1)
        or (node.op_type == "Transpose" and _multiplied(graph, node.output[0]))
        for node, place in readers
    )


def _store(graph: onnx.GraphProto, name: str, codes: Array, book: Array) -> list[NodeProto]:
    """Put indices and codebook in the place of an initializer; the nodes that make it of them."""
    indices = np.searchsorted(book, codes).astype(np.uint8)
    for tensor in [one for one in graph.initializer if one.name == name]:
        graph.initializer.remove(tensor)
    for value in [one for one in graph.input if one.name == name]:
        graph.input.remove(value)
    parts = {f"{name}/indices": indices, f"{name}/codebook": book}
    graph.initializer.extend(numpy_helper.from_array(array, one) for one, array in parts.items())
    wide = f"{name}/wide_indices"
    return [
        helper.make_node("Cast", [f"{name}/indices"], [wide], name=wide, to=TensorProto.INT32),
        helper.make_node("Gather", [f"{name}/codebook", wide], [name], name=f"{name}:Gather"),
    ]
