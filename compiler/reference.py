"""ONNX Runtime as the reference that golden and hardware are compared with.

The reference session is the CPU provider with all optimizations and two options, without which
ONNX Runtime leaves many int8 groups in float: `session.qdqisint8allowed=1` and
`session.qdq_matmulnbits_accuracy_level=0`. Inner tensors come from the model that ONNX Runtime
writes after its fusions (level EXTENDED, which keeps the tensors' names; ALL only changes layouts
on top of it), run again with these tensors as outputs and without further optimization.

A tensor that ONNX Runtime computes in float there is a *float island*: golden follows the
fused-integer rule in its place, and may be a step apart.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from qcompile.compiler.errors import InputError, ModelError
from qcompile.compiler.frontend.qonnx_reference import in_standard_operators
from qcompile.compiler.frontend.reference_models import (
    PROBE_RESULT,
    PROBE_SHAPE,
    Node,
    ReferenceGraph,
    expose_tensors,
    read_graph,
    saturation_probe,
    self_contained,
)
from qcompile.compiler.log_format import LogFormat

Array = npt.NDArray[Any]
Tensors = dict[str, Array]

REFERENCE_OPTIONS = {
    "session.qdqisint8allowed": "1",
    "session.qdq_matmulnbits_accuracy_level": "0",
}
NEAR = ("QLinearAveragePool", "QLinearSoftmax")
"""Operators on codes that golden may miss by one step."""
QUANTIZE = "QuantizeLinear"
ON_CODES = ("DequantizeLinear", "QuantizeLinear", "QLinear")
"""Starts of operators whose operands or results are codes."""
QGEMM_SCALE = 7
"""Input of QGemm that is the scale of its result; float where it is absent."""

FATAL = 4
"""ONNX Runtime's log level above its errors."""
PROVIDERS = ["CPUExecutionProvider"]

MOVES = frozenset(
    {
        *("ArgMax", "Cast", "Concat", "DepthToSpace", "DequantizeLinear", "Expand", "Flatten"),
        *("Gather", "GlobalMaxPool", "Identity", "MaxPool", "Pad", "QuantizeLinear", "ReduceMax"),
        *("Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose"),
        *("Unsqueeze", "Upsample"),
    }
)
"""Operators that compute nothing: codes stay what they are, or are converted exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Island:
    """A tensor of codes (or a float output) that ONNX Runtime computes in float, and with what.

    `real` is the tensor in ONNX Runtime's graph, where logarithmic codes are real numbers.
    """

    tensor: str
    operators: tuple[str, ...]
    real: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCodes:
    """Codes that ONNX Runtime has as real numbers only: of the tensor `real`, in a format."""

    real: str
    format: LogFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceRun:
    """What ONNX Runtime computes for N inputs: arrays [N, ...] by tensor name.

    `default_outputs` are those of a session without our two options, for information, None where
    ONNX Runtime does not run the model so; `layers` are
    the inner tensors that were asked for and that ONNX Runtime has.
    """

    outputs: Tensors
    default_outputs: Tensors | None
    layers: Tensors


class Reference:
    """ONNX Runtime's sessions for one model.

    Raises InputError where this machine's kernels would give wrong values for the model.

    Parameters
    ----------
    path : Path
        The ONNX file.
    layers : sequence of str
        Inner tensors that `run` returns, where ONNX Runtime has them.
    near : sequence of str
        Tensors that may be one step apart, as islands: pools over windows smaller than the image,
        because QLinearAveragePool adds in float32, whose rounding decides its ties; and Softmax
        in the log domain.
    logs : mapping of name to LogCodes
        Which of `layers` are logarithmic codes.

    Attributes
    ----------
    islands : tuple of Island
    """

    def __init__(
        self,
        path: Path,
        layers: Sequence[str],
        near: Sequence[str] = (),
        logs: Mapping[str, LogCodes] | None = None,
    ) -> None:
        with tempfile.TemporaryDirectory(prefix="qcompile-") as name:
            folder = Path(name)
            (folder / "whole").mkdir()
            path = in_standard_operators(self_contained(path, folder / "whole"), folder)
            fused = folder / "fused.onnx"
            _session(path, "EXTENDED", save=fused)
            self._graph = read_graph(fused)
            if _uses_saturating_kernels(self._graph) and probe_saturation():
                raise _unusable_machine(path)
            self._logs = dict(logs or {})
            reals = {one.real: name for name, one in self._logs.items()}
            self.islands = (*find_islands(self._graph, reals), *_near(self._graph, near))
            self._names = expose_tensors(fused, (*layers, *reals))
            self._inner = _session(fused, "OFF") if self._names else None
            self._session = _session(path, "ALL")
            self._default_session = _default_session(path)
        self._name = path.name

    def run(self, inputs: Mapping[str, Array], *, inner: bool = True) -> ReferenceRun:
        """Run N inputs; the inner tensors only with `inner`."""
        wanted = inner and self._inner is not None
        return ReferenceRun(
            outputs=self._run(self._session, inputs),
            default_outputs=self._run_default(inputs),
            layers=self._layers(inputs) if wanted else {},
        )

    def _layers(self, inputs: Mapping[str, Array]) -> Tensors:
        """The inner tensors; logarithmic ones as codes."""
        assert self._inner is not None
        found = self._run(self._inner, inputs, self._names)
        for name, log in self._logs.items():
            if log.real in found:
                found[name] = log.format.codes(found.pop(log.real)).astype(np.int8)
        return found

    def _run(
        self, session: ort.InferenceSession, inputs: Mapping[str, Array], names: Sequence[str] = ()
    ) -> Tensors:
        try:
            return _run(session, inputs, names)
        except Exception as error:  # ONNX Runtime's classes share no base below Exception
            raise _refused(self._name, error) from error

    def _run_default(self, inputs: Mapping[str, Array]) -> Tensors | None:
        if self._default_session is None:
            return None
        try:
            return _run(self._default_session, inputs)
        except Exception:  # for information only
            return None

    def downstream(self, islands: Sequence[Island]) -> frozenset[str]:
        """The islands' own tensors and all that ONNX Runtime computes from them."""
        reached = {island.real or island.tensor for island in islands}
        for node in self._graph.nodes:
            if reached.intersection(node.inputs):
                reached.update(node.outputs)
        reached |= {name for name, log in self._logs.items() if log.real in reached}
        return frozenset(reached)


def version() -> str:
    """ONNX Runtime's version."""
    return str(ort.__version__)


def options() -> dict[str, str]:
    """The reference session's options, as sim.json records them."""
    return {
        "provider": PROVIDERS[0],
        "graph_optimization_level": "ORT_ENABLE_ALL",
        "intra_op_num_threads": "1",
        **REFERENCE_OPTIONS,
    }


def probe_saturation() -> bool:
    """Whether this machine's uint8 x int8 kernels add products in 16 bits, and so are wrong.

    True on x86 without VNNI instructions; int8 x int8 and uint8 x uint8 are exact there too.
    """
    session = ort.InferenceSession(saturation_probe(), providers=PROVIDERS)
    rows, columns = PROBE_SHAPE
    result = session.run(None, {"x": np.full((1, rows), 255, dtype=np.uint8)})[0]
    return bool((np.asarray(result) != np.full((1, columns), PROBE_RESULT)).any())


def find_islands(graph: ReferenceGraph, reals: Mapping[str, str]) -> tuple[Island, ...]:
    """Tensors of codes, and outputs of the model, that follow float operators that compute.

    `reals` are the names of codes by the tensors of real numbers that stand for them.
    """
    producer = {name: node for node in graph.nodes for name in node.outputs}
    ends = {node.outputs[0]: node.inputs[0] for node in graph.nodes if node.operator == QUANTIZE}
    ends |= {name: name for name in (*graph.outputs, *reals) if name not in ends}
    found = {end: _float_operators(tensor, producer, reals) for end, tensor in ends.items()}
    return tuple(
        Island(
            tensor=reals.get(tensor, tensor),
            operators=operators,
            real=tensor if tensor in reals else None,
        )
        for tensor, operators in found.items()
        if operators
    )


def _near(graph: ReferenceGraph, near: Sequence[str]) -> tuple[Island, ...]:
    """The pools and Softmax among `near` that ONNX Runtime runs on codes.

    Their codes before they are moved, and their parts, bear their tensor's name and a suffix.
    """
    return tuple(
        Island(tensor=node.outputs[0], operators=(f"{node.operator} '{node.name}'",))
        for node in graph.nodes
        if node.operator in NEAR
        and any(f"{name}:".startswith(f"{node.outputs[0]}:") for name in near)
    )


def _float_operators(
    tensor: str, producer: Mapping[str, Node], reals: Mapping[str, str]
) -> tuple[str, ...]:
    """Operators that compute in float between the last codes and `tensor`, nearest first."""
    found: list[str] = []
    seen: set[str] = set()
    waiting = [tensor]
    while waiting:
        name = waiting.pop()
        node = producer.get(name)
        if node is None or name in seen or _on_codes(node) or (name in reals and name != tensor):
            continue
        seen.add(name)
        if node.operator not in MOVES:
            found.append(f"{node.operator} '{node.name}'")
        waiting.extend(node.inputs)
    return tuple(found)


def _on_codes(node: Node) -> bool:
    """Whether a node ends a float computation; a QGemm without a scale of y is one itself."""
    if node.operator == "QGemm":
        return len(node.inputs) > QGEMM_SCALE and bool(node.inputs[QGEMM_SCALE])
    return node.operator.startswith(ON_CODES)


def _uses_saturating_kernels(graph: ReferenceGraph) -> bool:
    """Whether a fused node multiplies uint8 activations with int8 weights."""
    positions = {"QLinearConv": (2, 5), "QLinearMatMul": (2, 5), "QGemm": (2, 5)}
    for node in graph.nodes:
        if node.operator not in positions:
            continue
        types = tuple(graph.constant_types.get(node.inputs[i]) for i in positions[node.operator])
        if types == ("uint8", "int8"):
            return True
    return False


def _unusable_machine(path: Path) -> InputError:
    return InputError(
        f"{path.name}: this machine cannot be the reference for a network of uint8 activations "
        "with int8 weights",
        context=(
            "without VNNI instructions ONNX Runtime adds two products in 16 bits, which saturate",
        ),
        help="run this command on an x86 processor with AVX-VNNI or AVX512-VNNI, "
        "or quantize with int8 activations",
    )


def _session(
    path: Path, level: str, *, reference: bool = True, save: Path | None = None
) -> ort.InferenceSession:
    levels = {
        "ALL": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
        "EXTENDED": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
        "OFF": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    }
    settings = ort.SessionOptions()
    settings.graph_optimization_level = levels[level]
    settings.intra_op_num_threads = 1
    settings.log_severity_level = FATAL  # errors come as exceptions, and are told once
    if save is not None:
        settings.optimized_model_filepath = str(save)
    if reference:
        for key, value in REFERENCE_OPTIONS.items():
            settings.add_session_config_entry(key, value)
    try:
        return ort.InferenceSession(str(path), settings, providers=PROVIDERS)
    except Exception as error:  # ONNX Runtime's classes share no base below Exception
        raise _refused(path.name, error) from error


def _default_session(path: Path) -> ort.InferenceSession | None:
    """A session as a user would open it; None where ONNX Runtime refuses the model so."""
    try:
        return _session(path, "ALL", reference=False)
    except ModelError:
        return None


def _refused(name: str, error: Exception) -> ModelError:
    return ModelError(
        f"{name}: ONNX Runtime {version()} does not run this model",
        context=(str(error).strip().splitlines()[0],),
        help="check it with onnx.checker.check_model",
    )


def _run(
    session: ort.InferenceSession, inputs: Mapping[str, Array], names: Sequence[str] = ()
) -> Tensors:
    """Run inputs one by one, as the model's batch is 1; results joined along the first axis."""
    wanted = list(names) or [output.name for output in session.get_outputs()]
    count = len(next(iter(inputs.values())))
    options = ort.RunOptions()
    options.log_severity_level = FATAL
    rows: list[Sequence[Any]] = [
        session.run(wanted, {name: tensor[i : i + 1] for name, tensor in inputs.items()}, options)
        for i in range(count)
    ]
    return {name: _join([row[j] for row in rows]) for j, name in enumerate(wanted)}


def _join(results: Sequence[Array]) -> Array:
    """[1, ...] each to [N, ...]; a result without the batch's axis gets one."""
    batched = results[0].ndim > 0 and results[0].shape[0] == 1
    return np.concatenate(results) if batched else np.stack(results)
