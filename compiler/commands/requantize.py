"""`qcompile requantize INT8.onnx --scheme shift --inputs X.npz -o OUT.onnx`, or --weights."""

from __future__ import annotations

import argparse

from qcompile.compiler.commands.model_output import check_model_output
from qcompile.compiler.console import Progress
from qcompile.compiler.inputs import checked_labels, classes_of, load_inputs, normalization_of
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.quantizer import save
from qcompile.compiler.quantize.registry import PLAIN, weight_form_of
from qcompile.compiler.quantize.requantizer import OutputCost, Requantized, requantize


def run(arguments: argparse.Namespace) -> int:
    """Requantize, print what it costs on the inputs, then write the model."""
    weight_form_of(Options(weights=arguments.weights))  # wrong usage is said before any work
    check_model_output(arguments.output, arguments.model)
    with Progress() as progress:
        progress.step("read the model")
        model = load_model(arguments.model)
        samples = load_inputs(
            arguments.inputs,
            model.inputs,
            normalization=normalization_of(arguments.mean, arguments.std),
            limit=arguments.limit,
        )
        samples = checked_labels(arguments.inputs, samples, classes_of(model))
        for note in samples.notes:
            progress.note(note)
        progress.step(f"requantize, and measure with {samples.count} inputs")
        result = requantize(
            arguments.model,
            samples.tensors,
            samples.labels,
            progress.detail,
            scheme=arguments.scheme or ("shift" if arguments.weights == PLAIN else None),
            weights=arguments.weights,
        )
    print("\n".join(_lines(result, samples.count)), flush=True)
    save(result.model, arguments.output)
    return 0


def _lines(result: Requantized, count: int) -> list[str]:
    lines = [
        f"weights     {one.name}: {len(one.levels)} values, SQNR {one.sqnr_db:.1f} dB"
        for one in result.recoded
    ]
    lines += [line for cost in result.costs for line in _cost_lines(cost, count)]
    if result.accuracies is not None:
        before, after = result.accuracies
        lines.append(f"accuracy    {before:.4f} before, {after:.4f} after, of {count} inputs")
    return lines


def _cost_lines(cost: OutputCost, count: int) -> list[str]:
    line = (
        f"output      {cost.name}: {cost.differing:,} of {cost.elements:,} values differ, by up to "
    )
    lines = [f"{line}{cost.largest:.4g}; SQNR {cost.sqnr_db:.1f} dB against the original"]
    if cost.agreement is not None:
        lines.append(f"same class  {cost.agreement:.4f} of {count} inputs")
    return lines
