"""Sizes of ConvTranspose: its attributes worked out to pads and the output's height and width.

Where output_shape or auto_pad say the size, pads follow from it as in ONNX Runtime: half of what
is too much on each side, an odd one at the end with SAME_UPPER and else at the beginning.
"""

from __future__ import annotations

from collections.abc import Sequence

from qcompile.compiler.frontend.node_reader import NodeReader, Refusal
from qcompile.compiler.frontend.windows import MAX_WINDOWS, Window, read_pads, read_pair

TRANSPOSED_ATTRIBUTES = {
    "auto_pad": "",
    "dilations": "",
    "kernel_shape": "",
    "output_padding": "less than the stride",
    "output_shape": "",
    "pads": "",
    "strides": "",
}
"""What `read_transposed` and its callers ask for, with the limits: see operators.py."""

Pair = tuple[int, int]


def read_transposed(
    node: NodeReader, image: Sequence[int], kernel: Sequence[int], *, line: bool
) -> tuple[Window, Pair]:
    """The node's window on an image [height, width], and the output's height and width.

    With `line` the node has one axis, the width.
    """
    window = Window(
        kernel=(kernel[0], kernel[1]),
        strides=read_pair(node, "strides", line),
        dilations=read_pair(node, "dilations", line),
        pads=read_pads(node, line),
    )
    more = _more(node, window, line)
    auto_pad = node.attribute("auto_pad", "NOTSET")
    if auto_pad not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise Refusal(f"auto_pad={auto_pad} is unknown", broken=True)
    whole = [
        (size - 1) * stride + extra + span
        for size, stride, extra, span in zip(
            image, window.strides, more, window.spans(), strict=True
        )
    ]
    stated = _stated(node, line)
    if stated is None and auto_pad.startswith("SAME"):
        stated = (image[0] * window.strides[0], image[1] * window.strides[1])
        wanted = [min(size, natural) for size, natural in zip(stated, whole, strict=True)]
        stated = (wanted[0], wanted[1])
    if stated is not None:
        _refuse_larger(stated, whole, window.strides)
        begins = [
            _before(max(0, natural - size), upper=auto_pad == "SAME_UPPER")
            for natural, size in zip(whole, stated, strict=True)
        ]
        window = _padded(window, (begins[0], begins[1], 0, 0))
    elif auto_pad == "VALID":
        window = _padded(window, (0, 0, 0, 0))
    top, left, bottom, right = window.pads
    size = stated or (whole[0] - top - bottom, whole[1] - left - right)
    if min(size) < 1 or max(size) > MAX_WINDOWS:
        raise Refusal(f"makes an image of {size[0]} x {size[1]}", broken=True)
    return window, size


def _refuse_larger(stated: Pair, whole: Sequence[int], strides: Pair) -> None:
    """ONNX Runtime runs what ends less than a stride behind all that the input reaches."""
    if any(size >= w + stride for size, w, stride in zip(stated, whole, strides, strict=True)):
        raise Refusal(
            f"output_shape {list(stated)} is larger than {list(whole)}, all that the input reaches",
            broken=True,
        )


def _before(total: int, *, upper: bool) -> int:
    return total // 2 if upper else total - total // 2


def _padded(window: Window, pads: tuple[int, int, int, int]) -> Window:
    return Window(
        kernel=window.kernel, strides=window.strides, dilations=window.dilations, pads=pads
    )


def _more(node: NodeReader, window: Window, line: bool) -> Pair:
    """output_padding: rows and columns that are added at the end."""
    axes = 1 if line else 2
    more = [int(x) for x in node.attribute("output_padding", [0] * axes)]
    limits = window.strides[2 - axes :]
    if len(more) != axes or min(more) < 0 or any(m >= s for m, s in zip(more, limits, strict=True)):
        raise Refusal(
            f"output_padding={more} with strides={list(limits)} is not supported",
            help="a number for each axis, less than its stride",
        )
    return (0, more[0]) if line else (more[0], more[1])


def _stated(node: NodeReader, line: bool) -> Pair | None:
    """output_shape: height and width."""
    axes = 1 if line else 2
    shape = [int(x) for x in node.attribute("output_shape", [0] * axes)]
    if not any(shape):
        return None
    if len(shape) != axes or min(shape) < 1:
        raise Refusal(f"output_shape={shape} does not fit the input", broken=True)
    return (1, shape[0]) if line else (shape[0], shape[1])
