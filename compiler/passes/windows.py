"""windows: each window of a convolution becomes one pixel, all of its taps channels.

The host sends channel (i * kw + j) * C + c = input pixel (y * sy + i * dy - top, x * sx + j * dx -
left), and the convolution becomes one of 1 x 1 (KWS: 10 x 4 taps on 1 channel become 40 channels,
three words of 16 instead of ten). Pixels of several windows are sent several times.
"""

from __future__ import annotations

from qcompile.compiler import ir
from qcompile.compiler.passes.sent_form import SentForm


def windows(graph: ir.Graph, conv: ir.Conv) -> SentForm | None:
    """The form for a graph's first convolution; None where its windows are one column or one row:
    the latter are `window_columns`'s too."""
    out, channels, kh, kw = conv.weight.shape
    if kh == 1 or kw == 1:
        return None
    height, width = graph.values[conv.outputs[0]].shape[2:]
    return SentForm(
        operation="Windows",
        suffix="windows",
        attributes={
            "kernel": [kh, kw],
            "strides": [*conv.strides],
            "dilations": [*conv.dilations],
            "pads": [*conv.pads[:2]],
            "size": [height, width],
        },
        shape=(kh * kw * channels, height, width),
        weight=conv.weight.transpose(0, 2, 3, 1).reshape(out, kh * kw * channels, 1, 1),
        strides=(1, 1),
        dilations=(1, 1),
        pads=(0, 0, 0, 0),
    )
