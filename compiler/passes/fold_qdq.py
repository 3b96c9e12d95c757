"""Turn groups of DequantizeLinear, float operators and QuantizeLinear into quantized operators.

A float value is one of four things: *codes* seen through a DequantizeLinear, a dequantized
constant (`Weight`), a computation that waits for its QuantizeLinear (`Pending`), or a real float32
tensor at the model's edges. Moves (Reshape, Transpose) act on the codes. A QuantizeLinear with the
parameters of the codes that it is given disappears. Relu and Clip become bounds of the codes.

Float tensors remain only where the host computes: inputs before the first QuantizeLinear, outputs
behind the last DequantizeLinear, a Softmax that is not quantized. A float computation anywhere
else is a problem of the model, reported with the node that makes it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy.typing as npt

from qcompile.compiler import ir_float, ir_quantized
from qcompile.compiler.diagnostics import Problems
from qcompile.compiler.ir import Graph, Op, Quantization, Reshape, Value
from qcompile.compiler.passes.groups import (
    NotFoldable,
    Pending,
    Weight,
    finish,
    moved_weight,
    one_per_channel,
    per_tensor,
)
from qcompile.compiler.passes.tidy import without_dead_ops

NOT_QUANTIZED = (
    "quantize the whole model: QuantizeLinear and DequantizeLinear around every operator "
    "(onnxruntime quantize_static does it)"
)

MOVED_CODES = ":codes"
"""Suffix of codes that are reshaped or transposed behind a DequantizeLinear: the float tensor keeps
its name, because it may be an output of the model."""


def fold_qdq(graph: Graph, problems: Problems) -> Graph:
    """The quantized level of a float-level graph; problems are added, not raised."""
    folder = _Folder(graph, problems)
    for op in graph.ops:
        folder.visit(op)
    return folder.result()


class _Folder:
    """One walk over the graph in topological order."""

    def __init__(self, graph: Graph, problems: Problems) -> None:
        self.graph = graph
        self.problems = problems
        self.values = {name: graph.values[name] for name in graph.inputs}
        self.ops: list[Op] = []
        self.constants: dict[str, npt.NDArray[Any]] = {}
        self.weights: dict[str, Weight] = {}
        self.codes: dict[str, str] = {}  # float value to the codes that it dequantizes
        self.pending: dict[str, Pending] = {}
        self.alias: dict[str, str] = {}  # code value to the equal one that is kept

    def visit(self, op: Op) -> None:
        """Fold one operation; an operand of a refused one is skipped without another message."""
        try:
            self._dispatch(op)
        except NotFoldable as refusal:
            self._report(op, refusal)

    def _report(self, op: Op, refusal: NotFoldable) -> None:
        origin = op.origins[0]
        name = f" '{origin.node}'" if origin.node else ""
        self.problems.unsupported(
            f"{origin.operator}{name} (node {origin.index}): {refusal.message}",
            context=tuple(self._describe(i) for i in op.inputs),
            help=refusal.help,
        )

    def _dispatch(self, op: Op) -> None:
        match op:
            case ir_float.Constant():
                self.constants[op.name] = op.data
            case ir_float.DequantizeLinear():
                self._dequantize(op)
            case ir_float.QuantizeLinear():
                self._quantize(op)
            case Reshape() | ir_float.Transpose():
                self._move(op)
            case ir_float.Clip():
                self._clip(op)
            case ir_float.FloatConv() | ir_float.FloatMatMul():
                self._multiply(op)
            case ir_float.FloatAdd():
                self._add(op)
            case ir_float.FloatAveragePool() | ir_float.Softmax():
                self._wait_on_codes(op)
            case ir_float.Cast():
                self._keep(op)
            case _:
                raise NotFoldable("is not known", NOT_QUANTIZED)

    # ------------------------------------------------------------------ operators

    def _dequantize(self, op: ir_float.DequantizeLinear) -> None:
        source = op.inputs[0]
        if source in self.constants:
            self.weights[op.name] = Weight(
                codes=self.constants[source],
                scale=op.scale,
                zero_point=op.zero_point,
                axis=op.axis,
            )
            return
        code = self.alias.get(source, source)
        if code not in self.values:
            return
        self._set_quantization(code, per_tensor(op))
        self.codes[op.name] = code

    def _set_quantization(self, code: str, quantization: Quantization) -> None:
        value = self.values[code]
        if value.quantization is None:
            self.values[code] = replace(value, quantization=quantization)
        elif value.quantization != quantization:
            raise NotFoldable(
                f"reads '{code}' with scale {quantization.scale:.9g} and zero point "
                f"{quantization.zero_point}, but it was made with {value.quantization.scale:.9g} "
                f"and {value.quantization.zero_point}",
                "give QuantizeLinear and DequantizeLinear of one tensor the same parameters",
            )

    def _quantize(self, op: ir_float.QuantizeLinear) -> None:
        source = op.inputs[0]
        output = replace(self.graph.values[op.name], quantization=per_tensor(op))
        self.values[op.name] = output
        if source in self.codes:
            code = self.values[self.codes[source]]
            if code.dtype == output.dtype and code.quantization == output.quantization:
                del self.values[op.name]
                self.alias[op.name] = code.name
                return
            self.pending[source] = Pending(op=None, inputs=(code,))
        pending = self.pending.get(source)
        if pending is not None and isinstance(pending.op, ir_float.Softmax):
            self._quantize_softmax(pending, op, output)
        elif pending is not None:
            self._finish(pending, op, output)
        elif source in self.values:
            self._append_quantize(op)
        elif source in self.weights or source in self.constants:
            raise NotFoldable("quantizes a constant", "store the constant as codes")

    def _finish(self, pending: Pending, op: Op, output: Value) -> None:
        """End a group; what is wrong with it is the fault of its float operator."""
        try:
            self.ops.append(finish(pending, output, op.origins))
        except NotFoldable as refusal:
            self._report(pending.op or op, refusal)

    def _append_quantize(self, op: ir_float.QuantizeLinear) -> None:
        source = self._real(op.inputs[0])
        quantize = ir_quantized.Quantize(inputs=(source,), outputs=op.outputs, origins=op.origins)
        self.ops.append(quantize)

    def _quantize_softmax(
        self, pending: Pending, op: ir_float.QuantizeLinear, output: Value
    ) -> None:
        """ONNX Runtime has an integer Softmax only where both types are the same."""
        x = pending.inputs[0]
        softmax = pending.op
        if isinstance(softmax, ir_float.Softmax) and x.dtype == output.dtype and not pending.clips:
            self.ops.append(
                ir_quantized.QuantizedSoftmax(
                    inputs=(x.name,),
                    outputs=(output.name,),
                    origins=(*pending.origins, *op.origins),
                    axis=softmax.axis,
                )
            )
            return
        self._append_quantize(op)

    def _move(self, op: Reshape | ir_float.Transpose) -> None:
        source = op.inputs[0]
        if source in self.weights:
            self.weights[op.name] = moved_weight(self.weights[source], op)
        elif source in self.codes:
            code = self.codes[source]
            moved = op.name + MOVED_CODES
            shape = self.graph.values[op.name].shape
            self.values[moved] = replace(self.values[code], name=moved, shape=shape)
            self.ops.append(replace(op, inputs=(code,), outputs=(moved,)))
            self.codes[op.name] = moved
        elif source in self.pending:
            self._refuse_float_result(source)
        else:
            self._keep(op)

    def _clip(self, op: ir_float.Clip) -> None:
        source = op.inputs[0]
        if source in self.codes:
            base = Pending(op=None, inputs=(self.values[self.codes[source]],))
            self.pending[op.name] = base.clipped(op)
        elif source in self.pending:
            self.pending[op.name] = self.pending[source].clipped(op)
        else:
            self._keep(op)

    def _multiply(self, op: ir_float.FloatConv | ir_float.FloatMatMul) -> None:
        x = self._code_operand(op.inputs[0])
        weight = self._weight_operand(op.inputs[1], "weight")
        bias = self._weight_operand(op.inputs[2], "bias") if len(op.inputs) > 2 else None
        if x is None or weight is None:
            return
        self.pending[op.name] = Pending(
            op=op, inputs=(x,), weight=weight, bias=bias, origins=op.origins
        )

    def _add(self, op: ir_float.FloatAdd) -> None:
        first, second = op.inputs
        if first in self.weights:
            first, second = second, first
        if second in self.weights:
            self._add_bias(op, first, self.weights[second])
            return
        a, b = self._code_operand(first), self._code_operand(second)
        if a is not None and b is not None:
            self.pending[op.name] = Pending(op=op, inputs=(a, b), origins=op.origins)

    def _add_bias(self, op: ir_float.FloatAdd, source: str, bias: Weight) -> None:
        pending = self.pending.get(source)
        multiplies = pending is not None and pending.weight is not None
        if pending is None or not multiplies or pending.bias is not None or pending.clips:
            raise NotFoldable(
                "adds a constant to something that is no Conv, MatMul or Gemm without bias",
                "fold the constant into the bias of the layer before",
            )
        shape = self.graph.values[source].shape
        if not one_per_channel(bias.codes.shape, shape):
            raise NotFoldable(
                f"adds a constant {list(bias.codes.shape)} to {list(shape)}",
                "add one value for each output channel",
            )
        origins = (*pending.origins, *op.origins)
        self.pending[op.name] = replace(pending, bias=bias, origins=origins)

    def _wait_on_codes(self, op: ir_float.FloatAveragePool | ir_float.Softmax) -> None:
        if isinstance(op, ir_float.Softmax) and op.inputs[0] not in self.codes:
            self._keep(op)
            return
        x = self._code_operand(op.inputs[0])
        if x is not None:
            self.pending[op.name] = Pending(op=op, inputs=(x,), origins=op.origins)

    # ------------------------------------------------------------------ operands

    def _code_operand(self, name: str) -> Value | None:
        """The codes behind a float operand; None where its maker was refused already."""
        if name in self.codes:
            return self.values[self.codes[name]]
        if name in self.pending:
            self._refuse_float_result(name)
        if name in self.values or name in self.constants or name in self.weights:
            raise NotFoldable(f"operand '{name}' is not a quantized activation", NOT_QUANTIZED)
        return None

    def _weight_operand(self, name: str, what: str) -> Weight | None:
        if name in self.weights:
            return self.weights[name]
        if name in self.constants:
            raise NotFoldable(
                f"{what} '{name}' is a float constant",
                f"quantize the {what}: a constant with DequantizeLinear behind it",
            )
        if name in self.codes or name in self.pending or name in self.values:
            raise NotFoldable(f"{what} '{name}' is computed at run time", f"use a constant {what}")
        return None

    def _refuse_float_result(self, name: str) -> None:
        maker = self.pending[name].origins[0]
        title = f" '{maker.node}'" if maker.node else ""
        raise NotFoldable(
            f"'{name}' is the float result of {maker.operator}{title} (node {maker.index})",
            f"add QuantizeLinear and DequantizeLinear behind that {maker.operator}",
        )

    def _keep(self, op: Op) -> None:
        """Leave an operation to the host, with its operands as real tensors."""
        names = tuple(self._real(name) for name in op.inputs)
        if all(name in self.values for name in names):
            self.values[op.name] = self.graph.values[op.name]
            self.ops.append(replace(op, inputs=names))

    def _real(self, name: str) -> str:
        """The name of a tensor that exists outside groups; made of codes where needed."""
        name = self.alias.get(name, name)
        if name in self.values:
            return name
        pending = self.pending.get(name)
        if pending is not None and isinstance(pending.op, ir_float.Softmax) and not pending.clips:
            source = self._real(pending.op.inputs[0])
            self.ops.append(replace(pending.op, inputs=(source,)))
            self.values[name] = self.graph.values[name]
        elif pending is not None:
            self._refuse_float_result(name)
        elif name in self.codes:
            code = self.values[self.codes[name]]
            self.ops.append(ir_quantized.Dequantize(inputs=(code.name,), outputs=(name,)))
            self.values[name] = self.graph.values[name]
        return name

    def _describe(self, name: str) -> str:
        value = self.graph.values[name]
        return f"input '{name}' {value.dtype}{list(value.shape)}".replace(", ", ",")

    # ------------------------------------------------------------------ result

    def result(self) -> Graph:
        """The new graph, without operations that no output needs."""
        for name in self.graph.outputs:
            self._make_output(name)
        self._spread_quantization()
        outputs = tuple(name for name in self.graph.outputs if name in self.values)
        graph = Graph(
            name=self.graph.name,
            inputs=self.graph.inputs,
            outputs=outputs,
            values=self.values,
            ops=tuple(self.ops),
        )
        return without_dead_ops(graph)

    def _spread_quantization(self) -> None:
        """Codes that were only moved have the parameters of the codes that they were made of."""
        moves = [op for op in self.ops if isinstance(op, Reshape | ir_float.Transpose)]
        pairs = [(op.name, op.inputs[0]) for op in reversed(moves)]
        pairs += [(op.inputs[0], op.name) for op in moves]
        for known, unknown in pairs:
            source, target = self.values[known], self.values[unknown]
            if target.quantization is None:
                self.values[unknown] = replace(target, quantization=source.quantization)

    def _make_output(self, name: str) -> None:
        if name in self.values:
            return
        if name in self.alias:  # the same codes under the output's name
            code = self.values[self.alias[name]]
            self.values[name] = replace(code, name=name)
            self.ops.append(Reshape(inputs=(code.name,), outputs=(name,), shape=code.shape))
            return
        try:
            self._real(name)
        except NotFoldable as refusal:
            self.problems.unsupported(f"output '{name}': {refusal.message}", help=refusal.help)
        if name not in self.values and not self.problems.any:
            self.problems.unsupported(
                f"output '{name}' is a constant", help="remove it from the model's outputs"
            )
