"""Every step of a model in the order of execution: the host's, the accelerator's, the host's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.layers import Layer, Shape3
from qcompile.compiler.machine import Machine
from qcompile.compiler.parts import folded, operator_of, total
from qcompile.compiler.passes.batch_axis import host_shape
from qcompile.compiler.report_text import shorten, table
from qcompile.runtime.host_ops import Array, run_host_ops

BEFORE, ACCELERATOR, AFTER = "host before", "accelerator", "host after"
"""Where a step runs."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Predicted cycles and bytes of stored weights of each layer."""

    cycles: Sequence[int]
    weight_bytes: Sequence[int]


def layer_rows(
    model: ir.Model, layers: Sequence[Layer], machine: Machine, costs: Costs | None = None
) -> list[Row]:
    """All steps of a model that `for_accelerator` has prepared, as `qcompile check` lists them.

    Shapes are those of the first operand and of the result: with the batch on the host, channels,
    height and width on the accelerator. `memory_bytes` are those of a layer's tensors in the
    activation memory, `weight_bytes` its weights as they are stored. What a step has not is None,
    and so are `cycles` and `weight_bytes` without `costs`.
    """
    inputs = {value.name: np.zeros(host_shape(value.shape), value.dtype) for value in model.inputs}
    before, known = _host_rows(model.prologue, inputs, BEFORE)
    values = model.graph.values
    made = {name: np.zeros(values[name].shape, np.int8) for name in model.graph.outputs}
    after, _ = _host_rows(model.epilogue, {**known, **made}, AFTER)
    return [*before, *_accelerator_rows(layers, machine, costs), *after]


def _host_rows(
    steps: Sequence[Mapping[str, Any]], known: dict[str, Array], runs: str
) -> tuple[list[Row], dict[str, Array]]:
    """The host's steps; their shapes are found by running them on one sample of zeros."""
    rows = []
    for step in steps:
        source, target = step["inputs"][0], step["outputs"][0]
        shape = known[source].shape
        with np.errstate(all="ignore"):
            known = run_host_ops([step], known)
        rows.append(_row(target, step["op"], runs, shape, known[target].shape))
    return rows, known


def _accelerator_rows(layers: Sequence[Layer], machine: Machine, costs: Costs | None) -> list[Row]:
    shapes = _tensor_shapes(layers)
    rows = []
    for index, layer in enumerate(layers):
        row = _row(layer.name, layer.operator, ACCELERATOR, layer.input_shape, layer.output_shape)
        tensors = {layer.input, layer.output, layer.residual} - {None}
        words = sum(machine.words(shapes[name]) for name in tensors if name is not None)
        row |= {"macs": layer.macs, "memory_bytes": words * machine.word_bytes}
        if costs is not None:
            row["cycles"] = costs.cycles[index]
            row["weight_bytes"] = costs.weight_bytes[index]
        rows.append(row)
    return rows


def _tensor_shapes(layers: Sequence[Layer]) -> dict[str, Shape3]:
    """Shapes of all tensors in the activation memory, by name."""
    shapes: dict[str, Shape3] = {}
    for layer in layers:
        shapes.setdefault(layer.input, layer.input_shape)
        shapes[layer.output] = layer.tensor_shape
        if layer.residual is not None:
            shapes.setdefault(layer.residual, layer.tensor_shape)
    return shapes


def _row(name: str, operator: str, runs: str, before: Sequence[int], after: Sequence[int]) -> Row:
    return {
        "name": name,
        "op": operator,
        "runs": runs,
        "input_shape": list(before),
        "output_shape": list(after),
        "cycles": None,
        "macs": None,
        "memory_bytes": None,
        "weight_bytes": None,
    }


def row_lines(rows: Sequence[Row]) -> list[str]:
    """A plain table, a layer's parts in one row; `-` is what a step has not."""
    head = ("layer", "op", "runs", "input", "output", "cycles", "MACs", "memory", "weights")
    return table(head, [_cells(parts) for parts in folded(rows)])


def _cells(parts: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    row = parts[-1]
    memory = [part["memory_bytes"] for part in parts if part["memory_bytes"] is not None]
    values = (
        *(row[name] for name in ("runs", "input_shape", "output_shape")),
        *(total(parts, name) for name in ("cycles", "macs")),
        max(memory, default=None),
        total(parts, "weight_bytes"),
    )
    return (shorten(row["name"]), operator_of(parts), *(_cell(value) for value in values))


def _cell(value: object) -> str:
    if isinstance(value, list):
        return "x".join(str(size) for size in value)
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if value is None else str(value)
