"""The `sim` command's work: an engine, golden and ONNX Runtime over the same inputs, compared.

An *engine* computes the accelerator's part of a model: the Verilog in Verilator, or golden itself.
Host operations around it are the same for all. The rule for differences:

* the engine must equal golden in every element;
* golden must equal ONNX Runtime in every element, except what depends on a *float island* (a
  tensor that ONNX Runtime computes in float, or a Softmax of the chip) in which it differs; given
  ONNX Runtime's own inputs, an island may be one step apart. Differences behind it are reported
  and not bounded;
* with `shift` requantization golden is an approximation that the user asked for: its differences
  from ONNX Runtime are reported and not bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from qcompile.compiler import compare
from qcompile.compiler.compare import LayerRecord, OutputRecord
from qcompile.compiler.frontend.qonnx import CODES
from qcompile.compiler.golden.interpreter import run_graph, run_op
from qcompile.compiler.ir import AveragePool, Conv, Int8Array, Model, Op, Softmax
from qcompile.compiler.reference import Island, LogCodes, Reference, ReferenceRun
from qcompile.compiler.tally import Tally, to_record
from qcompile.runtime.classes import chosen_classes, count_classes, find_classes
from qcompile.runtime.host_ops import run_host_ops
from qcompile.runtime.inputs import Samples

Array = npt.NDArray[Any]
Progress = Callable[[str], None]

SOFTMAX = ("Softmax", "QLinearSoftmax")
"""Operators in whose place the chip's layers may stand."""
CHUNK = 32
"""Inputs computed at a time, which bounds memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRun:
    """What an engine computed for N inputs: int8 tensors [N, ...] by value name, cycles of each.

    `tensors` holds the accelerator's outputs and, where they were asked for, its layers;
    `layer_cycles` the cycles of each layer, for every input.
    """

    tensors: dict[str, Int8Array]
    cycles: tuple[int, ...]
    layer_cycles: dict[str, list[int]] = field(default_factory=dict)


class Engine(Protocol):
    """Something that runs the accelerator's part of a model."""

    def run(self, codes: Mapping[str, Int8Array], *, layers: bool) -> EngineRun:
        """Run N inputs int8 [N, ...] by value name."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation:
    """The result: sim.json's content, and the differences that the rule does not allow."""

    record: dict[str, Any]
    failures: tuple[str, ...]


def reference_of(model: Model) -> Reference:
    """ONNX Runtime for a model, with the tensors of its layers."""
    near = [op.name for op in model.graph.ops if _is_near(op)]
    names = [op.name for op in model.graph.ops]
    logs = {}
    for name in (*names, *model.graph.inputs):
        log = model.graph.values[name].log
        if log is not None and name.endswith(CODES):
            logs[name] = LogCodes(real=name.removesuffix(CODES), format=log)
    return Reference(Path(model.path), names, near, logs)


def _is_near(op: Op) -> bool:
    """Whether golden may be one step from ONNX Runtime's codes: pools of windows, and Softmax."""
    if isinstance(op, AveragePool):
        return op.requant.zero_point_inside
    return isinstance(op, Softmax | Conv) and any(x.operator in SOFTMAX for x in op.origins)


def simulate(
    model: Model,
    reference_model: Reference,
    samples: Samples,
    *,
    engine: Engine | None = None,
    predicted_cycles: int | None = None,
    layers: bool = False,
    progress: Progress,
) -> Simulation:
    """Run all samples and compare; `engine` None is golden alone, compared with ONNX Runtime."""
    tally = Tally()
    for start in range(0, samples.count, CHUNK):
        stop = min(start + CHUNK, samples.count)
        progress(f"inputs {start + 1} to {stop} of {samples.count}")
        chunk = {name: tensor[start:stop] for name, tensor in samples.tensors.items()}
        labels = None if samples.labels is None else samples.labels[start:stop]
        _run_chunk(model, reference_model, chunk, labels, engine, layers, tally)
    failures = (
        *_golden_failures(tally),
        *_reference_failures(model, reference_model, tally),
    )
    record = to_record(
        model,
        reference_model.islands,
        tally,
        inputs=samples.count,
        hardware=engine is not None,
        predicted_cycles=predicted_cycles,
        layers=layers,
    )
    return Simulation(record=record, failures=failures)


def _run_chunk(
    model: Model,
    reference_model: Reference,
    inputs: Mapping[str, Array],
    labels: Array | None,
    engine: Engine | None,
    layers: bool,
    tally: Tally,
) -> None:
    values = run_host_ops(model.prologue, inputs)
    codes = {name: np.asarray(values[name]) for name in model.graph.inputs}
    golden = run_graph(model.graph, codes)
    outputs = _finish(model, values, golden)
    inner = layers or bool(reference_model.islands)
    run = reference_model.run(inputs, inner=inner)
    for op in model.graph.ops:
        if op.name in run.layers:
            record = compare.compare_layer(op.name, golden[op.name], run.layers[op.name])
            _merge(tally.against_reference, op.name, record)
    ends = {name: x for name, x in run.outputs.items() if x.dtype in (np.int8, np.uint8)}
    theirs = {**ends, **codes, **run.layers}
    _check_islands(model, reference_model.islands, values, theirs, tally)
    if engine is not None:
        computed = engine.run(codes, layers=layers)
        tally.cycles += computed.cycles
        for name, cycles in computed.layer_cycles.items():
            tally.layer_cycles.setdefault(name, []).extend(cycles)
        tensors = {name: x.reshape(golden[name].shape) for name, x in computed.tensors.items()}
        for name, tensor in tensors.items():
            _merge(tally.against_golden, name, compare.compare_layer(name, tensor, golden[name]))
        outputs = _finish(model, values, tensors)
    _compare_outputs(model, outputs, run, labels, tally)


def _finish(
    model: Model, values: Mapping[str, Array], codes: Mapping[str, Array]
) -> dict[str, Array]:
    """The model's outputs from the accelerator's."""
    known = {**values, **{name: codes[name] for name in model.graph.outputs}}
    known = run_host_ops(model.epilogue, known)
    return {value.name: known[value.name] for value in model.outputs}


def _merge(records: dict[str, Any], name: str, record: LayerRecord | OutputRecord) -> None:
    records[name] = records[name].merge(record) if name in records else record


def _check_islands(
    model: Model,
    islands: tuple[Island, ...],
    values: Mapping[str, Array],
    theirs: Mapping[str, Array],
    tally: Tally,
) -> None:
    """Golden's rule for each island, given ONNX Runtime's own inputs.

    Parts between these and the island that ONNX Runtime does not have are golden's. `values` are
    the host's, with which it puts together an island that leaves the network in parts.
    """
    makers = {op.name: op for op in model.graph.ops}
    for island in islands:
        if island.tensor not in theirs:
            continue
        codes: Array | None
        if island.tensor in makers:
            codes = _computed(model, makers, makers[island.tensor], theirs)
        else:
            codes = _put_together(model, makers, island.tensor, values, theirs)
        if codes is None:
            continue
        record = compare.compare_layer(island.tensor, codes, theirs[island.tensor])
        _merge(tally.islands, island.tensor, record)


def _put_together(
    model: Model,
    makers: Mapping[str, Op],
    tensor: str,
    values: Mapping[str, Array],
    theirs: Mapping[str, Array],
) -> Array | None:
    """Codes that the host makes behind the network, of ONNX Runtime's nearest tensors."""
    known = dict(values)
    for name in model.graph.outputs:
        made = _computed(model, makers, makers[name], theirs) if name in makers else None
        if made is None:
            return None
        known[name] = made
    codes = run_host_ops(model.epilogue, known).get(tensor)
    return codes if codes is not None and codes.dtype in (np.int8, np.uint8) else None


def _computed(
    model: Model, makers: Mapping[str, Op], op: Op, theirs: Mapping[str, Array]
) -> Int8Array | None:
    """An operation of ONNX Runtime's nearest tensors; None where an input of the graph lacks."""
    operands: list[Int8Array] = []
    for name in op.inputs:
        if name in theirs:
            shape = model.graph.values[name].shape[1:]
            operands.append(compare.as_int8(theirs[name]).reshape(-1, *shape))
            continue
        made = _computed(model, makers, makers[name], theirs) if name in makers else None
        if made is None:
            return None
        operands.append(made)
    return run_op(op, operands)


def _compare_outputs(
    model: Model,
    outputs: Mapping[str, Array],
    run: ReferenceRun,
    labels: Array | None,
    tally: Tally,
) -> None:
    inputs = [value.shape for value in model.inputs]
    for value in model.outputs:
        name, output, scale = value.name, outputs[value.name], output_scale(model, value.name)
        classes = count_classes(value.shape, inputs) is not None
        theirs = [(run.outputs, tally.outputs)]
        if run.default_outputs is not None:
            theirs.append((run.default_outputs, tally.default_outputs))
        for expected, records in theirs:
            record = compare.compare_output(
                name, output, expected[name], scale=scale, classes=classes
            )
            _merge(records, name, record)
    known = find_classes({value.name: value.shape for value in model.outputs}, inputs)
    if labels is None or known is None:
        return
    runs: dict[str, Mapping[str, Array]] = {"ours": outputs, "reference": run.outputs}
    if run.default_outputs is not None:
        runs["default"] = run.default_outputs
    for name, tensors in runs.items():
        correct = int((chosen_classes(tensors[known.output]) == labels).sum())
        tally.correct[name] = tally.correct.get(name, 0) + correct


def output_scale(model: Model, name: str) -> float | None:
    """The step of a float output that comes from a DequantizeLinear; None for another one."""
    for op in reversed(model.epilogue):
        if op["outputs"] != [name]:
            continue
        if op["op"] == "DequantizeLinear":
            attributes = op["attributes"]
            assert isinstance(attributes, Mapping)
            return float(attributes["scale"])
        if op["op"] not in ("Reshape", "Transpose"):
            return None
        inputs = op["inputs"]
        assert isinstance(inputs, list)
        name = str(inputs[0])
    return None


def _golden_failures(tally: Tally) -> Iterator[str]:
    for record in tally.against_golden.values():
        if record.mismatches:
            yield (
                f"'{record.name}': {record.mismatches:,} of {record.elements:,} elements of the "
                f"hardware differ from golden; {record.first}"
            )


def _reference_failures(model: Model, reference_model: Reference, tally: Tally) -> Iterator[str]:
    if uses_shift(model):
        return
    for record in tally.islands.values():
        if record.max_steps > 1:
            yield (
                f"'{record.name}', which ONNX Runtime computes in float, is {record.max_steps} "
                f"steps away given the same inputs; {record.first}"
            )
    apart = [
        island
        for island in reference_model.islands
        if island.tensor not in tally.against_reference
        or tally.against_reference[island.tensor].mismatches
    ]
    allowed = reference_model.downstream(apart)
    for record in tally.against_reference.values():
        if record.mismatches and record.name not in allowed:
            yield (
                f"'{record.name}': {record.mismatches:,} of {record.elements:,} elements of golden "
                f"differ from ONNX Runtime; {record.first}"
            )
    for output in tally.outputs.values():
        if output.differing and output.name not in allowed:
            yield (
                f"output '{output.name}': {output.differing:,} of {output.elements:,} elements "
                "differ from ONNX Runtime"
            )


def uses_shift(model: Model) -> bool:
    """Whether the model was brought to `shift` requantization."""
    requants = [getattr(op, "requant", None) for op in model.graph.ops]
    return any(requant is not None and requant.mode == "shift" for requant in requants)
