"""chip_softmax: with `--softmax chip`, a Softmax of codes is the accelerator's, wherever it stands.

Its classes become the channels of an image, by moves around it. A Softmax that ends in float gets
codes of 1/256 and their real numbers behind it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from qcompile.compiler import ir, ir_float, ir_quantized
from qcompile.compiler.diagnostics import Problems
from qcompile.compiler.golden.float_rules import code_range
from qcompile.compiler.golden.log_functions import MAX_CLASSES, MAX_STEPS
from qcompile.compiler.passes.tidy import without_dead_ops

SHARES = ir.Quantization(scale=1 / MAX_STEPS, zero_point=-128)
"""Of a Softmax that has no codes of its own."""
SCALE_SLACK = 1e-3
"""By which a whole number of the result's steps may miss 1."""


def chip_softmax(graph: ir.Graph, problems: Problems) -> ir.Graph:
    """The quantized graph with `ChipSoftmax` for every Softmax of codes; others are problems."""
    rewriter = _Rewriter(graph, problems)
    for op in graph.ops:
        rewriter.visit(op)
    problems.raise_if_any()
    ops, values = tuple(rewriter.ops), rewriter.values
    return without_dead_ops(replace(graph, ops=ops, values=values))


class _Rewriter:
    def __init__(self, graph: ir.Graph, problems: Problems) -> None:
        self.values = dict(graph.values)
        self.makers = {op.name: op for op in graph.ops}
        self.problems = problems
        self.ops: list[ir.Op] = []

    def visit(self, op: ir.Op) -> None:
        """Appends the operation, or what stands for it."""
        if isinstance(op, ir_quantized.QuantizedSoftmax):
            self._softmax(op, op.inputs[0], op.name, op.axis)
        elif isinstance(op, ir_float.Softmax):
            self._real(op)
        else:
            self.ops.append(op)

    def _real(self, op: ir_float.Softmax) -> None:
        """Codes, and their real numbers."""
        maker = self.makers.get(op.inputs[0])
        if not isinstance(maker, ir_quantized.Dequantize):
            self._refuse(op, "reads real numbers", "quantize the tensor in front of it")
            return
        codes = f"{op.name}:codes"
        self.values[codes] = replace(
            self.values[op.name], name=codes, dtype="int8", quantization=SHARES
        )
        self._softmax(op, maker.inputs[0], codes, op.axis)
        self.ops.append(
            ir_quantized.Dequantize(inputs=(codes,), outputs=op.outputs, origins=op.origins)
        )

    def _softmax(self, op: ir.Op, source: str, result: str, axis: int) -> None:
        x, y = self.values[source], self.values[result]
        axis %= len(x.shape)
        help = "leave it to the host, --softmax host"
        if axis == 0:
            self._refuse(op, "goes along the batch", help)
        elif x.shape[axis] > MAX_CLASSES:
            self._refuse(op, f"has {x.shape[axis]:,} classes, more than {MAX_CLASSES:,}", help)
        elif y.quantization is None or not _are_shares(y.quantization, y.dtype):
            shown = "no" if y.quantization is None else f"{y.quantization.scale:.6g} as"
            self._refuse(
                op,
                f"has {shown} scale of its result",
                "give it 1/256, or one over a smaller whole number, and the lowest code as zero"
                " point; or leave it to the host, --softmax host",
            )
        else:
            self._on_channels(op, source, result, axis)

    def _on_channels(self, op: ir.Op, source: str, result: str, axis: int) -> None:
        """The moves around a Softmax whose classes are not the channels of an image."""
        shape = self.values[source].shape
        if len(shape) == 4 and axis == 1:
            self._append(op, source, result)
            return
        order = (0, axis, *(a for a in range(1, len(shape)) if a != axis))
        turned = tuple(shape[a] for a in order)
        rest = turned[2:] or (1,)
        image = (1, turned[1], math.prod(rest[:-1]), rest[-1])
        source = self._moved(op, source, f"{result}:classes", order)
        source = self._shaped(op, source, f"{result}:image", image)
        self.values[f"{result}:made"] = replace(
            self.values[result], name=f"{result}:made", shape=image
        )
        self._append(op, source, f"{result}:made")
        back = tuple(int(a) for a in np.argsort(order))
        if back == tuple(range(len(shape))):
            self._reshape(op, f"{result}:made", result, shape)
            return
        shaped = self._shaped(op, f"{result}:made", f"{result}:shaped", turned)
        self._transpose(op, shaped, result, back)

    def _append(self, op: ir.Op, source: str, result: str) -> None:
        self.ops.append(
            ir_quantized.ChipSoftmax(inputs=(source,), outputs=(result,), origins=op.origins)
        )

    def _moved(self, op: ir.Op, source: str, name: str, order: tuple[int, ...]) -> str:
        """The axes in another order; the tensor itself where they are in that."""
        if order == tuple(range(len(order))):
            return source
        shape = tuple(self.values[source].shape[axis] for axis in order)
        self.values[name] = replace(self.values[source], name=name, shape=shape)
        self._transpose(op, source, name, order)
        return name

    def _shaped(self, op: ir.Op, source: str, name: str, shape: tuple[int, ...]) -> str:
        """The same codes in another shape."""
        self.values[name] = replace(self.values[source], name=name, shape=shape)
        self._reshape(op, source, name, shape)
        return name

    def _transpose(self, op: ir.Op, source: str, result: str, order: tuple[int, ...]) -> None:
        self.ops.append(
            ir_float.Transpose(
                inputs=(source,), outputs=(result,), origins=op.origins, permutation=order
            )
        )

    def _reshape(self, op: ir.Op, source: str, result: str, shape: tuple[int, ...]) -> None:
        self.ops.append(
            ir.Reshape(inputs=(source,), outputs=(result,), origins=op.origins, shape=shape)
        )

    def _refuse(self, op: ir.Op, message: str, help: str) -> None:
        origin = op.origins[0]
        name = f" '{origin.node}'" if origin.node else ""
        self.problems.unsupported(
            f"{origin.operator}{name} (node {origin.index}): with --softmax chip {message}",
            help=help,
        )


def steps_of(quantization: ir.Quantization) -> int:
    """Steps of a result that are the whole."""
    return round(1 / quantization.scale)


def _are_shares(quantization: ir.Quantization, dtype: str) -> bool:
    """Whether a whole number of steps, at most `MAX_STEPS`, is 1, and the lowest code is 0."""
    steps = steps_of(quantization)
    whole = 1 <= steps <= MAX_STEPS and abs(steps * quantization.scale - 1) < SCALE_SLACK
    return whole and quantization.zero_point == code_range(dtype)[0]
