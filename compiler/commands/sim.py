"""`qcompile sim`: an engine and golden and ONNX Runtime over real inputs, and sim.json."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qcompile.compiler import artifact
from qcompile.compiler.console import Progress
from qcompile.compiler.errors import InputError
from qcompile.compiler.inputs import checked_labels, classes_of, load_inputs, normalization_of
from qcompile.compiler.ir import Model
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.report_text import shorten
from qcompile.compiler.simulate import Engine, Simulation, reference_of, simulate
from qcompile.runtime.artifact import version_note
from qcompile.runtime.classes import counted, share

if TYPE_CHECKING:
    from qcompile.hw.boards import Board, LinesBoard

DEFAULT_LIMIT = 3
MOST_ISLANDS = 4
"""Tensors computed in float that get a line each although they are equal."""
"""Inputs that Verilator simulates where --limit says nothing."""


def run(arguments: argparse.Namespace) -> int:
    """Simulate, compare, write sim.json, print; 1 at a difference that the rule does not allow."""
    build = _open(arguments)
    with Progress() as progress:
        progress.step("read the model")
        model = _load(arguments, build)
        samples = load_inputs(
            arguments.inputs,
            model.inputs,
            normalization=normalization_of(arguments.mean, arguments.std),
            limit=arguments.limit or _default_limit(arguments),
        )
        samples = checked_labels(arguments.inputs, samples, classes_of(model))
        for note in samples.notes:
            progress.note(note)
        reference = reference_of(model)
        engine = _engine(arguments, build, progress)
        progress.step(f"run {counted(samples.count, 'input')}")
        simulation = simulate(
            model,
            reference,
            samples,
            engine=engine,
            predicted_cycles=None if build is None else build.report["cycles"],
            layers=arguments.layers,
            progress=progress.detail,
        )
        if build is not None:
            _add_predictions(simulation.record, build)
    return _deliver(arguments, build, simulation)


def _add_predictions(record: dict[str, Any], build: artifact.Build) -> None:
    """The report's cycles beside the measured ones, layer by layer."""
    predicted = {layer["name"]: layer["cycles"] for layer in build.report["layers"]}
    for layer in record["layer_cycles"]:
        layer["predicted"] = predicted.get(layer["name"])


def _open(arguments: argparse.Namespace) -> artifact.Build | None:
    """The build directory; None where a model alone is given."""
    subject: Path = arguments.subject
    if subject.is_dir():
        if arguments.shape or arguments.requant or arguments.softmax:
            raise InputError(
                f"{subject}: --shape, --requant and --softmax were chosen when it was compiled",
                help="leave them away, or compile again",
            )
        build = artifact.open_build(subject)
        note = version_note(build.manifest)
        if note is not None:
            Progress().note(note)
        return build
    if not subject.exists():
        raise InputError(
            f"{subject}: no such file or folder", help="give what compile wrote, or an .onnx file"
        )
    if arguments.engine != "golden":
        raise InputError(
            f"{subject}: is no build directory, and the Verilog is simulated from one",
            help=f"compile it first: qcompile {subject} --target ice40; or add --engine golden",
        )
    return None


def _load(arguments: argparse.Namespace, build: artifact.Build | None) -> Model:
    if build is None:
        return load_model(
            arguments.subject,
            shapes=dict(arguments.shape),
            requant=arguments.requant or "exact",
            softmax=arguments.softmax or "host",
        )
    from qcompile.compiler.flows import flow_of  # a model alone needs no accelerator

    shapes = {value["name"]: tuple(value["shape"]) for value in build.manifest["inputs"]}
    manifest = build.manifest
    softmax = manifest.get("softmax", "host")  # what builds of earlier versions did
    model = load_model(build.model, shapes=shapes, requant=manifest["requant"], softmax=softmax)
    # The file is called model.onnx in every build.
    model = replace(model, name=manifest["model"]["name"])
    return flow_of(_board(build)).form(model, build)


def _board(build: artifact.Build) -> Board | LinesBoard:
    from qcompile.compiler.targets import board_of_build

    return board_of_build(build.folder, build.manifest["target"]["board"])


def _default_limit(arguments: argparse.Namespace) -> int | None:
    return None if arguments.engine == "golden" else DEFAULT_LIMIT


def _engine(
    arguments: argparse.Namespace, build: artifact.Build | None, progress: Progress
) -> Engine | None:
    if arguments.engine == "golden" or build is None:
        return None
    progress.step("prepare the simulation")
    # Imported late: golden alone needs no hardware description and no simulator.
    from qcompile.compiler.flows import flow_of

    return flow_of(_board(build)).engine(build, seed=arguments.seed, progress=progress.step)


def _deliver(
    arguments: argparse.Namespace, build: artifact.Build | None, simulation: Simulation
) -> int:
    """Write sim.json where there is a place for it, print record or summary, and differences."""
    path = arguments.output or (None if build is None else build.folder / "sim.json")
    text = artifact.to_json(simulation.record)
    if path is not None:
        artifact.write_file(path, text)
    if arguments.json:
        print(text, end="")
    else:
        print(summarize(simulation.record, failed=bool(simulation.failures)))
        if path is not None:
            print(f"written to {path}")
    if simulation.failures:
        print("\n".join(("differences:", *simulation.failures)), file=sys.stderr)
    return 1 if simulation.failures else 0


def summarize(record: Mapping[str, Any], *, failed: bool) -> str:
    """A few lines for a person."""
    reference = record["onnxruntime"]
    count = record["inputs"]
    lines = [f"{counted(count, 'input')}, engine {record['engine']}"]
    if record["cycles"]:
        measured = sorted(set(record["cycles"]))
        lines.append(
            f"cycles: {', '.join(f'{cycles:,}' for cycles in measured)} measured, "
            f"{record['predicted_cycles']:,} predicted"
        )
        lines.append(f"differences from golden: {record['mismatches_vs_golden']:,}")
    if record.get("layers"):
        elements, differing = (
            sum(layer[name] for layer in record["layers"]) for name in ("elements", "mismatches")
        )
        compared = f"{counted(len(record['layers']), 'tensor')} compared with golden's"
        lines.append(f"layers: {compared}, {differing:,} of {elements:,} elements differ")
    for output in reference["outputs"]:
        lines.append(_output_line(output, reference["version"], count))
    lines += _island_lines(reference["float_islands"])
    if "accuracy" in record:
        ours, theirs = (share(x["accuracy"], count) for x in (record, reference))
        lines.append(f"accuracy: {ours}, ONNX Runtime {theirs}")
    lines.append("FAILED" if failed else "passed")
    return "\n".join(lines)


def _island_lines(islands: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each tensor that ONNX Runtime computes in float; of many, one for all that are
    equal."""
    equal = [island for island in islands if island["differing"] == 0]
    rest = [island for island in islands if island["differing"] != 0]
    if len(islands) <= MOST_ISLANDS:
        equal, rest = [], list(islands)
    lines = []
    for island in rest:
        apart = "not compared by itself"
        if island["elements"] is not None:
            apart = (
                f"{island['differing']:,} of {island['elements']:,} elements apart given its inputs"
            )
        lines.append(f"computed in float by ONNX Runtime: '{shorten(island['tensor'])}', {apart}")
    if equal:
        elements = sum(island["elements"] for island in equal)
        lines.append(
            f"computed in float by ONNX Runtime: {counted(len(equal), 'tensor')} more, "
            f"0 of {elements:,} elements apart given their inputs"
        )
    return lines


def _output_line(output: Mapping[str, Any], version: str, inputs: int) -> str:
    steps = "" if output["max_steps"] is None else f", at most {output['max_steps']} steps"
    top1 = output["top1_agreement"]
    agreement = "" if top1 is None else f"; classes agree: {share(top1, inputs)}"
    return (
        f"output '{shorten(output['name'])}': {output['differing']:,} of {output['elements']:,} "
        f"elements differ from ONNX Runtime {version}{steps}{agreement}"
    )
