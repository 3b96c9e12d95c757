"""The user's inputs as the commands of `qcompile` read them: `runtime.inputs` with our errors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from qcompile.compiler import ir
from qcompile.compiler.errors import InputError
from qcompile.runtime.classes import Classes, find_classes, fit_labels
from qcompile.runtime.errors import BoardError
from qcompile.runtime.inputs import (
    InputsError,
    InputSpec,
    Normalization,
    Samples,
    load_samples,
)


def load_inputs(
    path: Path,
    inputs: Sequence[ir.Value],
    *,
    normalization: Normalization | None = None,
    limit: int | None = None,
) -> Samples:
    """N inputs of an npz file for the model's inputs; InputError for everything that misfits."""
    specs = [input_spec(value) for value in inputs]
    with runtime_errors():
        return load_samples(path, specs, normalization=normalization, limit=limit)


def classes_of(model: ir.Model) -> Classes | None:
    """The classes of a model, where an output has them."""
    outputs = {value.name: value.shape for value in model.outputs}
    return find_classes(outputs, [value.shape for value in model.inputs])


def checked_labels(path: Path, samples: Samples, classes: Classes | None) -> Samples:
    """As `runtime.classes.fit_labels`; InputError where a label is no class."""
    with runtime_errors():
        return fit_labels(path, samples, classes)


@contextmanager
def runtime_errors() -> Iterator[None]:
    """The runtime's errors as ours: it must not import the compiler's."""
    try:
        yield
    except InputsError as error:
        raise InputError(error.message, help=error.help) from error
    except BoardError as error:
        raise InputError(error.message, context=error.context, help=error.help) from error


def input_spec(value: ir.Value) -> InputSpec:
    """What the runtime needs to know of a model input."""
    known = value.quantization
    return InputSpec(
        name=value.name,
        shape=value.shape,
        dtype=value.dtype,
        scale=None if known is None or value.dtype == "float32" else known.scale,
        zero_point=0 if known is None else known.zero_point,
    )


def normalization_of(
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> Normalization | None:
    """What --mean and --std ask for; None where neither was given."""
    if mean is None and std is None:
        return None
    return Normalization(mean=mean or (0.0,), std=std or (1.0,))
