"""The model's inputs: shapes made of numbers, one sample at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping

import onnx
from onnx import helper

from qcompile.compiler.diagnostics import Problems
from qcompile.compiler.frontend.loader import MAX_RANK, MAX_TENSOR_BYTES
from qcompile.compiler.ir import Value


def read_inputs(
    graph: onnx.GraphProto, shapes: Mapping[str, tuple[int, ...]], problems: Problems
) -> tuple[Value, ...]:
    """Values of the graph's inputs that are no constants.

    A leading symbolic dimension is 1; another one must be in `shapes`, by the input's name.
    """
    constants = {tensor.name for tensor in graph.initializer}
    infos = [info for info in graph.input if info.name not in constants]
    for name in shapes.keys() - {info.name for info in infos}:
        problems.broken(
            f"--shape names '{name}', which is no input",
            help=f"inputs: {', '.join(info.name for info in infos)}",
        )
    read = [_read_input(info, shapes.get(info.name), problems) for info in infos]
    return tuple(value for value in read if value is not None)


def _read_input(
    info: onnx.ValueInfoProto, given: tuple[int, ...] | None, problems: Problems
) -> Value | None:
    if not info.type.HasField("tensor_type") or not info.type.tensor_type.HasField("shape"):
        problems.unsupported(
            f"input '{info.name}' is no tensor with a known number of dimensions",
            help="export the model with a shape for every input",
        )
        return None
    tensor = info.type.tensor_type
    if len(tensor.shape.dim) > MAX_RANK:
        problems.broken(f"input '{info.name}' has {len(tensor.shape.dim)} dimensions")
        return None
    stated = [
        dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or "?")
        for dim in tensor.shape.dim
    ]
    shape = _resolve(info.name, stated, given, problems)
    if shape is None:
        return None
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    except (KeyError, ValueError):
        problems.broken(f"input '{info.name}' has the unknown type {tensor.elem_type}")
        return None
    if math.prod(shape) > MAX_TENSOR_BYTES:
        problems.broken(f"input '{info.name}' {list(shape)} has {math.prod(shape):,} elements")
        return None
    return Value(name=info.name, shape=shape, dtype=dtype)


def _resolve(
    name: str, stated: list[int | str], given: tuple[int, ...] | None, problems: Problems
) -> tuple[int, ...] | None:
    listed = ",".join(str(d) for d in stated)
    if given is not None and not _fits(stated, given):
        problems.broken(
            f"input '{name}' [{listed}] cannot have the shape "
            f"[{','.join(str(d) for d in given)}] of --shape",
            help="only symbolic dimensions can be chosen",
        )
        return None
    dims = list(given) if given is not None else [*stated]
    if dims and isinstance(dims[0], str):
        dims[0] = 1
    symbolic = [d for d in dims if isinstance(d, str)]
    if symbolic:
        example = ",".join("1" if i == 0 else str(d) for i, d in enumerate(stated))
        problems.unsupported(
            f"input '{name}' [{listed}]: dimension '{symbolic[0]}' has no size",
            help=f"give it one: --shape '{name}={example}' with numbers for the names",
        )
        return None
    numbers = tuple(int(d) for d in dims)
    if any(d < 1 for d in numbers):
        problems.broken(
            f"input '{name}' {list(numbers)} has an empty dimension",
            help="every dimension has at least one value",
        )
        return None
    if given is not None and given[0] != 1:
        problems.unsupported(
            f"--shape gives input '{name}' a batch of {given[0]}",
            help="give 1 for the first dimension: inputs run one by one",
        )
        return None
    if not numbers or numbers[0] != 1:
        problems.unsupported(
            f"input '{name}' [{listed}] has a batch of {numbers[0] if numbers else 0}",
            help="export the model with a batch of 1 or a symbolic first dimension; "
            "inputs run one by one",
        )
        return None
    return numbers


def _fits(stated: list[int | str], given: tuple[int, ...]) -> bool:
    return len(stated) == len(given) and all(
        isinstance(d, str) or d == g for d, g in zip(stated, given, strict=True)
    )
