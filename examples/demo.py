"""From a quantized ONNX file to inference on a simulated board, in four commands and a table.

    python examples/demo.py                                   # the digits network
    python examples/demo.py --model M.onnx --inputs X.npz     # any other

Each command is printed before it runs and can be typed as it stands. The figures of the table are
those of the build's report.json and sim.json and of the accuracy run's own file.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from qcompile.runtime.classes import counted, share

PROJECT = Path(__file__).resolve().parent.parent
DIGITS = PROJECT / "examples" / "digits"
QCOMPILE = Path(sys.executable).parent / "qcompile"

Record = Mapping[str, Any]


def run(console: Console, title: str, *arguments: str | Path) -> None:
    """Run one command of qcompile in sight of the user; a failure ends the demonstration."""
    words = [str(argument) for argument in arguments]
    console.rule(f"[bold]{title}", align="left")
    console.print(f"$ {shlex.join(['qcompile', *words])}", highlight=False, soft_wrap=True)
    started = time.monotonic()
    code = subprocess.run([QCOMPILE, *words], check=False).returncode
    if code != 0:
        console.print(f"[red]qcompile ended with exit code {code}[/]: the demonstration stops here")
        sys.exit(code)
    console.print(f"[green]done[/] in {time.monotonic() - started:.1f} s\n", highlight=False)


def read(path: Path) -> Record:
    """One of qcompile's records."""
    record: Record = json.loads(path.read_text())
    return record


def accuracy_rows(sim: Record) -> list[tuple[str, str]]:
    """What the golden model reaches on every input, and where it leaves ONNX Runtime."""
    reference = sim["onnxruntime"]
    rows = []
    if "accuracy" in sim:
        count = sim["inputs"]
        ours, theirs = share(sim["accuracy"], count), share(reference["accuracy"], count)
        rows.append(("accuracy", f"{ours}, ONNX Runtime {theirs} ({counted(count, 'input')})"))
    for output in reference["outputs"]:
        rows.append(
            (
                "golden against ONNX Runtime",
                f"{output['differing']:,} of {output['elements']:,} output elements differ",
            )
        )
    return rows


def hardware_rows(report: Record, sim: Record) -> list[tuple[str, str]]:
    """What the Verilog measured and place and route reached."""
    array = report["array"]
    cycles = max(sim["cycles"])
    differing = sum(output["differing"] for output in sim["onnxruntime"]["outputs"])
    elements = sum(output["elements"] for output in sim["onnxruntime"]["outputs"])
    rate = report["inferences_per_second"]
    utilization = report["model"]["macs"] / (cycles * array["macs_per_cycle"])
    rows = [
        ("Verilog against golden", f"{sim['mismatches_vs_golden']:,} elements differ"),
        ("Verilog against ONNX Runtime", f"{differing:,} of {elements:,} output elements differ"),
        ("cycles", f"{cycles:,} measured, {sim['predicted_cycles']:,} predicted"),
        ("MAC utilization", f"{utilization:.1%} of {array['macs_per_cycle']} MACs a cycle"),
        ("clock", f"{report['clock_mhz']:.2f} MHz{reached(report)}"),
        (
            "inferences a second",
            f"{rate:,.1f} ({report['inferences_per_second_with_link']:,.1f} with the host link)",
        ),
    ]
    for name, cells in (report["resources"] or {}).items():
        share = cells["used"] / cells["total"]
        rows.append((f"{name} used", f"{cells['used']:,} of {cells['total']:,} ({share:.0%})"))
    return rows


def reached(report: Record) -> str:
    """What place and route found possible, where it ran."""
    fmax = report["fmax_mhz"]
    return "" if fmax is None else f", place and route reached {fmax:.2f} MHz"


def print_table(console: Console, title: str, rows: list[tuple[str, str]]) -> None:
    """The last thing that the user sees."""
    table = Table(title=title, box=box.SIMPLE_HEAD, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    for row in rows:
        table.add_row(*row)
    console.print(table)


def parse_arguments() -> argparse.Namespace:
    """The command line; everything has a default."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, default=DIGITS / "digits_int8.onnx")
    parser.add_argument("--inputs", type=Path, default=DIGITS / "digits_test.npz")
    parser.add_argument("--target", default="ice40")
    parser.add_argument("--simulated", type=int, default=3, help="inputs in Verilator")
    parser.add_argument("--classified", type=int, default=3, help="inputs on the simulated board")
    return parser.parse_args()


def main() -> None:
    """Compile, measure accuracy, simulate, run on the simulated board, and sum up."""
    arguments = parse_arguments()
    os.chdir(PROJECT)
    console = Console(stderr=True)
    started = time.monotonic()
    model, inputs = (
        Path(os.path.relpath(path, PROJECT)) for path in (arguments.model, arguments.inputs)
    )
    build = Path("build") / model.stem.removesuffix("_int8")
    accuracy = Path("build") / f"{build.name}-accuracy.json"

    run(
        console,
        "1. compile: Verilog, program, bitstream",
        *(model, "--target", arguments.target, "-o", build),
    )
    run(
        console,
        "2. accuracy: the golden model against ONNX Runtime on every input",
        *("sim", model, "--inputs", inputs, "--engine", "golden", "-o", accuracy),
    )
    run(
        console,
        "3. simulate: the Verilog against golden and ONNX Runtime, every layer",
        *("sim", build, "--inputs", inputs, "--limit", str(arguments.simulated), "--layers"),
    )
    run(
        console,
        "4. run: classify on the simulated board, through its UART and its flash",
        *("run", build, "--inputs", inputs, "--port", "sim"),
        *("--limit", str(arguments.classified)),
    )
    report, sim = read(build / "report.json"), read(build / "sim.json")
    target = report["target"]
    rows = [*accuracy_rows(read(accuracy)), *hardware_rows(report, sim)]
    rows.append(("time", f"{time.monotonic() - started:.0f} s for the four commands"))
    title = f"{report['model']['name']} on {target['device']} ({target['board']})"
    print_table(Console(), title, rows)


if __name__ == "__main__":
    main()
