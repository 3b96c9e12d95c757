"""Importers of operators that compute: each takes a NodeReader and gives an op and its value."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from qcompile.compiler import ir_float
from qcompile.compiler.frontend.node_reader import Imported, NodeReader, Refusal, resolved_axis
from qcompile.compiler.frontend.operators import Operator
from qcompile.compiler.frontend.transposed_windows import TRANSPOSED_ATTRIBUTES, read_transposed
from qcompile.compiler.frontend.windows import WINDOW_ATTRIBUTES, Window, read_window
from qcompile.compiler.ir import Op, Reshape, Value


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
    """Conv over images, or over lines as images of one row."""
    x, w = node.float_input(0), node.float_input(1)
    if len(x.shape) == 3 and len(w.shape) == 3:
        return _line_conv(node, x, w)
    x, _, image = _image_input(node)
    if len(w.shape) != 4:
        raise Refusal(f"weight '{w.name}' has {len(w.shape)} dimensions, not 4")
    kernel = (w.shape[2], w.shape[3])
    _check_kernel(node, kernel)
    return _conv_op(node, x, w, read_window(node, image, kernel), node.output)


def _line_conv(node: NodeReader, x: Value, w: Value) -> Imported:
    """[N, C, L] as [N, C, 1, L], weight [O, C, K] as [O, C, 1, K], and back."""
    _check_kernel(node, w.shape[2:])
    window = read_window(node, (1, x.shape[2]), (1, w.shape[2]), line=True)
    images = [
        _reshaped(node, value, f"{node.output}:{suffix}", (*value.shape[:2], 1, value.shape[2]))
        for value, suffix in ((x, "image"), (w, "kernel"))
    ]
    made = _conv_op(node, images[0][1], images[1][1], window, f"{node.output}:row")
    batch, channels, _, length = made[1].shape
    return [*images, made, _reshaped(node, made[1], node.output, (batch, channels, length))]


def _reshaped(node: NodeReader, x: Value, name: str, shape: tuple[int, ...]) -> tuple[Op, Value]:
    op = Reshape(inputs=(x.name,), outputs=(name,), origins=(node.origin,), shape=shape)
    return op, Value(name=name, shape=shape, dtype=x.dtype)


def _check_kernel(node: NodeReader, kernel: tuple[int, ...]) -> None:
    stated = node.attribute("kernel_shape", list(kernel))
    if list(stated) != list(kernel):
        raise Refusal(f"kernel_shape={list(stated)} but weight has {list(kernel)}", broken=True)


def _conv_op(node: NodeReader, x: Value, w: Value, window: Window, output: str) -> tuple[Op, Value]:
    group = int(node.attribute("group", 1))
    if group < 1 or x.shape[1] != w.shape[1] * group or w.shape[0] % group:
        raise Refusal(f"group={group} does not fit weight and input", broken=True)
    op = ir_float.FloatConv(
        inputs=(x.name, w.name, *_inputs(node, 3)[2:]),
        outputs=(output,),
        origins=(node.origin,),
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads,
        group=group,
    )
    shape = (x.shape[0], w.shape[0], *window.output_size(x.shape[2], x.shape[3]))
    return op, Value(name=output, shape=shape, dtype="float32")


def conv_transpose(node: NodeReader) -> Imported:
    """ConvTranspose over images, or over lines as images of one row."""
    x, w = node.float_input(0), node.float_input(1)
    line = len(x.shape) == len(w.shape) == 3
    if not line and not len(x.shape) == len(w.shape) == 4:
        raise Refusal(
            f"input {list(x.shape)} and weight {list(w.shape)} are no images or lines",
            help="only [1, channels, height, width] and [1, channels, width] are supported",
        )
    _check_kernel(node, w.shape[2:])
    steps: list[tuple[Op, Value]] = []
    if line:
        steps = [
            _reshaped(node, v, f"{node.output}:{suffix}", (*v.shape[:2], 1, v.shape[2]))
            for v, suffix in ((x, "image"), (w, "kernel"))
        ]
        (_, x), (_, w) = steps
    made = _conv_transpose_op(node, x, w, line=line)
    if not line:
        return made
    shape = (*made[1].shape[:2], made[1].shape[3])
    return [*steps, made, _reshaped(node, made[1], node.output, shape)]


def _conv_transpose_op(node: NodeReader, x: Value, w: Value, *, line: bool) -> tuple[Op, Value]:
    group = int(node.attribute("group", 1))
    if group < 1 or x.shape[1] != w.shape[0] or w.shape[0] % group:
        raise Refusal(f"group={group} does not fit weight and input", broken=True)
    window, size = read_transposed(node, x.shape[2:], w.shape[2:], line=line)
    output = f"{node.output}:row" if line else node.output
    op = ir_float.FloatConvTranspose(
        inputs=(x.name, w.name, *_inputs(node, 3)[2:]),
        outputs=(output,),
        origins=(node.origin,),
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads,
        group=group,
    )
    shape = (x.shape[0], w.shape[1] * group, *size)
    return op, Value(name=output, shape=shape, dtype="float32")


def matmul(node: NodeReader) -> Imported:
    """MatMul of matrices, one of which is a constant."""
    return _product(node, node.float_input(0), node.float_input(1))


def gemm(node: NodeReader) -> Imported:
    """Gemm: alpha * A' * B' + beta * C, perhaps transposed by operations in front."""
    operands, steps = [], []
    for position, flag in enumerate(("transA", "transB")):
        x = node.float_input(position)
        if len(x.shape) != 2:
            raise Refusal(f"'{x.name}' {list(x.shape)} is no matrix", broken=True)
        if node.attribute(flag, 0):
            step = _transposed(node, x, f"{node.output}:{flag}")
            steps.append(step)
            x = step[1]
        operands.append(x)
    bias = node.name_of(2)
    alpha, beta = (float(node.attribute(name, 1.0)) for name in ("alpha", "beta"))
    if not np.isfinite(alpha) or not np.isfinite(beta) or alpha == 0:
        raise Refusal(f"alpha={alpha} with beta={beta} is not supported")
    if beta == 0:
        bias = None
    return [*steps, _product(node, *operands, bias=bias, alpha=alpha, beta=beta)]


def _transposed(node: NodeReader, x: Value, name: str) -> tuple[Op, Value]:
    op = ir_float.Transpose(
        inputs=(x.name,), outputs=(name,), origins=(node.origin,), permutation=(1, 0)
    )
    return op, Value(name=name, shape=(x.shape[1], x.shape[0]), dtype=x.dtype)


def _product(
    node: NodeReader,
    a: Value,
    b: Value,
    *,
    bias: str | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
) -> tuple[Op, Value]:
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise Refusal(
            f"operands of shapes {list(a.shape)} and {list(b.shape)} are not supported",
            help="give both operands two dimensions or more",
        )
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        batch = None
    if batch is None or a.shape[-1] != b.shape[-2]:
        raise Refusal(
            f"shapes {list(a.shape)} and {list(b.shape)} do not fit",
            help="columns of the first operand must be rows of the second; --shape chooses them",
            broken=True,
        )
    op = ir_float.FloatMatMul(
        inputs=(a.name, b.name, *([bias] if bias else [])),
        outputs=(node.output,),
        origins=(node.origin,),
        alpha=alpha,
        beta=beta,
    )
    shape = (*batch, a.shape[-2], b.shape[-1])
    return op, Value(name=node.output, shape=shape, dtype="float32")


def softmax(node: NodeReader) -> Imported:
    """Softmax along one axis; before opset 13 along all axes from one on, made one."""
    x = node.float_input(0)
    rank = len(x.shape)
    axis = resolved_axis(int(node.attribute("axis", -1 if node.opset >= 13 else 1)), rank)
    if node.opset < 13 and axis == 0 and rank > 1 and x.shape[0] == 1:
        axis = 1  # the same numbers, and the batch stays apart
    together = x.shape[axis:] if node.opset < 13 else x.shape[axis : axis + 1]
    if math.prod(together) == x.shape[axis]:
        value = Value(name=node.output, shape=x.shape, dtype="float32")
        return _softmax(node, x.name, value, axis), value
    names = (f"{node.output}:flat", f"{node.output}:shares")
    shape = (*x.shape[:axis], math.prod(together))
    flat, shares = (Value(name=name, shape=shape, dtype="float32") for name in names)
    return [
        (_reshape(node, x.name, flat), flat),
        (_softmax(node, flat.name, shares, axis), shares),
        (_reshape(node, shares.name, value := replace(x, name=node.output)), value),
    ]


def _softmax(node: NodeReader, source: str, value: Value, axis: int) -> ir_float.Softmax:
    return ir_float.Softmax(
        inputs=(source,), outputs=(value.name,), origins=(node.origin,), axis=axis
    )


def _reshape(node: NodeReader, source: str, value: Value) -> Reshape:
    return Reshape(
        inputs=(source,), outputs=(value.name,), origins=(node.origin,), shape=value.shape
    )


CONV_ATTRIBUTES = {**WINDOW_ATTRIBUTES, "group": ""}
GEMM_ATTRIBUTES = {"alpha": "not 0", "beta": "", "transA": "", "transB": ""}

OPERATORS: dict[str, Operator] = {
    "Conv": Operator(
        read=conv,
        runs=("accelerator",),
        attributes=CONV_ATTRIBUTES,
        remark="lines and images; constant weights, int8 or uint8, one scale or one a channel; "
        "bias int32 codes or float",
    ),
    "ConvTranspose": Operator(
        read=conv_transpose,
        runs=("accelerator",),
        agreement="1 step",
        attributes={**TRANSPOSED_ATTRIBUTES, "group": ""},
        remark="as Conv; weight scales for the tensor or one an output channel (axis 1). ONNX "
        "Runtime computes in float (an island). A convolution for each phase of the strides",
    ),
    "Gemm": Operator(
        read=gemm,
        runs=("accelerator", "host"),
        attributes=GEMM_ATTRIBUTES,
        remark="as MatMul; real results with a float bias up to rounding. With beta, or with alpha "
        "and a bias: [biases](#biases)",
    ),
    "MatMul": Operator(
        read=matmul,
        runs=("accelerator", "host"),
        remark="a constant on either side, one vector or several; as 1x1 convolution. On the host "
        "where the result leaves the network as real numbers, behind the last layer",
    ),
    "Softmax": Operator(
        read=softmax,
        runs=("host",),
        agreement="rounding",
        attributes={"axis": ""},
        remark="equal between codes; real numbers are equal with AVX-512, elsewhere the last bit "
        "of more than 16 classes may differ. With `--softmax chip` on the accelerator, anywhere, "
        "within 1 step: [log functions](log_functions.md)",
    ),
}
