"""window_columns: an input with few channels is sent with each window's columns as channels.

A word holds four channels, so a convolution of a 1-channel image would leave three multipliers
of four idle. Where the cycle estimate says that it pays, the host sends channel j * C + c = input
column x * stride + j * dilation - pad, and the convolution becomes one of height x 1 (KWS:
10 x 4 taps on 1 channel become 10 x 1 taps on 4 channels, a quarter of the cycles).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from qcompile.compiler import ir
from qcompile.compiler.names import fresh_name, names_of

Estimate = Callable[[ir.Graph, ir.Conv], int | None]
"""Cycles of a convolution in a graph; None where it does not fit."""


def window_columns(model: ir.Model, estimate: Estimate) -> ir.Model:
    """The model with every graph input rewritten for which that saves cycles."""
    for name in model.graph.inputs:
        candidate = _rewrite(model, name)
        if candidate is None:
            continue
        rewritten, before, after = candidate
        now, then = estimate(model.graph, before), estimate(rewritten.graph, after)
        if then is not None and (now is None or then < now):
            model = rewritten
    return model


def _rewrite(model: ir.Model, name: str) -> tuple[ir.Model, ir.Conv, ir.Conv] | None:
    graph = model.graph
    readers = [op for op in graph.ops if name in op.inputs]
    if len(readers) != 1 or name in graph.outputs:
        return None
    conv = readers[0]
    if not isinstance(conv, ir.Conv) or conv.group != 1 or conv.weight.shape[3] == 1:
        return None
    value = graph.values[name]
    channels, height = value.shape[1], value.shape[2]
    out_width = graph.values[conv.outputs[0]].shape[3]
    out, _, kh, kw = conv.weight.shape
    sent = replace(
        value,
        name=fresh_name(f"{name}/columns", names_of(model)),
        shape=(1, kw * channels, height, out_width),
    )
    after = replace(
        conv,
        inputs=(sent.name,),
        weight=conv.weight.transpose(0, 3, 1, 2).reshape(out, kw * channels, kh, 1),
        strides=(conv.strides[0], 1),
        dilations=(conv.dilations[0], 1),
        pads=(conv.pads[0], 0, conv.pads[2], 0),
    )
    host_op: dict[str, object] = {
        "op": "WindowColumns",
        "inputs": [name],
        "outputs": [sent.name],
        "attributes": {
            "kernel": kw,
            "stride": conv.strides[1],
            "dilation": conv.dilations[1],
            "pad": conv.pads[1],
            "out_width": out_width,
            "fill": conv.input_zero_point,
        },
    }
    values = {key: item for key, item in graph.values.items() if key != name}
    values[sent.name] = sent
    rewritten = replace(
        graph,
        inputs=tuple(sent.name if key == name else key for key in graph.inputs),
        values=values,
        ops=tuple(after if op is conv else op for op in graph.ops),
    )
    return (
        replace(model, graph=rewritten, prologue=(*model.prologue, host_op)),
        conv,
        after,
    )
