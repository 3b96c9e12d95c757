"""`qcompile quantize FLOAT.onnx --calibration X.npz -o INT8.onnx`."""

from __future__ import annotations

import argparse

from qcompile.compiler.console import Progress
from qcompile.compiler.errors import InputError
from qcompile.compiler.inputs import normalization_of, runtime_errors
from qcompile.compiler.quantize.encoding import Encoding
from qcompile.compiler.quantize.float_inputs import input_specs
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import load_float
from qcompile.compiler.quantize.quantizer import Quantized, accuracy, quantize, save
from qcompile.compiler.quantize.registry import activation_form_of, scheme_of, weight_form_of
from qcompile.runtime.inputs import load_samples


def run(arguments: argparse.Namespace) -> int:
    """Quantize, write the model, print a row for each tensor, and accuracies with labels."""
    options = _options(arguments)
    if not arguments.output.parent.is_dir():
        raise InputError(f"{arguments.output}: its folder does not exist", help="make it first")
    with Progress() as progress:
        progress.step("read the model")
        network = load_float(arguments.model)
        with runtime_errors():
            samples = load_samples(
                arguments.calibration,
                input_specs(arguments.model.name, network),
                normalization=normalization_of(arguments.mean, arguments.std),
            )
        for note in samples.notes:
            progress.note(note)
        count = min(arguments.rows, samples.count)
        progress.step(f"quantize with {count} inputs")
        calibration = {name: array[:count] for name, array in samples.tensors.items()}
        result = quantize(network, calibration, options, progress.detail)
        lines = [*_table(result), *(["", *result.notes] if result.notes else [])]
        rest = {name: array[count:] for name, array in samples.tensors.items()}
        if samples.labels is not None and samples.count > count:
            progress.step(f"measure with the other {samples.count - count} inputs")
            labels = samples.labels[count:]
            before = accuracy(network.to_model(), rest, labels)
            after = accuracy(result.model, rest, labels)
            lines += ["", f"accuracy    {before:.4f} float, {after:.4f} int8"]
        save(result.model, arguments.output)
    print("\n".join(lines))
    return 0


def _options(arguments: argparse.Namespace) -> Options:
    """What the command line asks for; UsageError where that makes no sense, before any work."""
    options = Options(
        scheme=arguments.scheme,
        weights=arguments.weights,
        activations=arguments.activations,
        range=arguments.range,
        bias_correction=arguments.bias_correction,
        rounding=arguments.rounding,
        fl=arguments.fl,
        int8_depthwise=arguments.int8_depthwise,
        part_signs=arguments.part_signs,
        log_step=None if arguments.log_step == "any" else int(arguments.log_step),
    )
    scheme_of(options)
    weight_form_of(options)
    activation_form_of(options)
    return options


def _table(result: Quantized) -> list[str]:
    width = max(len("tensor"), *(len(one.name) for one in result.tensors))
    head = f"{'tensor':{width}}  {'low':>10}  {'high':>10}  {'scale':>11}  {'zero':>4}  SQNR dB"
    return [
        head,
        *(
            f"{one.name:{width}}  {one.low:>10.4g}  {one.high:>10.4g}  "
            f"{one.encoding.scale:>11.5g}  {_zero(one.encoding):>4}  {one.sqnr_db:>7.1f}"
            for one in result.tensors
        ),
    ]


def _zero(encoding: Encoding) -> str:
    return "-" if encoding.zero_point is None else str(encoding.zero_point)
