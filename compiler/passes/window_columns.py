"""window_columns: each window's columns become channels.

The host sends channel j * C + c = input column x * stride + j * dilation - pad, and the
convolution becomes one of height x 1 (KWS: 10 x 4 taps on 1 channel become 10 x 1 taps on 4
channels, on the small array a quarter of the cycles).
"""

from __future__ import annotations

from qcompile.compiler import ir
from qcompile.compiler.passes.sent_form import SentForm


def window_columns(graph: ir.Graph, conv: ir.Conv) -> SentForm | None:
    """The form for a graph's first convolution; None where its windows have one column."""
    out, channels, kh, kw = conv.weight.shape
    if kw == 1:
        return None
    height = graph.values[conv.inputs[0]].shape[2]
    out_width = graph.values[conv.outputs[0]].shape[3]
    return SentForm(
        operation="WindowColumns",
        suffix="columns",
        attributes={
            "kernel": kw,
            "stride": conv.strides[1],
            "dilation": conv.dilations[1],
            "pad": conv.pads[1],
            "out_width": out_width,
        },
        shape=(kw * channels, height, out_width),
        weight=conv.weight.transpose(0, 3, 1, 2).reshape(out, kw * channels, kh, 1),
        strides=(conv.strides[0], 1),
        dilations=(conv.dilations[0], 1),
        pads=(conv.pads[0], 0, conv.pads[2], 0),
    )
