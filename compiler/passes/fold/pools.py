"""Folds poolings."""

from __future__ import annotations

import numpy as np

from qcompile.compiler import ir_float, ir_quantized
from qcompile.compiler.golden.unary import UnaryOp
from qcompile.compiler.ir import Op, Origin, Value
from qcompile.compiler.passes.fold.folder import Folder
from qcompile.compiler.passes.fold.groups import Pending, quantization_of
from qcompile.compiler.passes.fold.layer_steps import split_steps


def fold_average_pool(folder: Folder, op: ir_float.FloatAveragePool) -> None:
    """A mean over windows of codes."""
    folder.wait(op, op.inputs[0], finish=_average_pool)


def _average_pool(pending: Pending, output: Value, origins: tuple[Origin, ...]) -> Op:
    op = pending.op
    assert isinstance(op, ir_float.FloatAveragePool)
    x = pending.inputs[0]
    pending, steps = split_steps(pending, output.shape, 1)
    low, high = pending.clamp(output)
    if steps:
        return _sums(op, x, output, origins, steps, (low, high))
    return ir_quantized.QuantizedAveragePool(
        inputs=(x.name,),
        outputs=(output.name,),
        origins=origins,
        kernel=op.kernel,
        strides=op.strides,
        pads=op.pads,
        divisor=op.divisor,
        whole_image=op.whole_image,
        low=low,
        high=high,
    )


def _sums(
    op: ir_float.FloatAveragePool,
    x: Value,
    output: Value,
    origins: tuple[Origin, ...],
    steps: tuple[UnaryOp, ...],
    clamp: tuple[int, int],
) -> Op:
    """A depthwise convolution of ones, whose sums pass float operators (Brevitas: Mul, Trunc)."""
    channels = output.shape[1]
    scale = np.float32(quantization_of(x).scale) / np.float32(op.divisor)
    return ir_quantized.QuantizedConv(
        inputs=(x.name,),
        outputs=(output.name,),
        origins=origins,
        weight=np.ones((channels, 1, *op.kernel), np.int16),
        acc_scale=np.full(channels, scale, np.float32),
        bias=np.zeros(channels, np.int64),
        strides=op.strides,
        dilations=(1, 1),
        pads=op.pads,
        group=channels,
        low=clamp[0],
        high=clamp[1],
        steps=steps,
    )
