"""lower: integer graph -> layers; `passes.lowering` has a file for each kind of operation."""

from __future__ import annotations

from collections import Counter

from qcompile.compiler import ir
from qcompile.compiler.errors import (
    CapacityError,
    QcompileError,
    UnsupportedError,
    VerifyError,
)
from qcompile.compiler.layers import Layer
from qcompile.compiler.machine import Machine
from qcompile.compiler.passes.log_layers import check_log_layers, log_form
from qcompile.compiler.passes.lowering.binary import binary
from qcompile.compiler.passes.lowering.convolution import average_pool, convolution
from qcompile.compiler.passes.lowering.cost import SMALL_MACHINE
from qcompile.compiler.passes.lowering.fuse import fuse_lookup
from qcompile.compiler.passes.lowering.halves import in_halves
from qcompile.compiler.passes.lowering.layer import Mode, operator_of, shape3
from qcompile.compiler.passes.lowering.max_pool import max_pool
from qcompile.compiler.passes.lowering.pairs import fuse_pairs, with_pairs
from qcompile.compiler.passes.lowering.select import select
from qcompile.compiler.passes.lowering.state import Lowering
from qcompile.compiler.passes.lowering.wide import split_wide
from qcompile.hw.log.config import FOUR_BIT_LEVELS


def lower(
    graph: ir.Graph, mode: Mode = "exact", machine: Machine = SMALL_MACHINE
) -> tuple[Layer, ...]:
    """All layers of the accelerator's graph, in execution order; `mode` is the requantization's.

    Raises UnsupportedError with every operation that has no layer form.
    """
    check_log_layers(graph, machine)
    log = log_form(graph)
    state = Lowering(graph, mode, machine, _uses(graph), log=log)
    problems: list[QcompileError] = []
    constants = {op.name for op in graph.ops if isinstance(op, ir.Constant)}
    for op in graph.ops:
        try:
            _check_operands(op, constants)
            _lower_op(state, op)
        except (UnsupportedError, CapacityError) as error:
            problems.append(error)
    if problems:
        text = "\n".join(problem.render() for problem in problems)
        raise UnsupportedError(text, problems=problems)
    if log is not None and log.levels <= FOUR_BIT_LEVELS:
        state.layers = with_pairs([_in_four_bits(graph, layer) for layer in state.layers])
    layers = tuple(split_wide(machine, state.layers))
    _check_names(layers)
    return layers


def _in_four_bits(graph: ir.Graph, layer: Layer) -> Layer:
    """Linear codes have eight; tensors that are not the graph's are logarithmic."""
    value = graph.values.get(layer.output)
    return layer if value is None or value.log is not None else in_halves(layer)


def _check_names(layers: tuple[Layer, ...]) -> None:
    """Reports and simulations know a layer by its name."""
    twice = [name for name, count in Counter(layer.name for layer in layers).items() if count > 1]
    if twice:
        raise VerifyError(f"lower: more than one layer is called {twice}")


def _uses(graph: ir.Graph) -> Counter[str]:
    """How often each tensor is read; a use of a reshaped tensor is one of the tensor in memory."""
    uses = Counter(graph.outputs)
    for op in reversed(graph.ops):
        uses.update({op.inputs[0]: uses[op.name]} if isinstance(op, ir.Reshape) else op.inputs)
    return uses


def _check_operands(op: ir.Op, constants: set[str]) -> None:
    """Constants are operands of a Binary or of a Select; `fold_constants` leaves no others."""
    for name in op.inputs:
        if name in constants and not isinstance(op, ir.Binary | ir.Select):
            raise UnsupportedError(
                f"'{op.name}': {operator_of(op)} of the constant '{name}' has no hardware form",
                help="compute the constant part beforehand",
            )


def _lower_op(state: Lowering, op: ir.Op) -> None:
    match op:
        case ir.Conv():
            state.layers += convolution(state.machine, state.graph, op, state.source(op.inputs[0]))
        case ir.AveragePool():
            state.layers.append(average_pool(state.graph, op, state.source(op.inputs[0])))
        case ir.MaxPool():
            max_pool(state, op)
        case ir.Select():
            select(state, op)
        case ir.Binary():
            (binary if state.log is None else fuse_pairs)(state, op)
        case ir.Lookup():
            fuse_lookup(state, op)
        case ir.Reshape():
            state.alias[op.outputs[0]] = _reshape(state, op)
        case ir.Constant():
            pass  # its reader decides
        case _:
            raise UnsupportedError(f"'{op.name}': {type(op).__name__} has no hardware form")


def _reshape(state: Lowering, op: ir.Reshape) -> str:
    """The same tensor in memory: words are [channel group][pixel], so pixels may be rearranged."""
    before, after = (shape3(state.graph, name) for name in (op.inputs[0], op.outputs[0]))
    if before[0] != after[0] or before[1] * before[2] != after[1] * after[2]:
        raise VerifyError(
            f"lower: '{op.name}' reshapes {list(before)} to {list(after)} and is no Select"
        )
    return state.source(op.inputs[0])
