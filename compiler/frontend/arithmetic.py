"""Importers of operators that compute: each takes a NodeReader and gives an op and its value."""

from __future__ import annotations

import numpy as np

from qcompile.compiler import ir_float
from qcompile.compiler.frontend.node_reader import Imported, Importer, NodeReader, Refusal
from qcompile.compiler.frontend.windows import Window, read_window, window_counts
from qcompile.compiler.ir import Value


def _image_input(node: NodeReader) -> tuple[Value, int, tuple[int, int]]:
    """Input 0 as [1, channels, height, width]."""
    x = node.float_input(0)
    if len(x.shape) != 4:
        raise Refusal(
            f"input '{x.name}' has {len(x.shape)} dimensions, not 4",
            help="only images [1, channels, height, width] are supported",
        )
    return x, x.shape[1], (x.shape[2], x.shape[3])


def _inputs(node: NodeReader, count: int) -> tuple[str, ...]:
    return tuple(name for name in node.node.input[:count] if name)


def conv(node: NodeReader) -> Imported:
    """Conv with group 1 or one channel a group."""
    x, channels, image = _image_input(node)
    w = node.float_input(1)
    if len(w.shape) != 4:
        raise Refusal(f"weight '{w.name}' has {len(w.shape)} dimensions, not 4")
    kernel = (w.shape[2], w.shape[3])
    stated = node.attribute("kernel_shape", list(kernel))
    if list(stated) != list(kernel):
        raise Refusal(f"kernel_shape={list(stated)} but weight has {list(kernel)}", broken=True)
    group = int(node.attribute("group", 1))
    if group < 1 or channels != w.shape[1] * group or w.shape[0] % group:
        raise Refusal(f"group={group} does not fit weight and input", broken=True)
    if group > 1 and not (group == channels == w.shape[0]):
        raise Refusal(
            f"group={group} with {channels} input and {w.shape[0]} output channels "
            "is not supported",
            help="use group=1, or depthwise: as many groups as input and output channels",
        )
    window = read_window(node, image, kernel)
    op = ir_float.FloatConv(
        inputs=_inputs(node, 3),
        outputs=(node.output,),
        origins=(node.origin,),
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads,
        group=group,
    )
    shape = (x.shape[0], w.shape[0], *window.output_size(*image))
    return op, Value(name=node.output, shape=shape, dtype="float32")


def matmul(node: NodeReader) -> Imported:
    """MatMul with a matrix [K, N] on the right."""
    x, w = node.float_input(0), node.float_input(1)
    return _fully_connected(node, x, w, transposed=False, inputs=_inputs(node, 2))


def gemm(node: NodeReader) -> Imported:
    """Gemm with alpha = beta = 1 and an input that is not transposed."""
    node.expect("alpha", 1.0)
    node.expect("beta", 1.0)
    node.expect("transA", 0)
    transposed = bool(node.attribute("transB", 0))
    x, w = node.float_input(0), node.float_input(1)
    return _fully_connected(node, x, w, transposed=transposed, inputs=_inputs(node, 3))


def _fully_connected(
    node: NodeReader, x: Value, w: Value, *, transposed: bool, inputs: tuple[str, ...]
) -> Imported:
    if len(w.shape) != 2 or len(x.shape) < 2:
        raise Refusal(
            f"operands of shapes {list(x.shape)} and {list(w.shape)} are not supported",
            help="only a vector times a constant matrix [inputs, outputs]",
        )
    depth, outputs = reversed(w.shape) if transposed else w.shape
    if x.shape[-1] != depth:
        raise Refusal(f"shapes {list(x.shape)} and {list(w.shape)} do not fit", broken=True)
    if any(d != 1 for d in x.shape[:-1]):
        raise Refusal(
            f"input '{x.name}' {list(x.shape)} holds several vectors",
            help="only one vector a time is supported; use a 1x1 Conv for several",
        )
    op = ir_float.FloatMatMul(
        inputs=inputs, outputs=(node.output,), origins=(node.origin,), transposed=transposed
    )
    return op, Value(name=node.output, shape=(*x.shape[:-1], outputs), dtype="float32")


def add(node: NodeReader) -> Imported:
    """Add: of two activations, or of a constant bias."""
    a, b = node.float_input(0), node.float_input(1)
    try:
        shape = np.broadcast_shapes(a.shape, b.shape)
    except ValueError:
        raise Refusal(
            f"shapes {list(a.shape)} and {list(b.shape)} do not broadcast", broken=True
        ) from None
    op = ir_float.FloatAdd(inputs=_inputs(node, 2), outputs=(node.output,), origins=(node.origin,))
    return op, Value(name=node.output, shape=tuple(shape), dtype="float32")


def average_pool(node: NodeReader) -> Imported:
    """AveragePool in which every window has the same divisor."""
    x, channels, image = _image_input(node)
    kernel = tuple(int(k) for k in node.attribute("kernel_shape", []))
    if len(kernel) != 2 or min(kernel) < 1:
        raise Refusal(f"kernel_shape={list(kernel)} is not supported", help="a 2-D kernel")
    window = read_window(node, image, (kernel[0], kernel[1]))
    if window.dilations != (1, 1):
        raise Refusal(f"dilations={list(window.dilations)} is not supported", help="use [1, 1]")
    _refuse_partial_windows(node, window, image)
    counts = window_counts(window, image)
    if node.attribute("count_include_pad", 0):
        counts = {kernel[0] * kernel[1]}
    if len(counts) != 1:
        raise Refusal(
            f"pads={list(window.pads)} gives windows of {min(counts)} to {max(counts)} values",
            help="use no pads or count_include_pad=1, so that every window has the same divisor",
        )
    op = ir_float.FloatAveragePool(
        inputs=(x.name,),
        outputs=(node.output,),
        origins=(node.origin,),
        kernel=window.kernel,
        strides=window.strides,
        pads=window.pads,
        divisor=counts.pop(),
        whole_image=window.kernel == image and not any(window.pads),
    )
    shape = (x.shape[0], channels, *window.output_size(*image))
    return op, Value(name=node.output, shape=shape, dtype="float32")


def _refuse_partial_windows(node: NodeReader, window: Window, image: tuple[int, int]) -> None:
    """Refuse ceil_mode where it would add a window that reaches over the padded edge."""
    if not node.attribute("ceil_mode", 0):
        return
    top, left, bottom, right = window.pads
    rest = (
        (image[0] + top + bottom - window.kernel[0]) % window.strides[0],
        (image[1] + left + right - window.kernel[1]) % window.strides[1],
    )
    if any(rest):
        raise Refusal(
            "ceil_mode=1 with windows that reach over the edge is not supported",
            help="use ceil_mode=0 or explicit pads",
        )


def global_average_pool(node: NodeReader) -> Imported:
    """GlobalAveragePool."""
    x, channels, image = _image_input(node)
    op = ir_float.FloatAveragePool(
        inputs=(x.name,),
        outputs=(node.output,),
        origins=(node.origin,),
        kernel=image,
        strides=(1, 1),
        pads=(0, 0, 0, 0),
        divisor=image[0] * image[1],
        whole_image=True,
    )
    return op, Value(name=node.output, shape=(x.shape[0], channels, 1, 1), dtype="float32")


def softmax(node: NodeReader) -> Imported:
    """Softmax along one axis; before opset 13 it flattens the axes behind, which must be 1."""
    x = node.float_input(0)
    rank = len(x.shape)
    axis = int(node.attribute("axis", -1 if node.opset >= 13 else 1))
    if not -rank <= axis < rank:
        raise Refusal(f"axis={axis} is not an axis of {list(x.shape)}", broken=True)
    axis %= rank
    if node.opset < 13 and any(d != 1 for d in x.shape[axis + 1 :]):
        raise Refusal(
            f"axis={axis} of {list(x.shape)} in opset {node.opset} spans several axes",
            help="flatten the input first",
        )
    op = ir_float.Softmax(
        inputs=(x.name,), outputs=(node.output,), origins=(node.origin,), axis=axis
    )
    return op, Value(name=node.output, shape=x.shape, dtype="float32")


IMPORTERS: dict[str, Importer] = {
    "Add": add,
    "AveragePool": average_pool,
    "Conv": conv,
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "MatMul": matmul,
    "Softmax": softmax,
}
