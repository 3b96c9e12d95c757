"""`qcompile quantize FLOAT.onnx --calibration X.npz -o INT8.onnx`."""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler.commands.model_output import check_model_output
from qcompile.compiler.console import Progress
from qcompile.compiler.inputs import checked_labels, normalization_of, runtime_errors
from qcompile.compiler.quantize.clip_ranges import load_ranges
from qcompile.compiler.quantize.float_inputs import float_classes, input_specs
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import Network, load_float
from qcompile.compiler.quantize.quantizer import Quantized, Tensor, classes, quantize, save
from qcompile.compiler.quantize.registry import check
from qcompile.runtime.inputs import Samples, load_samples


def run(arguments: argparse.Namespace) -> int:
    """Quantize, write the model, print a row for each tensor, and accuracies with labels."""
    options = _options(arguments)
    check_model_output(arguments.output, arguments.model)
    with Progress() as progress:
        progress.step("read the model")
        network = load_float(arguments.model)
        samples, scores = _samples(arguments, network, progress)
        count = 0 if samples is None else min(arguments.rows, samples.count)
        progress.step(f"quantize with {count} inputs" if count else "quantize with given ranges")
        result = quantize(network, _part(samples, slice(count)) or None, options, progress.detail)
        lines = [*_table(result), *(["", *result.notes] if result.notes else [])]
        if samples is not None and samples.labels is not None and samples.count > count:
            progress.step(f"measure with the other {samples.count - count} inputs")
            rest, labels = _part(samples, slice(count, None)), samples.labels[count:]
            found = [classes(model, rest, scores) for model in (network.to_model(), result.model)]
            before, after = (float(np.mean(one == labels)) for one in found)
            same = f"the same class in {np.mean(found[0] == found[1]):.4f}"
            lines += ["", f"accuracy    {before:.4f} float, {after:.4f} int8; {same}"]
        save(result.model, arguments.output)
    print("\n".join(lines))
    return 0


def _samples(
    arguments: argparse.Namespace, network: Network, progress: Progress
) -> tuple[Samples | None, str | None]:
    """The inputs of --calibration, and the output that has their classes; None where not given."""
    if arguments.calibration is None:
        return None, None
    with runtime_errors():
        samples = load_samples(
            arguments.calibration,
            input_specs(arguments.model.name, network),
            normalization=normalization_of(arguments.mean, arguments.std),
            option="--calibration",
        )
    found = None if samples.labels is None else float_classes(network, samples.tensors)
    samples = checked_labels(arguments.calibration, samples, found)
    for note in samples.notes:
        progress.note(note)
    return samples, None if found is None else found.output


def _part(samples: Samples | None, rows: slice) -> dict[str, npt.NDArray[Any]]:
    return {} if samples is None else {name: one[rows] for name, one in samples.tensors.items()}


def _options(arguments: argparse.Namespace) -> Options:
    """What the command line asks for; UsageError where that makes no sense, before any work."""
    options = Options(
        scheme=arguments.scheme,
        weights=arguments.weights,
        activations=arguments.activations,
        range=arguments.range,
        ranges=None if arguments.ranges is None else load_ranges(arguments.ranges),
        equalize=arguments.equalize,
        relu6_to_relu=arguments.relu6_to_relu,
        bias_correction=arguments.bias_correction,
        rounding=arguments.rounding,
        fl=arguments.fl,
        int8_depthwise=arguments.int8_depthwise,
        part_signs=arguments.part_signs,
        log_step=None if arguments.log_step == "any" else int(arguments.log_step),
    )
    check(options, calibrated=arguments.calibration is not None)
    return options


def _table(result: Quantized) -> list[str]:
    """A row for each tensor with codes of its own; weights are those of the layer that makes it."""
    width = max(len("tensor"), *(len(one.name) for one in result.tensors))
    ends = f"{'low':>10}  {'high':>10}  {'scale':>11}  {'zero':>4}"
    return [
        f"{'tensor':{width}}  {ends}  SQNR dB  weights dB",
        *(f"{one.name:{width}}  {_numbers(one)}".rstrip() for one in result.tensors),
    ]


def _numbers(one: Tensor) -> str:
    zero = "-" if one.encoding.zero_point is None else str(one.encoding.zero_point)
    noise = "-" if math.isnan(one.sqnr_db) else f"{one.sqnr_db:.1f}"
    weights = "" if one.weights_sqnr_db is None else f"{one.weights_sqnr_db:.1f}"
    ends = f"{one.low:>10.4g}  {one.high:>10.4g}  {one.encoding.scale:>11.5g}"
    return f"{ends}  {zero:>4}  {noise:>7}  {weights:>10}"
