"""`qcompile check MODEL.onnx`: does it fit, and how fast is it; neither Verilog nor synthesis."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from qcompile.compiler import artifact, report
from qcompile.compiler.commands.compile import options_of
from qcompile.compiler.console import Progress
from qcompile.compiler.errors import (
    CapacityError,
    ModelError,
    QcompileError,
    UnsupportedError,
    UsageError,
)
from qcompile.compiler.flow import Flow, Options
from qcompile.compiler.flows import flows_of
from qcompile.compiler.ir import Model
from qcompile.compiler.layer_table import row_lines
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.report_text import plain, table
from qcompile.compiler.targets import choose_board, default_boards

FITS, TOO_LARGE, REFUSED = "fits", "does not fit", "refused"
FIGURES = (
    *("cycles", "utilization", "memory", "clock_mhz", "latency_ms", "inferences_per_second"),
    *("inferences_per_second_with_link", "resources"),
)
"""Fields that are those of report.json."""


def run(arguments: argparse.Namespace) -> int:
    """Print layers and verdict; 0 where the model fits the target, without one any device."""
    asked = {
        "family": arguments.target,
        "device": arguments.device,
        "board": arguments.board,
    }
    options = options_of(arguments)
    flows = flows_of([choose_board(**asked)] if any(asked.values()) else default_boards())
    if any(asked.values()):
        flows[0].require(options)
    else:
        flows = [flow for flow in flows if _does(flow, options)]
    try:
        with Progress() as progress:
            progress.step("read the model")
            shapes = dict(arguments.shape)
            model = load_model(
                arguments.model, shapes=shapes, requant=options.requant, softmax=options.softmax
            )
            progress.step("plan layers and program")
            found = [_check(model, options, flow) for flow in flows]
    except (ModelError, UnsupportedError) as error:
        if not arguments.json:
            raise
        record = _record(
            arguments.model.stem, None, options.requant, problems=_texts(error), targets=[]
        )
        print(artifact.to_json(record), end="")
        return 1
    if arguments.json:
        record = _record(model.name, model.sha256, options.requant, problems=[], targets=found)
        print(artifact.to_json(record), end="")
    else:
        print("\n\n".join([*(_text(target) for target in found), *_summary(found)]))
    return int(all(target["verdict"] != FITS for target in found))


def _does(flow: Flow, options: Options) -> bool:
    """Whether a machine has the options at all."""
    try:
        flow.require(options)
    except UsageError:
        return False
    return True


def _record(name: str, sha256: str | None, requant: str, **rest: Any) -> dict[str, Any]:
    """What --json prints; see docs/architecture.md section 8."""
    return {"model": {"name": name, "sha256": sha256}, "requant": requant, **rest}


def _check(model: Model, options: Options, flow: Flow) -> dict[str, Any]:
    """What a target makes of a model: an element of the record's `targets`."""
    board = flow.board
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
        found = flow.check(model, options)
    except (CapacityError, UnsupportedError) as error:
        verdict = TOO_LARGE if isinstance(error, CapacityError) else REFUSED
        layers = flow.rows(model, options)
        return target | {"verdict": verdict, "problems": _texts(error), "layers": layers}
    record = report.to_record(found.figures)
    chosen = {name: record[name] for name in (*FIGURES, "machine") if name in record}
    return target | chosen | {"layers": found.rows, "flash": found.flash}


def _texts(error: QcompileError) -> list[str]:
    return [problem.render() for problem in error.problems or (error,)]


def _summary(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table of the targets, where there is more than one."""
    if len(found) == 1:
        return []
    rows = []
    for target in found:
        figures = ("-",) * 3
        if target["verdict"] == FITS:
            figures = (
                f"{target['cycles']:,}",
                f"{target['latency_ms']:.2f}",
                f"{target['inferences_per_second']:,.1f}",
            )
        rows.append((target["device"], target["board"], target["verdict"], *figures))
    head = ("device", "board", "verdict", "cycles", "ms", "inferences a second")
    return ["\n".join(table(head, rows, left=3))]


def _text(target: Mapping[str, Any]) -> str:
    """A target's table, figures and verdict; problems in the words of `qcompile compile`."""
    lines = [*row_lines(target["layers"]), ""] if target["layers"] else []
    if target["verdict"] == FITS:
        lines += [*_figure_lines(target), ""]
    verdict = f"{target['family']} {target['device']} on {target['board']}: {target['verdict']}"
    return "\n".join([*lines, verdict, *target["problems"]])


def _figure_lines(target: Mapping[str, Any]) -> list[str]:
    memory, flash = target["memory"], target["flash"]
    rate, linked = (target[name] for name in FIGURES[5:7])
    behind = f", {linked:,.1f} with the host link" if linked is not None else ""
    lines = [
        f"cycles      {target['cycles']:,} predicted, {target['utilization']:.1%} of the array",
        f"clock       {target['clock_mhz']:.2f} MHz, not placed and routed",
        f"latency     {target['latency_ms']:.2f} ms",
        f"inferences  {rate:,.1f} a second{behind}",
    ]
    lines += [f"{name:11} {plain(value)}" for name, value in target.get("machine", {}).items()]
    if target["resources"]:
        used = ", ".join(
            f"{cell['used']:,} {name.upper()} ({cell['used'] / cell['total']:.1%})"
            for name, cell in target["resources"].items()
        )
        lines.append(f"takes       {used}, estimated")
    if "bank_0_bytes" in memory:
        used = f"{memory['bank_0_bytes']:,} and {memory['bank_1_bytes']:,} bytes"
        lines.append(f"memory      {used} of two banks of {memory['bank_size_bytes']:,}")
    if flash is not None:
        image = f"{flash['image_bytes']:,} of {flash['available_bytes']:,}"
        lines.append(
            f"flash       {flash['weight_bytes']:,} bytes of weights; {image} with the program"
        )
    return lines
