"""Names of tensors: those of the ONNX model, and those that passes make up.

A pass names a tensor of its own after the one that it belongs to: `<tensor>:codes`. A tensor of
the model may be called so too. The frontend sets such a tensor aside, under a name that no pass
makes up (`frontend.names`); when all passes are done, `restore_names` gives it its own name back.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace

from qcompile.compiler.ir import Graph, Model, Value

MARK = ":"
"""Stands between a tensor's name and what a pass adds to it."""

HostOp = dict[str, object]


def fresh_name(wanted: str, taken: Container[str]) -> str:
    """The wanted name, with so many marks behind it that it is not taken."""
    while wanted in taken:
        wanted += MARK
    return wanted


def names_of(model: Model) -> set[str]:
    """Every tensor of a model, the host's included."""
    values = (*model.inputs, *model.outputs, *model.graph.values.values())
    names = {value.name for value in values}
    for op in (*model.prologue, *model.epilogue):
        names.update(_listed(op, "inputs"), _listed(op, "outputs"))
    return names


def restore_names(model: Model, own: Mapping[str, str]) -> Model:
    """The model with the tensors that were set aside (name here: own name) under their own names.

    Tensors of passes that are called so get other names.
    """
    if not own:
        return model
    taken = names_of(model).union(own.values())
    new = dict(own)
    for name in sorted(names_of(model).intersection(own.values())):
        new[name] = fresh_name(name, taken)
        taken.add(new[name])
    return replace(
        model,
        inputs=tuple(_value(value, new) for value in model.inputs),
        outputs=tuple(_value(value, new) for value in model.outputs),
        prologue=tuple(_host_op(op, new) for op in model.prologue),
        graph=_graph(model.graph, new),
        epilogue=tuple(_host_op(op, new) for op in model.epilogue),
    )


def _listed(op: HostOp, key: str) -> list[str]:
    names = op[key]
    assert isinstance(names, list)
    return names


def _value(value: Value, new: Mapping[str, str]) -> Value:
    return replace(value, name=new.get(value.name, value.name))


def _host_op(op: HostOp, new: Mapping[str, str]) -> HostOp:
    inputs, outputs = (
        [new.get(name, name) for name in _listed(op, key)] for key in ("inputs", "outputs")
    )
    return {**op, "inputs": inputs, "outputs": outputs}


def _graph(graph: Graph, new: Mapping[str, str]) -> Graph:
    def renamed(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(new.get(name, name) for name in names)

    values = [_value(value, new) for value in graph.values.values()]
    return replace(
        graph,
        inputs=renamed(graph.inputs),
        outputs=renamed(graph.outputs),
        values={value.name: value for value in values},
        ops=tuple(
            replace(op, inputs=renamed(op.inputs), outputs=renamed(op.outputs)) for op in graph.ops
        ),
    )
