"""The figures that this project promises, measured: `make bench`.

    python examples/bench.py             # minutes
    python examples/bench.py --full      # all 360 digits and 50 clips in Verilator as well

The networks are digits, which ships, and the MLPerf Tiny keyword spotter (KWS), which does not: its
model and 500 clips lie in a folder `shared` beside the project, and without it only digits is
measured. Tools are warm before the clock starts; hardware and simulators are made anew. Exit code 1
when a figure misses its limit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from qcompile.compiler.toolchain import warm_tools

PROJECT = Path(__file__).resolve().parent.parent
SHARED = PROJECT.parent / "shared"
QCOMPILE = Path(sys.executable).parent / "qcompile"

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A network, its inputs, and how many of them Verilator simulates (at first, with --full)."""

    name: str
    model: Path
    inputs: Path
    simulated: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured figure.

    Attributes
    ----------
    value : float
        As measured; NaN never.
    unit : str
    limit, aim : float or None
        What it must and what it should reach; None where nothing is promised.
    more_is_better : bool
        Which side of the limit is the good one.
    """

    what: str
    value: float
    unit: str = ""
    limit: float | None = None
    aim: float | None = None
    more_is_better: bool = False

    def reaches(self, bound: float) -> bool:
        """Whether the value is on the good side."""
        return self.value >= bound if self.more_is_better else self.value <= bound

    @property
    def verdict(self) -> str:
        """`aim`, `ok`, `MISSED`, or nothing where nothing is promised."""
        if self.limit is None:
            return ""
        if not self.reaches(self.limit):
            return "MISSED"
        return "aim" if self.aim is not None and self.reaches(self.aim) else "ok"


class Bench:
    """Runs qcompile in a folder of its own, so that every build starts from nothing.

    So does its cache, in which only what the tools keep for themselves is there already.
    """

    def __init__(self, console: Console, folder: Path) -> None:
        self._console = console
        self._folder = folder
        users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        cache = folder / "cache"
        cache.mkdir()
        for entry in users.iterdir():
            if entry.name != "qcompile":
                (cache / entry.name).symlink_to(entry)
        self._environment = {**os.environ, "XDG_CACHE_HOME": str(cache.resolve())}

    def build(self, subject: Subject) -> Path:
        """The build directory of a network."""
        return self._folder / subject.name

    def seconds(self, *arguments: str | Path) -> float:
        """Run one command of qcompile; how long it took."""
        words = [str(argument) for argument in arguments]
        self._console.print(f"$ qcompile {' '.join(words)}", highlight=False, soft_wrap=True)
        started = time.monotonic()
        subprocess.run(
            [QCOMPILE, *words], check=True, stdout=subprocess.DEVNULL, env=self._environment
        )
        return time.monotonic() - started

    def compile(self, subject: Subject, *options: str) -> tuple[float, Record]:
        """Seconds and report.json of a compilation."""
        build = self.build(subject)
        seconds = self.seconds(subject.model, "--target", "ice40", "-o", build, *options)
        return seconds, json.loads((build / "report.json").read_text())

    def simulate(self, subject: Subject, *options: str) -> tuple[float, Record]:
        """Seconds and sim.json of a simulation, every layer compared."""
        record = self._folder / f"{subject.name}.json"
        seconds = self.seconds(
            *("sim", self.build(subject), "--inputs", subject.inputs, "--layers", "-o", record),
            *options,
        )
        return seconds, json.loads(record.read_text())


def differing(records: list[Record], field: str) -> int:
    """Sum of a field over layers or outputs."""
    return sum(record[field] for record in records)


def figures(bench: Bench, subject: Subject, full: bool) -> Iterator[Figure]:
    """All figures of a network. Limits of time and cycles are those promised for KWS."""
    promised = subject.name == "kws"

    def bound(value: float) -> float | None:
        return value if promised else None

    plain_seconds, _ = bench.compile(subject, "--no-bitstream")
    yield Figure(
        what="compile, no bitstream", value=plain_seconds, unit="s", limit=bound(10), aim=3
    )
    seconds, report = bench.compile(subject)
    added = max(0.0, seconds - plain_seconds)
    yield Figure(what="bitstream added", value=added, unit="s", limit=bound(240), aim=120)
    yield Figure(
        what="clock reached",
        value=report["fmax_mhz"],
        unit="MHz",
        limit=24,
        aim=30,
        more_is_better=True,
    )
    logic = report["resources"]["lut"]
    yield Figure(what="logic cells", value=100 * logic["used"] / logic["total"], unit="%")
    rate = report["inferences_per_second"]
    yield Figure(what="inferences a second, core", value=rate)

    seconds, golden = bench.simulate(subject, "--engine", "golden")
    reference = golden["onnxruntime"]
    count = golden["inputs"]
    yield Figure(what=f"golden, {count} inputs", value=seconds, unit="s")
    yield Figure(what="accuracy", value=100 * golden["accuracy"], unit="%")
    for what, records, field in (
        ("layers", reference["layers"], "mismatches"),
        ("outputs", reference["outputs"], "differing"),
    ):
        value = differing(records, field)
        yield Figure(what=f"golden against ONNX Runtime, {what}", value=value, limit=0)

    seconds, _ = bench.simulate(subject, "--limit", "1")
    yield Figure(what="one input simulated", value=seconds, unit="s", limit=bound(60), aim=15)
    limit = subject.simulated[full]
    _, sim = bench.simulate(subject, "--limit", str(limit))
    yield Figure(
        what=f"Verilog against golden, {limit} inputs", value=sim["mismatches_vs_golden"], limit=0
    )
    cycles = max(sim["cycles"])
    yield Figure(what="cycles", value=cycles, limit=bound(240_000), aim=200_000)
    macs = report["model"]["macs"] / report["array"]["macs_per_cycle"]
    yield Figure(what="MAC utilization", value=100 * macs / cycles, unit="%")
    error = 100 * abs(sim["predicted_cycles"] - cycles) / cycles
    yield Figure(what="cycles predicted wrong by", value=error, unit="%", limit=2, aim=0)


def number(value: float | None, unit: str) -> str:
    """A figure for the table."""
    if value is None:
        return ""
    return f"{value:,.0f}{unit}" if value == int(value) else f"{value:,.2f}{unit}"


def table(name: str, rows: list[Figure]) -> Table:
    """The measured figures beside what they must and should be."""
    result = Table(
        "what",
        *("measured", "must", "aim", ""),
        title=name,
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for row in rows:
        unit = f" {row.unit}" if row.unit else ""
        aim = row.aim if row.limit is not None else None
        result.add_row(
            row.what,
            *(number(value, unit) for value in (row.value, row.limit, aim)),
            row.verdict,
        )
    return result


def subjects() -> Iterator[Subject]:
    """The networks whose files are there."""
    digits = PROJECT / "examples" / "digits"
    yield Subject(
        name="digits",
        model=digits / "digits_int8.onnx",
        inputs=digits / "digits_test.npz",
        simulated=(3, 360),
    )
    if SHARED.is_dir():
        yield Subject(
            name="kws",
            model=SHARED / "models" / "mlpt_kws_dscnn.onnx",
            inputs=SHARED / "data" / "kws01.npz",
            simulated=(3, 50),
        )


def main() -> None:
    """Measure every network and print a table for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="simulate every promised input")
    full = parser.parse_args().full
    console = Console(stderr=True)
    warm_tools(console.print)
    measured: dict[str, list[Figure]] = {}
    os.chdir(PROJECT)
    Path("build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir="build", prefix="bench-") as folder:
        bench = Bench(console, Path(folder))
        for subject in subjects():
            measured[subject.name] = list(figures(bench, subject, full))
    for name, rows in measured.items():
        Console().print(table(name, rows))
    if "kws" not in measured:
        console.print(f"KWS was not measured: {SHARED} is not there")
    sys.exit(any(row.verdict == "MISSED" for rows in measured.values() for row in rows))


if __name__ == "__main__":
    main()
