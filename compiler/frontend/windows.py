"""Sizes of sliding windows: ONNX's kernel_shape, strides, dilations, pads and auto_pad."""

from __future__ import annotations

from dataclasses import dataclass

from qcompile.compiler.frontend.node_reader import NodeReader, Refusal

WINDOW_ATTRIBUTES = {
    "auto_pad": "",
    "dilations": "1 with auto_pad SAME",
    "kernel_shape": "",
    "pads": "less than the kernel",
    "strides": "",
}
"""What `read_window` and its callers ask for, with the limits: see operators.py."""

MAX_WINDOWS = 1 << 16
"""Windows along one axis, far beyond any image for these devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A 2-D window with everything resolved; pads are top, left, bottom, right."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]

    def spans(self) -> tuple[int, int]:
        """Height and width that one window covers."""
        (kh, kw), (dh, dw) = self.kernel, self.dilations
        return dh * (kh - 1) + 1, dw * (kw - 1) + 1

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Number of windows down and across."""
        top, left, bottom, right = self.pads
        span_h, span_w = self.spans()
        rows = (height + top + bottom - span_h) // self.strides[0] + 1
        columns = (width + left + right - span_w) // self.strides[1] + 1
        return rows, columns


def read_window(
    node: NodeReader,
    image: tuple[int, int],
    kernel: tuple[int, int],
    *,
    line: bool = False,
    ceil: bool | None = None,
) -> Window:
    """The node's window over an image of height and width `image`.

    With `line` the node has one axis, the image's width; the height is 1. `ceil` is a pool's
    ceil_mode, None for a convolution: the last window may reach over the edge, which the pads then
    cover.
    """
    strides = read_pair(node, "strides", line)
    dilations = read_pair(node, "dilations", line)
    pads = read_pads(node, line)
    auto_pad = node.attribute("auto_pad", "NOTSET")
    window = Window(kernel=kernel, strides=strides, dilations=dilations, pads=(0, 0, 0, 0))
    if auto_pad == "NOTSET":
        resolved = pads
    elif auto_pad == "VALID":
        resolved = (0, 0, 0, 0)
    elif auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        if dilations != (1, 1):  # ONNX Runtime refuses it too, so there is nothing to compare with
            raise Refusal(
                f"auto_pad={auto_pad} with dilations={list(dilations)} is not supported",
                help="export the model with explicit pads",
            )
        upper = auto_pad == "SAME_UPPER"
        resolved = _same_pads(window, image, upper=upper, skipped=2 - upper + (ceil is None))
    else:
        raise Refusal(f"auto_pad={auto_pad} is unknown", broken=True)
    window = Window(kernel=kernel, strides=strides, dilations=dilations, pads=resolved)
    if ceil:
        window = _with_last_window(window, image)
    _check(window, image)
    return window


def read_pair(node: NodeReader, name: str, line: bool) -> tuple[int, int]:
    pair = [int(x) for x in node.attribute(name, [1] * (1 if line else 2))]
    if len(pair) != (1 if line else 2) or min(pair) < 1:
        raise Refusal(
            f"{name}={pair} is not supported",
            help="one positive number" if line else "two positive numbers",
        )
    return (1, pair[0]) if line else (pair[0], pair[1])


def read_pads(node: NodeReader, line: bool) -> tuple[int, int, int, int]:
    pads = [int(x) for x in node.attribute("pads", [0] * (2 if line else 4))]
    if len(pads) != (2 if line else 4) or min(pads) < 0:
        raise Refusal(
            f"pads={pads} is not supported",
            help="two pads, none negative" if line else "four pads, none negative",
        )
    return (0, pads[0], 0, pads[1]) if line else (pads[0], pads[1], pads[2], pads[3])


def _check(window: Window, image: tuple[int, int]) -> None:
    if min(window.output_size(*image)) < 1:
        kernel = list(window.kernel)
        raise Refusal(f"kernel {kernel} is larger than its padded input", broken=True)
    if max(window.output_size(*image)) > MAX_WINDOWS:
        raise Refusal(f"makes {max(window.output_size(*image)):,} windows", broken=True)
    if any(pad >= span for pad, span in zip(window.pads, window.spans() * 2, strict=True)):
        raise Refusal(
            f"pads={list(window.pads)} reach a whole kernel {list(window.kernel)} beyond the image",
            help="pad less than the kernel",
        )


def _with_last_window(window: Window, image: tuple[int, int]) -> Window:
    """Pads enlarged for a window that begins inside the padded image and ends beyond it."""
    pads = list(window.pads)
    for axis in range(2):
        beyond = image[axis] + pads[axis]  # where windows that see nothing begin
        whole = beyond + pads[2 + axis] - window.spans()[axis]
        more = -whole % window.strides[axis]
        if whole >= 0 and whole + more < beyond:
            pads[2 + axis] += more
    return Window(
        kernel=window.kernel,
        strides=window.strides,
        dilations=window.dilations,
        pads=(pads[0], pads[1], pads[2], pads[3]),
    )


def _same_pads(
    window: Window, image: tuple[int, int], *, upper: bool, skipped: int
) -> tuple[int, int, int, int]:
    """Pads for as many windows as strides; where these are long, values lie behind the last one.

    Up to `skipped` of them ONNX Runtime's first window begins with the image.
    """
    before, after = [], []
    for size, stride, span in zip(image, window.strides, window.spans(), strict=True):
        count = -(-size // stride)
        total = (count - 1) * stride + span - size
        if -total > skipped:
            raise Refusal(
                f"auto_pad with strides={list(window.strides)} and kernel {list(window.kernel)} "
                f"leaves {-total} of {size} values out",
                help="export the model with explicit pads; ONNX Runtime's operators differ here",
            )
        total = max(total, 0)
        small, large = total // 2, total - total // 2
        before.append(small if upper else large)
        after.append(large if upper else small)
    return before[0], before[1], after[0], after[1]
