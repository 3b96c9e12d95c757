"""Folds poolings."""

from __future__ import annotations

from qcompile.compiler import ir_float, ir_quantized
from qcompile.compiler.ir import Op, Origin, Value
from qcompile.compiler.passes.fold.folder import Folder
from qcompile.compiler.passes.fold.groups import Pending


def fold_average_pool(folder: Folder, op: ir_float.FloatAveragePool) -> None:
    """A mean over windows of codes."""
    folder.wait(op, op.inputs[0], finish=_average_pool)


def _average_pool(pending: Pending, output: Value, origins: tuple[Origin, ...]) -> Op:
    op = pending.op
    assert isinstance(op, ir_float.FloatAveragePool)
    low, high = pending.clamp(output)
    return ir_quantized.QuantizedAveragePool(
        inputs=(pending.inputs[0].name,),
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
