"""input_forms: an input with few channels is sent in a form that fills the words of a memory.

A word holds many channels, so a convolution of an image with one or three would leave most of
the multipliers idle. Where the cycle estimate says that it pays, the host sends another form of the
input, and the convolution becomes another one with the same sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from qcompile.compiler import ir
from qcompile.compiler.names import fresh_name, names_of
from qcompile.compiler.passes.pixel_blocks import pixel_blocks
from qcompile.compiler.passes.sent_form import SentForm
from qcompile.compiler.passes.window_columns import window_columns
from qcompile.compiler.passes.windows import windows

Cost = Callable[[ir.Graph, ir.Conv], tuple[int, ...] | None]
"""Of a convolution in a graph, its input included; None where it does not fit."""

MakeForm = Callable[[ir.Graph, ir.Conv], SentForm | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """A model and the convolution that reads one of its inputs."""

    model: ir.Model
    conv: ir.Conv


FORMS: tuple[MakeForm, ...] = (window_columns, pixel_blocks, windows)


def send_inputs(model: ir.Model, cost: Cost, forms: Sequence[MakeForm] = FORMS) -> ir.Model:
    """The model with every graph input in the form of least cost; as it is where none is less."""
    for name in model.graph.inputs:
        conv = _only_reader(model.graph, name)
        if conv is None:
            continue
        best = _Choice(model=model, conv=conv)
        least = cost(model.graph, conv)
        for make in forms:
            form = make(model.graph, conv)
            if form is None:
                continue
            other = _rewrite(model, name, conv, form)
            found = cost(other.model.graph, other.conv)
            if found is not None and (least is None or found < least):
                best, least = other, found
        model = best.model
    return model


def _only_reader(graph: ir.Graph, name: str) -> ir.Conv | None:
    """The convolution over all channels that alone reads an input."""
    readers = [op for op in graph.ops if name in op.inputs]
    if len(readers) != 1 or name in graph.outputs:
        return None
    conv = readers[0]
    return conv if isinstance(conv, ir.Conv) and conv.group == 1 else None


def _rewrite(model: ir.Model, name: str, conv: ir.Conv, form: SentForm) -> _Choice:
    graph = model.graph
    sent = replace(
        graph.values[name],
        name=fresh_name(f"{name}/{form.suffix}", names_of(model)),
        shape=(1, *form.shape),
    )
    after = replace(
        conv,
        inputs=(sent.name,),
        weight=form.weight,
        strides=form.strides,
        dilations=form.dilations,
        pads=form.pads,
    )
    host_op: dict[str, object] = {
        "op": form.operation,
        "inputs": [name],
        "outputs": [sent.name],
        "attributes": {**form.attributes, "fill": conv.input_zero_point},
    }
    values = {key: item for key, item in graph.values.items() if key != name}
    values[sent.name] = sent
    rewritten = replace(
        graph,
        inputs=tuple(sent.name if key == name else key for key in graph.inputs),
        values=values,
        ops=tuple(after if op is conv else op for op in graph.ops),
    )
    sent_model = replace(model, graph=rewritten, prologue=(*model.prologue, host_op))
    return _Choice(model=sent_model, conv=after)
