"""A float network and calibration inputs to an int8 network, and what that costs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from qcompile.compiler.quantize.corrections import BiasCorrection, Correction, correct_layers
from qcompile.compiler.quantize.emit import emit, real_name
from qcompile.compiler.quantize.encoding import Encoding, signal_to_noise
from qcompile.compiler.quantize.layer import Layer, LayerCodes, layers_of
from qcompile.compiler.quantize.observe import Observations, Say, observe, silent
from qcompile.compiler.quantize.options import Options
from qcompile.compiler.quantize.prepare import Network
from qcompile.compiler.quantize.registry import activation_form_of, scheme_of, weight_form_of
from qcompile.compiler.quantize.rounding import RoundingSearch
from qcompile.compiler.quantize.scheme import Scheme, WeightForm
from qcompile.compiler.quantize.sources import own_encodings, sources_of

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A quantized activation: real values that it reaches, encoding, SQNR in dB of calibration."""

    name: str
    low: float
    high: float
    encoding: Encoding
    sqnr_db: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """The QDQ model, a row for each activation that has codes of its own, the scheme's notes."""

    model: onnx.ModelProto
    tensors: tuple[Tensor, ...]
    notes: tuple[str, ...] = ()


def quantize(
    network: Network,
    inputs: Mapping[str, Array],
    options: Options | None = None,
    progress: Say = silent,
) -> Quantized:
    """Quantize with calibration `inputs`, float32 [N, ...] by input name; `network` stays."""
    options = options or Options()
    scheme, form = scheme_of(options), weight_form_of(options)
    activation_form = activation_form_of(options)
    network = network.copy()
    scheme.rewrite(network, Observations(network, inputs, progress))
    if activation_form is not None:
        activation_form.rewrite(network, Observations(network, inputs, progress))
    observations = Observations(network, inputs, progress)
    tensors = own_encodings(network)
    observations.prefetch(tensors)
    own = scheme.encodings(network, observations, tensors)
    if activation_form is not None:
        own = activation_form.encodings(network, observations, own)
    sources = sources_of(network)
    encodings = {name: own[source] for name, source in sources.items() if source in own}
    codes = {
        layer.node.name: _codes(layer, encodings, scheme, form) for layer in layers_of(network)
    }
    corrections = _corrections(options)
    if corrections:
        codes = correct_layers(network, inputs, encodings, codes, corrections, progress)
    model = emit(network, encodings, codes)
    rows = _rows(network, model, observations, own)
    return Quantized(model=model, tensors=rows, notes=tuple(scheme.notes()))


def _codes(
    layer: Layer, encodings: Mapping[str, Encoding], scheme: Scheme, form: WeightForm | None
) -> LayerCodes:
    operand = encodings[layer.operand]
    codes = scheme.layer(layer, operand, encodings.get(layer.result))
    return codes if form is None else form.recode(layer, codes, operand)


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
    encodings: Mapping[str, Encoding],
) -> tuple[Tensor, ...]:
    names = {name: real_name(network, name) for name in encodings}
    real = observe(model, observations.inputs, list(names.values()))
    rows = []
    for name, encoding in encodings.items():
        values = observations.values(name)
        reached = encoding.rounded(np.array([-np.inf, np.inf], np.float32))
        noise = signal_to_noise(values, real[names[name]])
        low, high = (float(value) for value in reached)
        rows.append(Tensor(name=name, low=low, high=high, encoding=encoding, sqnr_db=noise))
    return tuple(rows)


def accuracy(model: onnx.ModelProto, inputs: Mapping[str, Array], labels: Array) -> float:
    """Share of inputs whose largest output is the label's class."""
    name = model.graph.output[0].name
    scores = observe(model, inputs, [name])[name]
    found = np.argmax(scores.reshape(len(labels), -1), axis=1)
    return float(np.mean(found == labels))


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
