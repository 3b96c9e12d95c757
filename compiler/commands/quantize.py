"""`qcompile quantize FLOAT.onnx --calibration X.npz -o INT8.onnx`."""

from __future__ import annotations

import argparse

from qcompile.compiler.console import Progress
from qcompile.compiler.errors import InputError
from qcompile.compiler.inputs import normalization_of, runtime_errors
from qcompile.compiler.quantize.float_inputs import input_specs
from qcompile.compiler.quantize.prepare import load_float
from qcompile.compiler.quantize.quantizer import Quantized, accuracy, quantize, save
from qcompile.runtime.inputs import load_samples


def run(arguments: argparse.Namespace) -> int:
    """Quantize, write the model, print a row for each tensor, and accuracies with labels."""
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
        result = quantize(network, calibration, method=arguments.range, progress=progress.detail)
        lines = _table(result)
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


def _table(result: Quantized) -> list[str]:
    width = max(len("tensor"), *(len(one.name) for one in result.tensors))
    head = f"{'tensor':{width}}  {'low':>10}  {'high':>10}  {'scale':>11}  {'zero':>4}  SQNR dB"
    return [
        head,
        *(
            f"{one.name:{width}}  {one.low:>10.4g}  {one.high:>10.4g}  "
            f"{one.parameters.scale:>11.5g}  {one.parameters.zero_point:>4}  {one.sqnr_db:>7.1f}"
            for one in result.tensors
        ),
    ]
