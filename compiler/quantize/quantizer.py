"""A float network and calibration inputs to an int8 network, and what that costs."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from qcompile.compiler.errors import InputError
from qcompile.compiler.quantize.corrections import BiasCorrection, Correction, correct_layers
from qcompile.compiler.quantize.emit import emit, real_name
from qcompile.compiler.quantize.encoding import Encoding, signal_to_noise
from qcompile.compiler.quantize.equalize import equalize, relu_for_clip
from qcompile.compiler.quantize.float_inputs import check_calibration
from qcompile.compiler.quantize.layer import Layer, LayerCodes, layers_of
from qcompile.compiler.quantize.normal_scales import check_scales
from qcompile.compiler.quantize.observe import Observations
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import Network
from qcompile.compiler.quantize.registry import (
    activation_form_of,
    check,
    scheme_of,
    weight_form_of,
)
from qcompile.compiler.quantize.rounding import RoundingSearch
from qcompile.compiler.quantize.scheme import ActivationForm, Scheme
from qcompile.compiler.quantize.sessions import Say, observe, silent
from qcompile.compiler.quantize.sources import own_encodings, sources_of
from qcompile.runtime.classes import chosen_classes

Array = npt.NDArray[Any]


MOST_VALUES = 1 << 28
"""Values of observed activations that are held at once: a gigabyte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A quantized activation.

    Attributes
    ----------
    name : str
    low, high : float
        Real values that its codes reach.
    encoding : Encoding
    sqnr_db : float
        Of calibration, between the float network and the quantized one; NaN without calibration.
    layer : str or None
        The layer that makes it, if one does.
    weights_sqnr_db : float or None
        Of that layer's weights.
    """

    name: str
    low: float
    high: float
    encoding: Encoding
    sqnr_db: float
    layer: str | None
    weights_sqnr_db: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """The QDQ model, a row for each activation with codes of its own, lines for the report."""

    model: onnx.ModelProto
    tensors: tuple[Tensor, ...]
    notes: tuple[str, ...] = ()


def quantize(
    network: Network,
    inputs: Mapping[str, Array] | None,
    options: Options | None = None,
    progress: Say = silent,
) -> Quantized:
    """Quantize with calibration `inputs`, float32 [N, ...] by input name; `network` stays.

    Without inputs (None), every range must be among `options.ranges`.
    """
    options = options or Options()
    check(options, calibrated=inputs is not None)
    network, notes = network.copy(), []
    if inputs is not None:
        check_calibration(network, inputs)
        inputs, thinned = _fitting(network, inputs)
        notes += [thinned] if thinned else []
    notes += _equalized(network, inputs, options, progress)
    scheme = scheme_of(options)
    scheme.rewrite(network, Observations(network, inputs, progress))
    form = activation_form_of(options)
    if form is not None:
        form.rewrite(network, Observations(network, inputs, progress))
    observations = Observations(network, inputs, progress)
    own = _encodings(network, observations, scheme, form)
    notes += _unknown_ranges(own, options)
    codes = _codes(network, observations, own, scheme, options, progress)
    encodings = _spread(network, own)
    check_scales(layers_of(network), encodings, codes)
    model = emit(network, encodings, codes)
    rows = _rows(network, model, observations, own, codes)
    if options.int8_depthwise and not any(layer.depthwise for layer in layers_of(network)):
        notes.append("--int8-depthwise changed nothing: no layer is depthwise")
    notes += [*scheme.notes(), *(form.notes() if form else [])]
    return Quantized(model=model, tensors=rows, notes=tuple(notes))


def _fitting(network: Network, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], str]:
    """As many evenly spaced inputs as fit memory, and what to say where these are not all."""
    names = own_encodings(network)
    count = len(next(iter(inputs.values())))
    one = observe(network.to_model(), {name: array[:1] for name, array in inputs.items()}, names)
    most = max(1, MOST_VALUES // sum(array.size for array in one.values()))
    if count <= most:
        return dict(inputs), ""
    rows = np.linspace(0, count - 1, most).round().astype(int)
    note = f"{most} of {count} inputs calibrate: the activations of more would not fit memory"
    return {name: array[rows] for name, array in inputs.items()}, note


def _equalized(
    network: Network, inputs: Mapping[str, Array] | None, options: Options, progress: Say
) -> list[str]:
    if options.equalize is None:
        return []
    notes = []
    if options.relu6_to_relu:
        notes.append(f"{relu_for_clip(network)} Clips became Relus")
    pairs = equalize(network, Observations(network, inputs, progress), options.equalize)
    return [*notes, f"{pairs} pairs of layers equalized by {options.equalize}"]


def _encodings(
    network: Network, observations: Observations, scheme: Scheme, form: ActivationForm | None
) -> dict[str, Encoding]:
    """Of every activation with codes of its own."""
    tensors = own_encodings(network)
    if observations.inputs is not None:
        observations.prefetch(tensors)
    own = scheme.encodings(network, observations, tensors)
    return own if form is None else form.encodings(network, observations, own)


def _spread(network: Network, own: Mapping[str, Encoding]) -> dict[str, Encoding]:
    """Encodings of every activation with codes, its own or another's."""
    sources = sources_of(network)
    return {name: own[source] for name, source in sources.items() if source in own}


def _unknown_ranges(own: Mapping[str, Encoding], options: Options) -> list[str]:
    """Given ranges of tensors that have no codes of their own; InputError where all are such."""
    given = options.ranges or {}
    unknown = [name for name in given if name not in own]
    if given and len(unknown) == len(given):
        raise InputError(
            f"none of the {len(given)} given ranges is of a tensor with codes of its own",
            context=[f"given: {unknown[0]}, ...", f"in the network: {', '.join(own)}"],
            help="give the ranges that were made with this network",
        )
    return [
        f"range of '{name}' is not used: no tensor with codes has this name" for name in unknown
    ]


def _codes(
    network: Network,
    observations: Observations,
    own: Mapping[str, Encoding],
    scheme: Scheme,
    options: Options,
    progress: Say,
) -> dict[str, LayerCodes]:
    """Of every layer, by its name."""
    encodings, form = _spread(network, own), weight_form_of(options)
    codes = {}
    for layer in layers_of(network):
        operand = encodings[layer.operand]
        found = scheme.layer(layer, operand, encodings.get(layer.result))
        codes[layer.node.name] = found if form is None else form.recode(layer, found, operand)
    corrections = _corrections(options)
    if not corrections or observations.inputs is None:
        return codes
    return correct_layers(network, observations.inputs, encodings, codes, corrections, progress)


def _corrections(options: Options) -> list[Correction]:
    """In the order in which a layer takes them: its bias comes last."""
    found: list[Correction] = []
    if options.rounding == "search":
        found.append(RoundingSearch(centred=options.bias_correction))
    if options.bias_correction:
        found.append(BiasCorrection())
    return found


def _rows(
    network: Network,
    model: onnx.ModelProto,
    observations: Observations,
    own: Mapping[str, Encoding],
    codes: Mapping[str, LayerCodes],
) -> tuple[Tensor, ...]:
    names = {name: real_name(network, name) for name in own}
    layers = {layer.result: layer for layer in layers_of(network)}
    found = observations.inputs and observe(model, observations.inputs, list(names.values()))
    return tuple(
        _row(
            name,
            encoding,
            layers.get(name),
            codes,
            signal_to_noise(observations.values(name), found[names[name]]) if found else math.nan,
        )
        for name, encoding in own.items()
    )


def _row(
    name: str,
    encoding: Encoding,
    layer: Layer | None,
    codes: Mapping[str, LayerCodes],
    sqnr_db: float,
) -> Tensor:
    low, high = encoding.rounded(np.array([-np.inf, np.inf], np.float32))
    layer_name, weights = None, None
    if layer is not None:
        layer_name = layer.node.name
        weights = signal_to_noise(layer.weights, codes[layer_name].real_weights(layer))
    return Tensor(
        name=name,
        low=float(low),
        high=float(high),
        encoding=encoding,
        sqnr_db=sqnr_db,
        layer=layer_name,
        weights_sqnr_db=weights,
    )


def classes(
    model: onnx.ModelProto, inputs: Mapping[str, Array], output: str | None = None
) -> Array:
    """int64 [N]: the place of an output's largest value for each input; by default of the first."""
    name = output or model.graph.output[0].name
    return chosen_classes(observe(model, inputs, [name])[name])


def accuracy(model: onnx.ModelProto, inputs: Mapping[str, Array], labels: Array) -> float:
    """Share of inputs whose largest output is the label's class."""
    return float(np.mean(classes(model, inputs) == labels))


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write beside `path`, then rename: it is whole or as before."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(model.SerializeToString())
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise
