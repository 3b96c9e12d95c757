"""`qcompile MODEL.onnx --target ice40|xc7`: from the file to a build directory and a report."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qcompile.compiler import artifact, report, report_text
from qcompile.compiler.console import Progress
from qcompile.compiler.errors import InputError
from qcompile.compiler.flow import Built, Options, values_manifest
from qcompile.compiler.flows import flow_of
from qcompile.compiler.frontend.loader import load_model_file
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.shift_cost import shift_cost
from qcompile.compiler.targets import choose_board

MODEL = "model.onnx"
"""Name of the copy; external data keeps its own names."""


def run(arguments: argparse.Namespace) -> int:
    """Compile, write the build directory, print the report."""
    board = choose_board(family=arguments.target, device=arguments.device, board=arguments.board)
    flow, options = flow_of(board), options_of(arguments)
    flow.require(options)
    with Progress() as progress:
        progress.step("read the model")
        model = load_model(
            arguments.model,
            shapes=dict(arguments.shape),
            requant=options.requant,
            softmax=options.softmax,
            dump_after=arguments.dump_after,
        )
        folder = arguments.output or Path("build") / model.name
        artifact.check_destination(folder, model.sha256, force=arguments.force)
        copies = _model_files(arguments.model)
        if options.requant == "shift":
            exact = load_model(
                arguments.model, shapes=dict(arguments.shape), softmax=options.softmax
            )
            progress.note(shift_cost(exact.graph, model.graph).text())
        built = flow.build(model, options, progress.step)
        progress.step("write the build directory")
        record = _write(folder, built, copies, options)
        if built.place is not None:
            built = built.place(folder, progress.step)
            record = _write(folder, built, copies, options)
    print(artifact.to_json(record) if arguments.json else report_text.to_text(record), end="")
    if not arguments.json:
        print("\n".join(("", *(note.format(folder=folder) for note in built.notes))), end="")
        print(f"\nwritten to {folder}")
    return 0


def _write(
    folder: Path, built: Built, copies: Mapping[str, bytes], options: Options
) -> dict[str, Any]:
    """The build directory; report.json's content."""
    record = report.to_record(built.figures)
    files = {**built.files, **copies}
    files |= {
        "report.json": artifact.to_json(record).encode(),
        "report.txt": report_text.to_text(record).encode(),
    }
    artifact.write_build(folder, files, _manifest(built, options))
    return record


def options_of(arguments: argparse.Namespace) -> Options:
    """What the command line asks of the machine."""
    clock = arguments.clock
    return Options(
        requant=arguments.requant or "exact",
        softmax=arguments.softmax or "host",
        bitstream=not getattr(arguments, "no_bitstream", True),
        rows=arguments.rows,
        columns=arguments.columns,
        clock_hz=None if clock is None else round(clock * 1e6),
        dsp=arguments.dsp,
        pe=arguments.pe,
        synth=getattr(arguments, "synth", False),
    )


def _model_files(path: Path) -> dict[str, bytes]:
    """The model and its external data, by their paths relative to the model."""
    external = load_model_file(path).external
    root = path.resolve().parent  # of the file itself, not of a link to it
    files = {MODEL: path.read_bytes()}
    for file in external:
        name = file.resolve().relative_to(root).as_posix()
        if name.partition("/")[0] in artifact.OWN_FILES:
            raise InputError(
                f"{path.name}: its external data lies in '{name}', which is a name of the build's",
                help="save the model again with another location for its data",
            )
        files[name] = file.read_bytes()
    return files


def _manifest(built: Built, options: Options) -> dict[str, Any]:
    """Everything that a host must know; see docs/architecture.md section 8."""
    model = built.model
    return {
        "qcompile": version("qcompile"),
        "model": {"name": model.name, "file": MODEL, "sha256": model.sha256},
        "softmax": options.softmax,
        **values_manifest(model),
        **built.manifest,
    }
