"""The hardware tables of docs/quantization.md: `python -m sim_tests.schemes_rtl`.

Every network in every form is quantized, compiled for iCEBreaker and run in Verilator on the first
three inputs: cycles, and elements in which golden's layers and ONNX Runtime's outputs differ.
With `--place` instead, the networks of scheme shift are placed and routed with either
requantization, which takes about two minutes each.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qcompile.compiler.cli import main as qcompile
from qcompile.compiler.quantize.quantizer import save
from sim_tests.compiler.quantized_models import CALIBRATION, network_of, quantized
from sim_tests.schemes_table import NETWORKS, SHARED

INPUTS = 3


class Form(NamedTuple):
    """Words of the table, options of `quantize`, the requantization that it is made for, and the
    networks that it is shown with."""

    words: str
    options: dict[str, Any]
    requant: str
    networks: tuple[str, ...] = tuple(NETWORKS)


def log_form(levels: int, step: int, networks: tuple[str, ...]) -> Form:
    """Logarithmic activations; the input of keyword spotting has signs."""
    words = f"--activations log:{levels} --log-step {step} --part-signs"
    options = {"activations": f"log:{levels}", "log_step": step, "part_signs": True}
    return Form(words, options, "exact", networks)


SHIFT = Form("--scheme shift", {"scheme": "shift"}, "shift")
FORMS = (
    SHIFT,
    Form("--scheme f8net --equalize weights", {"scheme": "f8net", "equalize": "weights"}, "shift"),
    Form("--weights codebook:16", {"weights": "codebook:16"}, "exact"),
    log_form(8, 16, tuple(NETWORKS)),
    log_form(16, 8, tuple(NETWORKS)[1:]),
)


def build(folder: Path, network: str, form: Form, requant: str, *more: str) -> dict[str, Any]:
    """Quantize and compile into `folder`/build; what the report says."""
    path, inputs, _ = network_of(network, SHARED)
    model = folder / "model.onnx"
    save(quantized(path, inputs[:CALIBRATION], **form.options).model, model)
    arguments = ("--target", "ice40", "--requant", requant, *more, "-o", str(folder / "build"))
    _quietly("compile", str(model), *arguments)
    report: dict[str, Any] = json.loads((folder / "build/report.json").read_text())
    return report


def simulate(folder: Path, network: str) -> dict[str, Any]:
    """Run `folder`/build in Verilator; what sim.json says."""
    np.savez(folder / "x.npz", x=network_of(network, SHARED)[1][:INPUTS])
    _quietly("sim", str(folder / "build"), "--inputs", str(folder / "x.npz"), "--layers")
    record: dict[str, Any] = json.loads((folder / "build/sim.json").read_text())
    return record


def rtl_rows(only: str) -> Iterator[str]:
    """The table of all forms whose words have `only` in them."""
    yield "| options | network | predicted | measured | golden | ONNX Runtime |"
    yield "|---|---|---|---|---|---|"
    for form in (form for form in FORMS if only in form.words):
        for network in form.networks:
            with tempfile.TemporaryDirectory() as name:
                report = build(Path(name), network, form, form.requant, "--no-bitstream")
                record = simulate(Path(name), network)
            layers, outputs = record["layers"], record["onnxruntime"]["outputs"]
            golden = f"{_sum(layers, 'mismatches')} of {_sum(layers, 'elements'):,}"
            reference = f"{_sum(outputs, 'differing')} of {_sum(outputs, 'elements')}"
            yield (
                f"| `{form.words}` | {network} | {report['cycles']:,} | "
                f"{max(record['cycles']):,} | {golden} | {reference} |"
            )


def placed_rows() -> Iterator[str]:
    """The table of both requantizations, of networks with whole designs of their own."""
    yield "| network | requant | LC | EBR | MHz | predicted | measured |"
    yield "|---|---|---|---|---|---|---|"
    for network in ("digits", "keywords"):
        for requant in ("exact", "shift"):
            with tempfile.TemporaryDirectory() as name:
                report = build(Path(name), network, SHIFT, requant)
                record = simulate(Path(name), network)
            cells = report["resources"]
            yield (
                f"| {network} | {requant} | {cells['lut']['used']:,} | {cells['bram']['used']} | "
                f"{report['fmax_mhz']:.2f} | {report['cycles']:,} | {max(record['cycles']):,} |"
            )


def _sum(records: list[dict[str, Any]], key: str) -> int:
    return sum(record[key] for record in records)


def _quietly(*arguments: str) -> None:
    """A qcompile command; what it says is shown where it fails."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = qcompile(list(arguments))
    if code:
        raise SystemExit(f"qcompile {' '.join(arguments)}\n{said.getvalue()}")


def main() -> None:
    """Print a table in Markdown, a row as it is done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--place", action="store_true", help="place and route both requantizations")
    parser.add_argument("--only", default="", metavar="WORD", help="forms with this option alone")
    arguments = parser.parse_args()
    rows = placed_rows() if arguments.place else rtl_rows(arguments.only)
    for row in rows:
        print(row, flush=True)


if __name__ == "__main__":
    main()
