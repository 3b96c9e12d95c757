"""pixel_blocks: the pixels between one window and the next become channels of one pixel.

A convolution with strides sy x sx reads blocks of sy x sx pixels that begin where its windows do.
The host sends each block as one pixel, channel (dy * sx + dx) * C + c, and the convolution becomes
one with strides of 1 and zero taps where a window ends within a block (VWW: 3 x 3 taps with
strides of 2 on 96 x 96 x 3 become 2 x 2 taps on 48 x 48 x 12). No pixel is sent twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.passes.sent_form import SentForm


@dataclass(frozen=True, slots=True, kw_only=True)
class _Axis:
    """Blocks along one axis: `taps` of a window; those sent, from pixel `start` on, and the pads
    in blocks around them."""

    taps: int
    sent: int
    start: int
    before: int
    after: int


def pixel_blocks(graph: ir.Graph, conv: ir.Conv) -> SentForm | None:
    """The form for a graph's first convolution; None without strides, or with dilations."""
    if conv.strides == (1, 1) or conv.dilations != (1, 1):
        return None
    (_, channels, *size), out_shape = (
        graph.values[name].shape for name in (conv.inputs[0], conv.outputs[0])
    )
    y, x = (
        _blocks(size[i], conv.weight.shape[2 + i], conv.strides[i], conv.pads[i], out_shape[2 + i])
        for i in range(2)
    )
    if y.sent < 1 or x.sent < 1:
        return None
    sy, sx = conv.strides
    return SentForm(
        operation="PixelBlocks",
        suffix="blocks",
        attributes={
            "block": [sy, sx],
            "start": [y.start, x.start],
            "size": [y.sent, x.sent],
        },
        shape=(channels * sy * sx, y.sent, x.sent),
        weight=_weight(conv.weight, (y.taps, x.taps), conv.strides),
        strides=(1, 1),
        dilations=(1, 1),
        pads=(y.before, x.before, y.after, x.after),
    )


def _blocks(size: int, kernel: int, stride: int, pad: int, out: int) -> _Axis:
    """Block b has pixels b * stride - pad and on; blocks without a pixel are padding."""
    taps = -(-kernel // stride)
    end = out - 1 + taps
    first = min(pad // stride, end)
    last = min((size - 1 + pad) // stride + 1, end)
    return _Axis(
        taps=taps,
        sent=last - first,
        start=first * stride - pad,
        before=first,
        after=end - last,
    )


def _weight(
    weight: ir.Int16Array, taps: tuple[int, int], strides: tuple[int, int]
) -> ir.Int16Array:
    """[out, C, kh, kw] -> [out, sy * sx * C, taps]."""
    (out, channels, kh, kw), (ty, tx), (sy, sx) = weight.shape, taps, strides
    whole = np.zeros((out, channels, ty * sy, tx * sx), weight.dtype)
    whole[:, :, :kh, :kw] = weight
    split = whole.reshape(out, channels, ty, sy, tx, sx)
    return split.transpose(0, 3, 5, 1, 2, 4).reshape(out, sy * sx * channels, ty, tx)
