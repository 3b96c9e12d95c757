"""A float network and calibration inputs to an int8 network, and what that costs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from qcompile.compiler.quantize.emit import emit
from qcompile.compiler.quantize.observe import observe
from qcompile.compiler.quantize.prepare import LAYERS, POOLS, SAME_CODES, Network
from qcompile.compiler.quantize.ranges import (
    Method,
    Parameters,
    find_range,
    parameters_of,
    signal_to_noise,
)

Array = npt.NDArray[Any]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A quantized activation: range of real values, parameters, SQNR in dB on the calibration."""

    name: str
    low: float
    high: float
    parameters: Parameters
    sqnr_db: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """The QDQ model and a row for each activation that has codes of its own."""

    model: onnx.ModelProto
    tensors: tuple[Tensor, ...]


def quantize(
    network: Network,
    inputs: Mapping[str, Array],
    *,
    method: Method = "minmax",
    progress: Say = lambda text: None,
) -> Quantized:
    """Scheme affine: int8 activations with zero points, weights with a scale a channel.

    `inputs` are float32 [N, ...] by input name: the calibration.
    """
    sources = _sources(network)
    own = sorted(set(sources.values()), key=list(sources).index)
    values = observe(network.to_model(), inputs, own, progress)
    ranges = {name: find_range(values[name], method) for name in own}
    parameters = {name: parameters_of(ranges[name]) for name in own}
    model = emit(network, {name: parameters[source] for name, source in sources.items()})
    real = observe(model, inputs, [_real_name(network, name) for name in own], progress)
    tensors = tuple(
        Tensor(
            name=name,
            low=ranges[name].low,
            high=ranges[name].high,
            parameters=parameters[name],
            sqnr_db=signal_to_noise(values[name], real[_real_name(network, name)]),
        )
        for name in own
    )
    return Quantized(model=model, tensors=tensors)


def _real_name(network: Network, name: str) -> str:
    return name if name in network.outputs else f"{name}/real"


def _sources(network: Network) -> dict[str, str]:
    """For each activation with codes, the one whose scale and zero point it has: often itself.

    A layer or Add in front of its only Relu or Clip has no codes, nor has a last Softmax.
    """
    sources = {value.name: value.name for value in network.inputs}
    for node in network.nodes:
        name = node.output[0]
        behind = network.only_consumer(name)
        fused = behind is not None and behind.op_type in ("Relu", "Clip")
        if node.op_type in (*SAME_CODES, *POOLS):
            sources[name] = sources[node.input[0]]
        elif node.op_type != "Softmax" and not (fused and node.op_type in (*LAYERS, "Add")):
            sources[name] = name
    return sources


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
