"""The counts that grow over chunks of inputs, and sim.json made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qcompile.compiler import reference
from qcompile.compiler.compare import LayerRecord, OutputRecord
from qcompile.compiler.ir import Model
from qcompile.compiler.reference import Island


@dataclass(slots=True, kw_only=True)
class Tally:
    """Records that grow with every chunk of inputs, by tensor name."""

    against_golden: dict[str, LayerRecord] = field(default_factory=dict)
    against_reference: dict[str, LayerRecord] = field(default_factory=dict)
    islands: dict[str, LayerRecord] = field(default_factory=dict)
    outputs: dict[str, OutputRecord] = field(default_factory=dict)
    default_outputs: dict[str, OutputRecord] = field(default_factory=dict)
    cycles: list[int] = field(default_factory=list)
    layer_cycles: dict[str, list[int]] = field(default_factory=dict)
    correct: dict[str, int] = field(default_factory=dict)


def to_record(
    model: Model,
    islands: Sequence[Island],
    tally: Tally,
    *,
    inputs: int,
    hardware: bool,
    predicted_cycles: int | None,
    layers: bool,
) -> dict[str, Any]:
    """sim.json's content.

    With `layers`, its layers are the hardware's against golden; without hardware golden's against
    ONNX Runtime.
    """
    compared = tally.against_golden if hardware else tally.against_reference
    mismatches = sum(record.mismatches for record in tally.against_golden.values())
    record: dict[str, Any] = {
        "model": {"name": model.name, "sha256": model.sha256},
        "engine": "verilator" if hardware else "golden",
        "inputs": inputs,
        "cycles": tally.cycles if hardware else None,
        "predicted_cycles": predicted_cycles,
        "layer_cycles": [
            {"name": name, "cycles": cycles} for name, cycles in tally.layer_cycles.items()
        ],
        "mismatches_vs_golden": mismatches if hardware else None,
        "layers": [layer.to_json() for layer in compared.values()] if layers else [],
    }
    accuracy = {name: correct / inputs for name, correct in tally.correct.items()}
    if accuracy:
        record["accuracy"] = accuracy["ours"]
    record["onnxruntime"] = _reference_record(islands, accuracy, layers, tally)
    return record


def _reference_record(
    islands: Sequence[Island], accuracy: Mapping[str, float], layers: bool, tally: Tally
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "version": reference.version(),
        "options": reference.options(),
        "outputs": [output.to_json() for output in tally.outputs.values()],
        "layers": [x.to_json() for x in tally.against_reference.values()] if layers else [],
        "float_islands": [_island_record(x, tally) for x in islands],
        "default_session": {
            "saturating_kernels": reference.probe_saturation(),
            "outputs": [output.to_json() for output in tally.default_outputs.values()] or None,
        },
    }
    if accuracy:
        record["accuracy"] = accuracy["reference"]
        record["default_session"]["accuracy"] = accuracy.get("default")
    return record


def _island_record(island: Island, tally: Tally) -> dict[str, Any]:
    """`differing` and `max_steps` given ONNX Runtime's own inputs; null for the host's tensors."""
    record = tally.islands.get(island.tensor)
    return {
        "tensor": island.tensor,
        "operators": list(island.operators),
        "elements": record.elements if record else None,
        "differing": record.mismatches if record else None,
        "max_steps": record.max_steps if record else None,
    }
