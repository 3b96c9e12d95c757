"""Runs a network in ONNX Runtime, one input at a time, and returns tensors of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

from qcompile.compiler.errors import ModelError
from qcompile.compiler.reference import REFERENCE_OPTIONS

Array = npt.NDArray[Any]


def observe(
    model: onnx.ModelProto,
    inputs: Mapping[str, Array],
    wanted: Sequence[str],
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Array]:
    """Tensors `wanted` for N inputs [N, ...], each [N, ...] without the batch axis's 1."""
    session = _session(model, wanted)
    count = len(next(iter(inputs.values())))
    found: dict[str, list[Array]] = {name: [] for name in wanted}
    for row in range(count):
        feed = {name: array[row : row + 1] for name, array in inputs.items()}
        for name, result in zip(wanted, session.run(list(wanted), feed), strict=True):
            found[name].append(np.asarray(result))
        progress(f"input {row + 1} of {count}")
    return {name: np.stack(results) for name, results in found.items()}


def _session(model: onnx.ModelProto, wanted: Sequence[str]) -> ort.InferenceSession:
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    known = {value.name for value in exposed.graph.output}
    exposed.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in wanted if name not in known
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    for name, value in REFERENCE_OPTIONS.items():
        options.add_session_config_entry(name, value)
    try:
        return ort.InferenceSession(
            exposed.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's classes share no base below Exception
        raise ModelError(f"ONNX Runtime refuses the network: {error}") from error
