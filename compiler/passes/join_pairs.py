"""Make one pair of two pairs of QuantizeLinear and DequantizeLinear that follow one another.

Where a tensor is quantized (Q1), read (DQ1) and at once quantized again (Q2), ONNX Runtime's
optimizer removes DQ1 and Q2. Q1 and whatever reads Q2 get the parameters of the range that both
have in common (`float_rules.common_quantization`): other codes than those of the model as it is
written, and our reference. It does so where

* Q1, DQ1 and Q2 are no outputs of the model, Q1 and DQ1 have one reader, and only DequantizeLinear
  reads Q2;
* the parameters of Q1 and DQ1, and those of Q2 and its readers, are the same numbers; both have one
  scale for the tensor, a zero point that the node states, and one type.

Everything else stays as it is: a table from codes to codes. Operators that only hand a tensor on
are gone before, as in ONNX Runtime. Of a longer row the first two pairs are joined, then the next
two, and so on; then those that this has made, until nothing changes: float32 shows the order.
Between these rounds ONNX Runtime also copies pairs to the other side of a move beside them, which
keep their parameters, and removes a DequantizeLinear with an equal QuantizeLinear behind it; rows
of three and more pairs beside a move, or in front of codes that a move reads, are refused for that.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompile.compiler.diagnostics import Problems
from qcompile.compiler.golden.float_rules import common_quantization
from qcompile.compiler.ir import Graph, Op, Quantization, Reshape
from qcompile.compiler.ir_float import DequantizeLinear, QuantizeLinear

HANDS_ON = ("Cast", "Dropout", "Expand", "Identity")
"""Operators that ONNX Runtime removes where the result is like the operand."""

NEUTRAL = ("Add", "Div", "Mul", "Sub")
"""And these with a constant that changes nothing: the frontend reads them as a Reshape."""

COPIED_OVER = ("MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
"""Moves to whose other side ONNX Runtime copies a pair."""

EQUAL_SCALES = 1e-20
"""Scales that are nearer count as equal; each node then keeps its own."""


NOTHING_IN_COMMON = (
    "its range and the one that the tensor was quantized with before have only 0 in common",
    "quantize the model again; a tensor needs only one QuantizeLinear",
)
BESIDE_A_MOVE = (
    "the tensor is quantized three times in a row in front of, or behind, a move",
    "remove all but one of the pairs of QuantizeLinear and DequantizeLinear",
)


def join_pairs(graph: Graph, problems: Problems) -> Graph:
    """The float-level graph with one pair for two; pairs that cannot be joined are problems."""
    joiner = _Joiner(_without_handing_on(graph), problems)
    while any([joiner.visit(op.name) for op in graph.ops]):
        joiner.first_round = False
    return joiner.result()


def _without_handing_on(graph: Graph) -> Graph:
    alias: dict[str, str] = {}
    ops: list[Op] = []
    for old in graph.ops:
        op = replace(old, inputs=tuple(alias.get(name, name) for name in old.inputs))
        if _hands_on(graph, op):
            alias[op.name] = op.inputs[0]
        else:
            ops.append(op)
    values = {name: value for name, value in graph.values.items() if name not in alias}
    return replace(graph, values=values, ops=tuple(ops))


def _hands_on(graph: Graph, op: Op) -> bool:
    neutral = isinstance(op, Reshape) and _operator(op) in NEUTRAL
    known = neutral or _operator(op) in HANDS_ON
    if len(op.inputs) != 1 or not known or op.name in graph.outputs:
        return False
    x, y = graph.values[op.inputs[0]], graph.values[op.name]
    return (x.shape, x.dtype) == (y.shape, y.dtype)


class _Joiner:
    """Operations by the name of their result, and the names of what reads each result."""

    def __init__(self, graph: Graph, problems: Problems) -> None:
        self.graph = graph
        self.problems = problems
        self.ops = {op.name: op for op in graph.ops}
        self.readers: dict[str, list[str]] = {}
        self.refused: set[str] = set()
        self.first_round = True
        for op in graph.ops:
            for name in op.inputs:
                self.readers.setdefault(name, []).append(op.name)

    def visit(self, name: str) -> bool:
        """Join the pair of this QuantizeLinear with the next one, where that is the rule."""
        first = self.ops.get(name)
        if not isinstance(first, QuantizeLinear):
            return False
        middle = self._only_reader(first)
        second = self._only_reader(middle)
        kept = self.refused.union(self.graph.outputs)
        if not isinstance(second, QuantizeLinear) or second.name in kept:
            return False
        last = [self.ops[reader] for reader in self.readers.get(second.name, ())]
        pairs = [(first, middle), *((second, op) for op in last)]
        if not last or first.dtype != second.dtype or not all(_is_pair(*pair) for pair in pairs):
            return False
        return self._join(first, second)

    def _only_reader(self, op: Op | None) -> Op | None:
        readers = [] if op is None else self.readers.get(op.name, [])
        if op is None or len(readers) != 1 or op.name in self.graph.outputs:
            return None
        return self.ops[readers[0]]

    def _join(self, first: QuantizeLinear, second: QuantizeLinear) -> bool:
        a, b = _quantization(first), _quantization(second)
        readers = self.readers[second.name]
        if a.zero_point != b.zero_point or abs(a.scale - b.scale) >= EQUAL_SCALES:
            common = common_quantization(a, b, first.dtype)
            if common is None:
                return self._refuse(second, *NOTHING_IN_COMMON)
            if not self.first_round and self._beside_a_move(first, readers):
                return self._refuse(second, *BESIDE_A_MOVE)
            for name in (first.name, *readers):
                self._set(name, common)
        for name in readers:
            self.ops[name] = replace(self.ops[name], inputs=(first.name,))
        del self.ops[second.inputs[0]], self.ops[second.name]
        self.readers[first.name] = readers
        return True

    def _set(self, name: str, common: Quantization) -> None:
        op = self.ops[name]
        assert isinstance(op, QuantizeLinear | DequantizeLinear)
        self.ops[name] = replace(
            op,
            scale=np.asarray(common.scale, dtype=np.float32),
            zero_point=np.asarray(common.zero_point, dtype=np.int64),
        )

    def _beside_a_move(self, first: QuantizeLinear, last: list[str]) -> bool:
        around = [self.ops.get(first.inputs[0])]
        around += [self.ops[reader] for name in last for reader in self.readers.get(name, ())]
        return any(op is not None and self._changes_rounds(op) for op in around)

    def _changes_rounds(self, op: Op) -> bool:
        """A move, or codes that something else than a DequantizeLinear reads."""
        if not isinstance(op, QuantizeLinear):
            return _operator(op) in COPIED_OVER
        readers = [self.ops[reader] for reader in self.readers.get(op.name, ())]
        return not all(isinstance(reader, DequantizeLinear) for reader in readers)

    def _refuse(self, second: QuantizeLinear, message: str, help: str) -> bool:
        self.refused.add(second.name)
        origin = second.origins[0]
        name = f" '{origin.node}'" if origin.node else ""
        self.problems.unsupported(
            f"{origin.operator}{name} (node {origin.index}): {message}", help=help
        )
        return False

    def result(self) -> Graph:
        """The graph of what is left; results of refused nodes keep their values."""
        removed = {op.name for op in self.graph.ops}.difference(self.ops)
        values = self.graph.values.items()
        return replace(
            self.graph,
            ops=tuple(self.ops.values()),
            values={name: value for name, value in values if name not in removed},
        )


def _operator(op: Op) -> str:
    return op.origins[0].operator if op.origins else ""


def _is_pair(quantize: QuantizeLinear, dequantize: Op | None) -> bool:
    """Whether a DequantizeLinear undoes a QuantizeLinear, by numbers that both nodes state."""
    return (
        isinstance(dequantize, DequantizeLinear)
        and _operator(quantize) == "QuantizeLinear"
        and _operator(dequantize) == "DequantizeLinear"
        and quantize.states_zero_point
        and dequantize.states_zero_point
        and quantize.scale.ndim == dequantize.scale.ndim == 0
        and _quantization(quantize) == _quantization(dequantize)
    )


def _quantization(op: QuantizeLinear | DequantizeLinear) -> Quantization:
    return Quantization(scale=float(op.scale), zero_point=int(op.zero_point))
