"""Gives a model that is int8 already scales of scheme shift, weights from a codebook, or both, and
measures what that costs.

No other scheme: in many such models codes that end at 0 or at 6 are all that is left of a Relu or
Relu6, and scheme shift keeps where they end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx

from qcompile.compiler.errors import InputError, UnsupportedError, UsageError
from qcompile.compiler.frontend.log_quantize import DOMAIN, NAME
from qcompile.compiler.quantize.codebook import CodebookWeights
from qcompile.compiler.quantize.dequantize import Codes, Dequantized, dequantize
from qcompile.compiler.quantize.encoding import signal_to_noise
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import prepare, read_model
from qcompile.compiler.quantize.quantizer import quantize
from qcompile.compiler.quantize.recode import Recoded, with_codebooks
from qcompile.compiler.quantize.registry import PLAIN, weight_form_of
from qcompile.compiler.quantize.sessions import Say, observe, silent
from qcompile.runtime.classes import chosen_classes, find_classes

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputCost:
    """An output before and after, over all inputs: real values, or codes times their scale.

    `sqnr_db` is infinite where nothing differs; `largest` the largest difference; `agreement` the
    share of inputs with the same class, None for an output without classes.
    """

    name: str
    elements: int
    differing: int
    largest: float
    sqnr_db: float
    agreement: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Requantized:
    """The model, what it costs, and, with labels, the accuracies before and after.

    `recoded`: the weights that got a codebook while all scales stayed.
    """

    model: onnx.ModelProto
    costs: tuple[OutputCost, ...]
    recoded: tuple[Recoded, ...]
    accuracies: tuple[float, float] | None


def requantize(
    path: Path,
    inputs: Mapping[str, Array],
    labels: Array | None = None,
    progress: Say = silent,
    *,
    scheme: Literal["shift"] | None = "shift",
    weights: str = PLAIN,
) -> Requantized:
    """New scales or weights for an int8 model; `inputs` [N, ...] by name, of its types, measure.

    Ranges of activations stay what codes had; where a tensor had none it is found from the inputs.
    With no scheme all scales stay. `weights` as `Options.weights`.
    """
    original = read_model(path, "an int8")
    if scheme is not None and _is_logarithmic(original):
        raise UnsupportedError(
            f"{path}: its activations are logarithmic: they have no scales of scheme {scheme}",
            help=f"quantize the float model with --scheme {scheme} and without --activations log; "
            "--weights codebook:16 alone keeps logarithmic activations",
        )
    found = dequantize(original)
    if not found.ranges:
        raise InputError(
            f"{path}: holds no QuantizeLinear or QLinear operator",
            help="a float model is what qcompile quantize takes",
        )
    form = weight_form_of(Options(weights=weights))
    recoded: tuple[Recoded, ...] = ()
    if scheme is not None:
        network = prepare(path, found.model)
        options = Options(scheme=scheme, ranges=found.ranges, weights=weights)
        made = quantize(network, found.values(inputs), options, progress)
        model = found.restore(made.model)
    elif isinstance(form, CodebookWeights):
        model, recoded = with_codebooks(original, form.levels, form.criterion)
    else:
        raise UsageError("nothing is to be changed", help="give a scheme, or weights codebook:N")
    progress("measure")
    costs, accuracies = _measure(original, model, found, inputs, labels)
    return Requantized(model=model, costs=costs, recoded=recoded, accuracies=accuracies)


def _is_logarithmic(model: onnx.ModelProto) -> bool:
    return any((node.domain, node.op_type) == (DOMAIN, NAME) for node in model.graph.node)


def _measure(
    original: onnx.ModelProto,
    model: onnx.ModelProto,
    found: Dequantized,
    inputs: Mapping[str, Array],
    labels: Array | None,
) -> tuple[tuple[OutputCost, ...], tuple[float, float] | None]:
    names = [value.name for value in original.graph.output]
    before, after = (observe(one, inputs, names) for one in (original, model))
    shapes = {name: (1, *array.shape[1:]) for name, array in before.items()}
    classes = find_classes(shapes, [(1, *array.shape[1:]) for array in inputs.values()])
    scores = classes.output if classes else None
    costs = []
    for name in names:
        codes = found.outputs[name][1] if name in found.outputs else None
        real = [_real(one[name], codes) for one in (before, after)]
        costs.append(_cost(name, real[0], real[1], has_classes=name == scores))
    accuracies = None
    if labels is not None and scores is not None:
        shares = [np.mean(chosen_classes(one[scores]) == labels) for one in (before, after)]
        accuracies = float(shares[0]), float(shares[1])
    return tuple(costs), accuracies


def _real(values: Array, codes: Codes | None) -> Array:
    exact = values.astype(np.float64)
    return exact if codes is None else (exact - int(codes.zero_point)) * float(codes.scale)


def _cost(name: str, before: Array, after: Array, *, has_classes: bool) -> OutputCost:
    agreement = None
    if has_classes:
        agreement = float(np.mean(chosen_classes(before) == chosen_classes(after)))
    return OutputCost(
        name=name,
        elements=before.size,
        differing=int(np.count_nonzero(before != after)),
        largest=float(np.abs(before - after).max(initial=0.0)),
        sqnr_db=signal_to_noise(before, after),
        agreement=agreement,
    )
