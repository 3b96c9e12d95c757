"""Which graphs run on an array of shifts, and what cannot.

The array multiplies by powers of two, so whatever a layer reads must be logarithmic codes. Copies
are layers too. The result of the last layers may be linear.
"""

from __future__ import annotations

from collections.abc import Iterator

from qcompile.compiler import ir
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.machine import Machine


def is_logarithmic(graph: ir.Graph) -> bool:
    """Whether a tensor of the graph has logarithmic codes."""
    return any(value.log is not None for value in graph.values.values())


def check_log_layers(graph: ir.Graph, machine: Machine) -> None:
    """Raise UnsupportedError with everything in a logarithmic graph that has no layer form."""
    if not is_logarithmic(graph):
        return
    if not machine.shifts:
        raise UnsupportedError(
            "activations are logarithmic, and this device's array has multipliers",
            help="use --target ice40, or quantize without --activations log",
        )
    problems = [problem for op in graph.ops for problem in _problems(graph, op)]
    if problems:
        text = "\n".join(problem.render() for problem in problems)
        raise UnsupportedError(text, problems=problems)


def _problems(graph: ir.Graph, op: ir.Op) -> Iterator[UnsupportedError]:
    name = op.origins[0].operator if op.origins else type(op).__name__
    if not isinstance(op, ir.Conv | ir.AveragePool | ir.Select | ir.Reshape):
        yield UnsupportedError(
            f"'{op.name}': {name} has no layer form on an array of shifts",
            help="quantize the model without --activations log",
        )
        return
    for source in () if isinstance(op, ir.Reshape) else op.inputs:
        if graph.values[source].log is None:
            yield UnsupportedError(
                f"'{op.name}': {name} reads '{source}', whose codes are linear",
                help="an array of shifts multiplies by powers of two: quantize all tensors that a "
                "layer reads with --activations log; they must not be negative",
            )
