"""The state of fold_qdq's walk, and how fold functions ask for operands and keep results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from qcompile.compiler import ir_float, ir_quantized
from qcompile.compiler.diagnostics import Problems
from qcompile.compiler.ir import Graph, Op, Quantization, Value
from qcompile.compiler.passes.fold.groups import (
    MOVES,
    CodeMove,
    Finish,
    NotFoldable,
    Pending,
    Weight,
)

NOT_QUANTIZED = (
    "quantize the whole model, with QuantizeLinear and DequantizeLinear around every operator: "
    "`qcompile quantize` does it with a float model, and so does onnxruntime's quantize_static"
)

SAME_PARAMETERS = "give QuantizeLinear and DequantizeLinear of one tensor the same parameters"

COMPUTED_CONSTANT = "simplify the model before it is quantized, so that no constant is computed"

MOVED_CODES = ":codes"
"""Suffix of codes that are moved behind a DequantizeLinear: the float tensor keeps its name,
because it may be an output of the model. A QuantizeLinear behind the moves gives them its own."""


class Folder:
    """One walk over the graph in topological order.

    Attributes
    ----------
    makers : the read graph's operators by the value that they make
    values, ops :
        The quantized graph so far.
    constants : float or integer arrays by name
    weights : dequantized constants by name
    codes : float value to the codes that it dequantizes
    pending : float value to the group that waits for its QuantizeLinear
    alias : code value to the equal one that is kept
    """

    def __init__(self, graph: Graph, problems: Problems) -> None:
        self.graph = graph
        self.makers = {op.name: op for op in graph.ops}
        self.problems = problems
        self.values = {name: graph.values[name] for name in graph.inputs}
        self.ops: list[Op] = []
        self.constants: dict[str, npt.NDArray[Any]] = {}
        self.weights: dict[str, Weight] = {}
        self.codes: dict[str, str] = {}
        self.pending: dict[str, Pending] = {}
        self.alias: dict[str, str] = {}

    # ------------------------------------------------------------------ operands

    def code_operand(self, name: str) -> Value | None:
        """The codes behind a float operand; None where its maker was refused already."""
        if name in self.codes:
            return self.values[self.codes[name]]
        if name in self.pending:
            self.refuse_float_result(name)
        if name in self.values or name in self.constants or name in self.weights:
            raise NotFoldable(f"operand '{name}' is not a quantized activation", NOT_QUANTIZED)
        return None

    def is_code(self, name: str) -> bool:
        """Whether a tensor that exists outside groups holds codes."""
        value = self.values.get(self.alias.get(name, name))
        return value is not None and value.dtype in ("int8", "uint8")

    def weight_operand(self, name: str, what: str) -> Weight | None:
        """A dequantized constant; None where its maker was refused already."""
        if name in self.weights:
            return self.weights[name]
        if name in self.constants:
            raise NotFoldable(
                f"{what} '{name}' is a float constant",
                f"quantize the {what}: a constant with DequantizeLinear behind it",
            )
        if name in self.codes or name in self.pending or name in self.values:
            raise NotFoldable(
                f"{what} '{name}' is computed at run time",
                f"use a constant {what}: products of two activations, as in attention, do not run "
                "on the accelerator; end the network in front of them",
            )
        return None

    def wait(self, op: Op, *operands: str, finish: Finish) -> None:
        """A group begins: `op` on codes, finished by `finish` at its QuantizeLinear."""
        codes = [self.code_operand(name) for name in operands]
        known = tuple(code for code in codes if code is not None)
        if len(known) == len(codes):
            self.pending[op.name] = Pending(op=op, inputs=known, finish=finish, origins=op.origins)

    def refuse_float_result(self, name: str) -> None:
        """A float value in the middle of the network; names what made it."""
        maker = self.pending[name].origins[0]
        title = f" '{maker.node}'" if maker.node else ""
        if maker.operator in ("ConvInteger", "MatMulInteger"):
            raise NotFoldable(
                f"'{name}' is the unscaled result of {maker.operator}{title} (node {maker.index})",
                "quantize statically (onnxruntime quantize_static): behind the operator a Cast to "
                "float32, a Mul by a constant and a QuantizeLinear",
            )
        raise NotFoldable(
            f"'{name}' is the float result of {maker.operator}{title} (node {maker.index})",
            f"add QuantizeLinear and DequantizeLinear behind that {maker.operator}",
        )

    # ------------------------------------------------------------------ results

    def set_quantization(self, code: str, quantization: Quantization) -> None:
        """A DequantizeLinear says what codes mean; it must be what made them."""
        value = self.values[code]
        if value.quantization is None:
            self.values[code] = replace(value, quantization=quantization)
        elif value.quantization != quantization:
            raise NotFoldable(
                f"reads '{code}' with scale {quantization.scale:.9g} and zero point "
                f"{quantization.zero_point}, but it was made with {value.quantization.scale:.9g} "
                f"and {value.quantization.zero_point}",
                SAME_PARAMETERS,
            )

    def move_codes(self, op: CodeMove, codes: Sequence[Value]) -> None:
        """A move of codes with equal parameters: the result stands for the float `op.name`."""
        moved = op.name + MOVED_CODES
        shape = self.graph.values[op.name].shape
        self.values[moved] = replace(codes[0], name=moved, shape=shape)
        inputs = tuple(code.name for code in codes)
        self.ops.append(replace(op, inputs=inputs, outputs=(moved,)))
        self.codes[op.name] = moved

    def keep(self, op: Op) -> None:
        """Leave an operation to the host, with its operands as real tensors."""
        for name in op.inputs:
            if name in self.weights or name in self.constants:
                raise NotFoldable(f"operand '{name}' is a constant", COMPUTED_CONSTANT)
        names = tuple(self.real(name) for name in op.inputs)
        if all(name in self.values for name in names):
            self.values[op.name] = self.graph.values[op.name]
            self.ops.append(replace(op, inputs=names))

    def real(self, name: str) -> str:
        """The name of a tensor that exists outside groups; made of codes where needed."""
        name = self.alias.get(name, name)
        if name in self.values:
            return name
        pending = None if name in self.codes else self.pending.get(name)
        if pending is None:
            self._dequantize(name, self.codes.get(name))
        elif (pending.op is None or pending.as_float) and pending.after and not pending.moves:
            self.keep(pending.after[-1])
        elif pending.as_float is not None and not pending.moves:
            for op, value in pending.as_float(pending, self.graph.values[name]):
                self.ops.append(op)
                self.values[value.name] = value
        elif pending.after or not (pending.op is None or isinstance(pending.op, ir_float.Softmax)):
            self.refuse_float_result(name)
        else:
            self._compute_real(name, pending)
        return name

    def _dequantize(self, name: str, code: str | None) -> None:
        """The real numbers of codes; nothing where their maker was refused already."""
        if code is not None:
            self.ops.append(ir_quantized.Dequantize(inputs=(code,), outputs=(name,)))
            self.values[name] = self.graph.values[name]

    def _compute_real(self, name: str, pending: Pending) -> None:
        """A Softmax, or codes, and the moves behind: the host does them in float."""
        first = name if not pending.moves else f"{name}:real"
        if isinstance(pending.op, ir_float.Softmax):
            source = self.real(pending.op.inputs[0])
            self.ops.append(replace(pending.op, inputs=(source,), outputs=(first,)))
            shape = self.graph.values[pending.op.name].shape
        else:
            code = pending.inputs[0]
            self.ops.append(ir_quantized.Dequantize(inputs=(code.name,), outputs=(first,)))
            shape = code.shape
        self.values[first] = Value(name=first, shape=shape, dtype="float32")
        source = first
        for number, (move, shape) in enumerate(pending.moves, start=1):
            result = name if number == len(pending.moves) else f"{name}:real{number}"
            self.ops.append(replace(move, inputs=(source,), outputs=(result,)))
            self.values[result] = Value(name=result, shape=shape, dtype="float32")
            source = result

    # ------------------------------------------------------------------ messages

    def report(self, op: Op, refusal: NotFoldable) -> None:
        """A problem of the model, at the node that `op` was made of."""
        origin = op.origins[0]
        name = f" '{origin.node}'" if origin.node else ""
        self.problems.unsupported(
            f"{origin.operator}{name} (node {origin.index}): {refusal.message}",
            context=tuple(self._describe(i) for i in op.inputs),
            help=refusal.help,
        )

    def _describe(self, name: str) -> str:
        value = self.graph.values.get(name) or self.values[name]
        return f"input '{name}' {value.dtype}{list(value.shape)}".replace(", ", ",")


def spread_quantization(folder: Folder) -> None:
    """Codes that were only moved have the parameters of the codes that they were made of."""
    moves = [op for op in folder.ops if isinstance(op, MOVES)]
    pairs = [(op.name, name) for op in reversed(moves) for name in op.inputs]
    pairs += [(name, op.name) for op in moves for name in op.inputs]
    for known, unknown in pairs:
        source, target = folder.values[known], folder.values[unknown]
        if target.quantization is None:
            folder.values[unknown] = replace(target, quantization=source.quantization)
    for op in moves:
        _refuse_other_meaning(folder, op)


def _refuse_other_meaning(folder: Folder, op: Op) -> None:
    """Refuse a move of codes whose DequantizeLinear states other parameters than their maker."""
    after = folder.values[op.name].quantization
    for name in op.inputs:
        before = folder.values[name].quantization
        if after is None or before is None or before == after:
            continue
        refusal = NotFoldable(
            f"moves codes of scale {before.scale:.9g} and zero point {before.zero_point}, but "
            f"'{op.name}' is read with {after.scale:.9g} and {after.zero_point}",
            SAME_PARAMETERS,
        )
        return folder.report(op, refusal)


def name_moved_codes(folder: Folder) -> None:
    """Codes that were moved between a DequantizeLinear and an equal QuantizeLinear get its name.

    ONNX Runtime has a tensor of that name, so that layers can be compared.
    """
    names: dict[str, str] = {}
    for quantized, code in folder.alias.items():
        if code.endswith(MOVED_CODES) and code not in folder.graph.values:
            names.setdefault(code, quantized)
    folder.values = {
        names.get(name, name): replace(value, name=names.get(name, name))
        for name, value in folder.values.items()
    }
    folder.ops = [
        replace(
            op,
            inputs=tuple(names.get(name, name) for name in op.inputs),
            outputs=tuple(names.get(name, name) for name in op.outputs),
        )
        for op in folder.ops
    ]
    folder.alias = {name: names.get(code, code) for name, code in folder.alias.items()}
    folder.codes = {name: names.get(code, code) for name, code in folder.codes.items()}
    for name, pending in folder.pending.items():
        inputs = tuple(replace(x, name=names.get(x.name, x.name)) for x in pending.inputs)
        folder.pending[name] = replace(pending, inputs=inputs)
