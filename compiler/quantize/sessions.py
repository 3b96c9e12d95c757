"""Runs a network in ONNX Runtime over inputs, and returns tensors of it.

Many inputs run at once where the model lets them: its inputs' first axis is made free, and so is
the leading 1 of a Reshape's shape. Whether that is the same network is tried with two inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from qcompile.compiler.errors import ModelError
from qcompile.compiler.quantize.prepare import Network
from qcompile.compiler.reference import REFERENCE_OPTIONS

Array = npt.NDArray[Any]
Say = Callable[[str], None]
BATCH_VALUES = 1 << 18
"""Input values that run at once, at most, where one input has fewer."""
LARGEST_BATCH = 64
CLOSE = 1e-3
"""Difference between a tensor alone and in a batch, relative to its largest value."""


def silent(text: str) -> None:
    """No progress."""


def observe(
    model: onnx.ModelProto,
    inputs: Mapping[str, Array],
    wanted: Sequence[str],
    progress: Say = silent,
) -> dict[str, Array]:
    """Tensors `wanted` for N inputs [N, ...]: their first axis, of length 1 in the model, is N."""
    count = len(next(iter(inputs.values())))
    row_size = sum(array[0].size for array in inputs.values())
    size = max(1, min(LARGEST_BATCH, BATCH_VALUES // row_size, count))
    single = _session(model, wanted)
    session = _batched(model, inputs, wanted, single) if size > 1 else None
    if session is None:
        session, size = single, 1
    found: dict[str, list[Array]] = {name: [] for name in wanted}
    for row in range(0, count, size):
        for name, result in _run(session, inputs, wanted, row, size).items():
            found[name].append(result)
        progress(f"input {min(row + size, count)} of {count}")
    return {name: _joined(results) for name, results in found.items()}


def batches(network: Network, inputs: Mapping[str, Array]) -> bool:
    """Whether the network takes many inputs at once, so that every tensor's first axis counts."""
    model = network.to_model()
    names = [node.output[0] for node in network.nodes]
    two = {name: np.resize(array, (2, *array.shape[1:])) for name, array in inputs.items()}
    return _batched(model, two, names, _session(model, names)) is not None


def _run(
    session: ort.InferenceSession,
    inputs: Mapping[str, Array],
    wanted: Sequence[str],
    row: int,
    size: int,
) -> dict[str, Array]:
    feed = {name: array[row : row + size] for name, array in inputs.items()}
    results = session.run(list(wanted), feed)
    return {name: np.asarray(result) for name, result in zip(wanted, results, strict=True)}


def _joined(results: list[Array]) -> Array:
    """Results of several runs as one; a tensor without the batch in front gets it there."""
    return np.concatenate(results) if results[0].ndim else np.stack(results)


def _batched(
    model: onnx.ModelProto,
    inputs: Mapping[str, Array],
    wanted: Sequence[str],
    single: ort.InferenceSession,
) -> ort.InferenceSession | None:
    """A session that takes many inputs; None where it is not the same network."""
    try:
        session = _session(_with_free_batch(model), wanted)
        both = _run(session, inputs, wanted, 0, 2)
    except Exception:  # whatever ONNX Runtime minds about it, inputs run alone then
        return None
    for row in range(2):
        for name, alone in _run(single, inputs, wanted, row, 1).items():
            together = both[name]
            if alone.ndim == 0 or together.shape != (2, *alone.shape[1:]) or len(alone) != 1:
                return None
            limit = CLOSE * float(np.abs(alone).max(initial=0.0))
            if not np.isfinite(limit) or not np.allclose(together[row], alone[0], 0, limit):
                return None
    return session


def _with_free_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without sizes of tensors, and Reshapes that keep the first axis as it comes."""
    free = onnx.ModelProto()
    free.CopyFrom(model)
    del free.graph.value_info[:]
    for value in (*free.graph.input, *free.graph.output):
        shape = value.type.tensor_type.shape
        if shape.dim:
            shape.dim[0].dim_param = "batch"
    for name, sizes in _batch_shapes(Network(model)).items():
        for tensor in free.graph.initializer:
            if tensor.name == name:
                tensor.CopyFrom(numpy_helper.from_array(sizes, name))
    return free


def batch_constants(network: Network) -> dict[str, Array]:
    """The network's constants, with Reshapes that take many inputs where they took one."""
    return network.constants | _batch_shapes(network)


def _batch_shapes(network: Network) -> dict[str, Array]:
    """Shapes of Reshapes whose leading 1 becomes ONNX's 0: as long as the operand is."""
    found = {}
    for node in network.nodes:
        sizes = network.constants.get(node.input[1]) if node.op_type == "Reshape" else None
        if sizes is not None and sizes.size and sizes[0] == 1:
            found[node.input[1]] = np.concatenate([[0], sizes[1:]]).astype(np.int64)
    return found


def run_alone(model: onnx.ModelProto) -> Callable[[Mapping[str, Array]], Sequence[Array]]:
    """A function from a model's inputs by name to its outputs."""
    session = _session(model, [])

    def run(feed: Mapping[str, Array]) -> Sequence[Array]:
        return [np.asarray(result) for result in session.run(None, dict(feed))]

    return run


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
