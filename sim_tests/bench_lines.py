"""Networks that others trained, on an array of lines in Verilator: right, and how many cycles?

    python -m sim_tests.bench_lines                       # four networks of MLPerf Tiny, 8 lines
    python -m sim_tests.bench_lines --lines 2 mlpt_ic_resnet8
    python -m sim_tests.bench_lines --device xc7a35t mlpt_ic_resnet8 mlpt_kws_dscnn  # its arrays
    python -m sim_tests.bench_lines --plans               # the plans' cycles alone, no simulation
    python -m sim_tests.bench_lines --layers              # every layer's tensor is compared too

Inputs are random codes over their whole range; golden says what must come out. The program and the
weights stand in the memories before the start, as the bitstream will hold them. Cycles count from
the start to the last output word. Compiling 8 lines takes minutes, and is done once. With a device
each network runs on the array that the compiler chooses for both.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from qcompile.compiler import ir
from qcompile.compiler.backend import for_accelerator
from qcompile.compiler.lines.backend import LinesCompiled, compile_graph
from qcompile.compiler.lines.machine import LinesMachine
from qcompile.compiler.lines.sizing import size_for
from qcompile.compiler.pipeline import load_model
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.devices import DEVICES
from sim_tests.cosim.lines_runs import LinesRuns
from sim_tests.zoo import SEED, SHARED

NETWORKS = ("mlpt_ic_resnet8", "mlpt_kws_dscnn", "mlpt_vww_mbv1_025", "mlpt_ad_toycar")
SET_WORDS = 8192
"""Words of each activation memory: 128 KB, for the input of the visual wake word network."""
WEIGHT_BYTES = 272 * 1024


@dataclass(frozen=True, slots=True)
class Row:
    """A network's figures; None where nothing ran."""

    network: str
    compiled: LinesCompiled
    planned: int
    measured: int | None

    def utilization(self, kind: str | None = None) -> float:
        """Products of all layers, or by the plans of one kind's, for each that could have been."""
        config = self.compiled.config
        pairs = zip(self.compiled.layers, self.compiled.plans, strict=True)
        chosen = [(x, plan) for x, plan in pairs if x.macs and kind in (None, x.kind)]
        cycles = sum(plan.cycles_estimate(config) for _, plan in chosen)
        if kind is None:
            cycles = self.measured or self.planned
        macs = sum(layer.macs for layer, _ in chosen)
        return macs / (cycles * config.macs_per_cycle) if cycles else 0.0


def configuration(lines: int, lanes: int) -> LinesConfig:
    """An array with room for every network of the table."""
    banks = 1 << (lines - 1).bit_length()
    return LinesConfig(
        lines=lines,
        lanes=lanes,
        acc_width=24,
        bank_words=SET_WORDS // banks,
        weight_rows=WEIGHT_BYTES // (16 * lines),
    )


def compiled(network: str, config: LinesConfig) -> LinesCompiled:
    """A network of the shared folder."""
    model = load_model(SHARED / "models" / f"{network}.onnx")
    return compile_graph(for_accelerator(model, LinesMachine(config)).graph, config)


def random_codes(graph: ir.Graph) -> dict[str, ir.Int8Array]:
    """One input."""
    rng = np.random.default_rng(SEED)
    shapes = {name: graph.values[name].shape for name in graph.inputs}
    return {name: rng.integers(-128, 128, s).astype(np.int8) for name, s in shapes.items()}


def measure(
    subjects: Sequence[LinesCompiled], config: LinesConfig, *, layers: bool
) -> list[int | None]:
    """Cycles of one run each on one array; AssertionError at a difference from golden."""
    for subject in subjects:
        assert max(layer.acc_bound for layer in subject.layers) < 1 << (config.acc_width - 1)
    jobs = [(subject, random_codes(subject.graph)) for subject in subjects]
    with tempfile.TemporaryDirectory() as folder:
        runs = LinesRuns(config, Path(folder))
        if layers:
            runs.check(jobs, seed=SEED)
            print(f"every layer of {len(jobs)} networks is golden's")
        return [run.cycles for run in runs.check(jobs, seed=SEED, layers=False)]


def array(config: LinesConfig) -> str:
    """Its size in words."""
    return f"{config.lines} lines, {config.macs_per_cycle} MACs a cycle, {config.lanes} lanes each"


def show(rows: Sequence[Row], title: str) -> None:
    """The table."""
    table = Table(title=title, box=box.SIMPLE)
    for heading in ("network", "MACs", "planned cycles", "measured", "utilisation", "depthwise"):
        left = heading == "network"
        table.add_column(heading, justify="left" if left else "right", no_wrap=left)
    for row in rows:
        table.add_row(
            row.network,
            f"{sum(layer.macs for layer in row.compiled.layers):,}",
            f"{row.planned:,}",
            "" if row.measured is None else f"{row.measured:,}",
            f"{row.utilization():.1%}",
            f"{row.utilization('depthwise'):.1%}",
        )
    Console().print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit code 1 at a difference from golden (an AssertionError names it)."""
    parser = argparse.ArgumentParser(
        prog="python -m sim_tests.bench_lines", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--lines", type=int, default=8)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--device", choices=DEVICES, help="size the array for it instead")
    parser.add_argument("--plans", action="store_true", help="no simulation")
    parser.add_argument("--layers", action="store_true", help="compare every layer")
    chosen = parser.parse_args(arguments)
    by_array: list[tuple[str, LinesConfig, list[tuple[str, LinesCompiled]]]] = []
    if chosen.device is None:
        config = configuration(chosen.lines, chosen.lanes)
        by_array = [(array(config), config, [(n, compiled(n, config)) for n in chosen.networks])]
    else:
        device = DEVICES[chosen.device]
        for name in chosen.networks:
            best = size_for(load_model(SHARED / "models" / f"{name}.onnx"), device)
            title = f"{device.name}: {array(best.config)}"
            by_array.append((title, best.config, [(name, best.compiled)]))
    for title, config, named in by_array:
        subjects = [subject for _, subject in named]
        measured: Sequence[int | None] = [None] * len(subjects)
        if not chosen.plans:
            measured = measure(subjects, config, layers=chosen.layers)
        rows = [
            Row(name, subject, LinesMachine(config).estimate(subject.layers) or 0, cycles)
            for (name, subject), cycles in zip(named, measured, strict=True)
        ]
        show(rows, title)
    return 0


if __name__ == "__main__":
    sys.exit(main())
