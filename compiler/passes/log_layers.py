"""Which graphs run on an array of shifts, and what cannot.

The array multiplies by powers of two, or of the square root of two, so whatever a layer reads must
be logarithmic codes. Copies are layers too. The result of the last layers may be linear. A machine
has one number of levels and one step.
"""

from __future__ import annotations

from collections.abc import Iterator

from qcompile.compiler import ir
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.log_format import ARRAY_FORMS, LogFormat
from qcompile.compiler.machine import Machine
from qcompile.hw.log.config import FOUR_BIT_LEVELS

LAYERS = (ir.Conv, ir.AveragePool, ir.Binary, ir.MaxPool, ir.Lookup, ir.Select, ir.Reshape)
READERS = (ir.Conv, ir.AveragePool, ir.MaxPool, ir.Lookup, ir.Select)


def log_form(graph: ir.Graph) -> LogFormat | None:
    """A format with the levels and the step of all of a graph's; None in a linear graph."""
    return next((value.log for value in graph.values.values() if value.log is not None), None)


def check_log_layers(graph: ir.Graph, machine: Machine) -> None:
    """Raise UnsupportedError with everything in a logarithmic graph that has no layer form."""
    if log_form(graph) is None:
        return
    if not machine.shifts:
        raise UnsupportedError(
            "activations are logarithmic, and this device's array has multipliers",
            help="use --target ice40, or quantize without --activations log",
        )
    _check_forms(graph)
    problems = [problem for op in graph.ops for problem in _problems(graph, op)]
    if problems:
        text = "\n".join(problem.render() for problem in problems)
        raise UnsupportedError(text, problems=problems)


def _check_forms(graph: ir.Graph) -> None:
    """One form for all tensors, and a machine for it."""
    found: dict[tuple[int, int], str] = {}
    for value in graph.values.values():
        if value.log is not None:
            found.setdefault((value.log.levels, value.log.step), value.name)
    texts = [f"'{name}' has {_text(form)}" for form, name in found.items()]
    if len(found) > 1:
        raise UnsupportedError(
            "logarithmic codes of one network must have one step on the accelerator",
            context=texts,
            help="quantize again with --log-step 8 or --log-step 16",
        )
    if next(iter(found)) not in ARRAY_FORMS:
        raise UnsupportedError(
            "no array is built for such logarithmic codes",
            context=texts,
            help="quantize with --activations log:8 or log:16 and --log-step 8 or 16, or with "
            "log:32 and --log-step 8; `qcompile sim MODEL --engine golden` takes all formats",
        )


def _text(form: tuple[int, int]) -> str:
    return f"{form[0]} levels, {form[1]} sixteenths of an octave apart"


def _problems(graph: ir.Graph, op: ir.Op) -> Iterator[UnsupportedError]:
    name = op.origins[0].operator if op.origins else type(op).__name__
    log = log_form(graph)
    wide = isinstance(op, ir.Binary) and log is not None and log.levels > FOUR_BIT_LEVELS
    if not isinstance(op, LAYERS) or wide:
        yield UnsupportedError(
            f"'{op.name}': {name} has no layer form on an array of shifts",
            help="quantize the model without --activations log",
        )
        return
    linear = [source for source in op.inputs if graph.values[source].log is None]
    if isinstance(op, ir.Select) and any(_is_part(graph, op, source) for source in linear):
        what = "ConvTranspose with strides" if name == "ConvTranspose" else name
        yield UnsupportedError(
            f"'{op.name}': {what} puts parts together, which an array of shifts "
            "copies as logarithmic codes only",
            help="end it in logarithmic codes: with a Relu behind it, and, where its result is an "
            "output of the model, with one layer more",
        )
        return
    for source in linear if isinstance(op, READERS) else ():
        yield UnsupportedError(
            f"'{op.name}': {name} reads '{source}', whose codes are linear",
            help="an array of shifts multiplies by powers of two: quantize all tensors that a "
            "layer reads with --activations log; inputs with a sign need --part-signs",
        )


def _is_part(graph: ir.Graph, op: ir.Op, source: str) -> bool:
    """Whether a tensor is made by the same operator of the file: a name that the file lacks."""
    makers = [maker for maker in graph.ops if maker.name == source]
    return bool(makers) and makers[0].origins[:1] == op.origins[:1]
