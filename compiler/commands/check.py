"""`qcompile check MODEL.onnx`: does it fit, and how fast is it; neither Verilog nor synthesis."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from qcompile.compiler import artifact, backend, report
from qcompile.compiler.commands.compile import figures
from qcompile.compiler.console import Progress
from qcompile.compiler.errors import CapacityError, ModelError, QcompileError, UnsupportedError
from qcompile.compiler.ir import Model
from qcompile.compiler.layer_table import layer_rows, row_lines
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.targets import choose_board, default_boards
from qcompile.hw.boards import Board
from qcompile.hw.layouts import IMAGE_OFFSET

FITS, TOO_LARGE, REFUSED = "fits", "does not fit", "refused"
FIGURES = (
    *("cycles", "utilization", "memory", "clock_mhz", "latency_ms", "inferences_per_second"),
    "inferences_per_second_with_link",
)
"""Fields that are those of report.json."""


def run(arguments: argparse.Namespace) -> int:
    """Print layers and verdict; 0 where the model fits the target, without one any device."""
    asked = {
        "family": arguments.target,
        "device": arguments.device,
        "board": arguments.board,
    }
    boards = (choose_board(**asked),) if any(asked.values()) else default_boards()
    requant: backend.Mode = arguments.requant or "exact"
    try:
        with Progress() as progress:
            progress.step("read the model")
            shapes = dict(arguments.shape)
            model = load_model(arguments.model, shapes=shapes, requant=requant)
            progress.step("plan layers and program")
            found = [_check(model, requant, board) for board in boards]
    except (ModelError, UnsupportedError) as error:
        if not arguments.json:
            raise
        record = _record(arguments.model.stem, None, requant, problems=_texts(error), targets=[])
        print(artifact.to_json(record), end="")
        return 1
    if arguments.json:
        record = _record(model.name, model.sha256, requant, problems=[], targets=found)
        print(artifact.to_json(record), end="")
    else:
        print("\n\n".join(_text(target) for target in found))
    return int(all(target["verdict"] != FITS for target in found))


def _record(name: str, sha256: str | None, requant: str, **rest: Any) -> dict[str, Any]:
    """What --json prints; see docs/architecture.md section 8."""
    return {"model": {"name": name, "sha256": sha256}, "requant": requant, **rest}


def _check(model: Model, requant: backend.Mode, board: Board) -> dict[str, Any]:
    """What a target makes of a model: an element of the record's `targets`."""
    target: dict[str, Any] = {
        "family": board.device.family,
        "device": board.device.part,
        "board": board.name,
        "verdict": FITS,
        "problems": [],
        "layers": [],
        **dict.fromkeys(FIGURES),
        "flash": None,
    }
    try:
        compiled = backend.compile_model(model, board=board, requant=requant)
        backend.check_flash(compiled, board)
    except (CapacityError, UnsupportedError) as error:
        verdict = TOO_LARGE if isinstance(error, CapacityError) else REFUSED
        layers = _layers_alone(model, requant)
        return target | {"verdict": verdict, "problems": _texts(error), "layers": layers}
    record = report.to_record(figures(compiled, board, None))
    rows = layer_rows(compiled.model, compiled.layers, compiled)
    flash = {
        "weight_bytes": sum(row["weight_bytes"] or 0 for row in rows),
        "image_bytes": len(backend.flash_image(compiled)),
        "available_bytes": board.flash_part.size_bytes - IMAGE_OFFSET,
    }
    return target | {name: record[name] for name in FIGURES} | {"layers": rows, "flash": flash}


def _layers_alone(model: Model, requant: backend.Mode) -> list[dict[str, Any]]:
    """The layers of a model that does not fit; none where an operator has no layer form."""
    prepared = backend.for_accelerator(model)
    try:
        return layer_rows(prepared, lower(prepared.graph, requant))
    except (CapacityError, UnsupportedError):
        return []


def _texts(error: QcompileError) -> list[str]:
    return [problem.render() for problem in error.problems or (error,)]


def _text(target: Mapping[str, Any]) -> str:
    """A target's table, figures and verdict; problems in the words of `qcompile compile`."""
    lines = [*row_lines(target["layers"]), ""] if target["layers"] else []
    if target["verdict"] == FITS:
        lines += [*_figure_lines(target), ""]
    verdict = f"{target['family']} {target['device']} on {target['board']}: {target['verdict']}"
    return "\n".join([*lines, verdict, *target["problems"]])


def _figure_lines(target: Mapping[str, Any]) -> list[str]:
    memory, flash = target["memory"], target["flash"]
    rate, linked = (target[name] for name in FIGURES[-2:])
    used = f"{memory['bank_0_bytes']:,} and {memory['bank_1_bytes']:,} bytes"
    image = f"{flash['image_bytes']:,} of {flash['available_bytes']:,}"
    return [
        f"cycles      {target['cycles']:,} predicted, {target['utilization']:.1%} of the array",
        f"clock       {target['clock_mhz']:.2f} MHz, not placed and routed",
        f"latency     {target['latency_ms']:.2f} ms",
        f"inferences  {rate:,.1f} a second, {linked:,.1f} with the host link",
        f"memory      {used} of two banks of {memory['bank_size_bytes']:,}",
        f"flash       {flash['weight_bytes']:,} bytes of weights; {image} with the program",
    ]
