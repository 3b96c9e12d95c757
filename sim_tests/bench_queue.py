"""Throughput of an array of lines whose inputs queue, behind AXI in Verilator.

    python -m sim_tests.bench_queue mlpt_kws_dscnn --lines 2
    python -m sim_tests.bench_queue mlpt_ad_toycar --lines 8 --inputs 5
    python -m sim_tests.bench_queue mlpt_ad_toycar --device xc7z020  # its array; no simulation

Inputs are random codes; every output is golden's. Tensors go through the streams, a beat a cycle;
a processor's registers start runs. Periods are cycles from one start to the next.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qcompile.compiler.lines.backend import with_queue
from qcompile.compiler.lines.sizing import size_for
from qcompile.compiler.lines.throughput import throughput
from qcompile.compiler.pipeline import load_model
from qcompile.hw.lines.devices import DEVICES
from sim_tests.bench_lines import compiled, configuration
from sim_tests.cosim.queue_runs import QueueRuns
from sim_tests.zoo import SEED, SHARED


def predict(network: str, device: str) -> None:
    """What the report would say of the array that the compiler chooses."""
    chosen = size_for(load_model(SHARED / "models" / f"{network}.onnx"), DEVICES[device])
    subject = with_queue(chosen.running) or chosen.running
    found, cycles = throughput(subject, "axi"), sum(layer.cycles for layer in subject.cycles())
    size = f"{chosen.config.lines} lines, {chosen.config.lanes} lanes"
    print(f"{network}, {device}: {size}, {cycles} a run, {found.cycles} from start to start")
    print(f"  {found.note}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; AssertionError at a difference from golden."""
    parser = argparse.ArgumentParser(
        prog="python -m sim_tests.bench_queue", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("network")
    parser.add_argument("--lines", type=int, default=8)
    parser.add_argument("--lanes", type=int, default=2)
    parser.add_argument("--inputs", type=int, default=4)
    parser.add_argument("--device", choices=DEVICES, help="the array chosen for it, predicted")
    given = parser.parse_args(arguments)
    if given.device is not None:
        predict(given.network, given.device)
        return 0
    subject = with_queue(compiled(given.network, configuration(given.lines, given.lanes)))
    if subject is None:
        print(f"{given.network}: inputs do not queue in these memories")
        return 1
    rng, graph = np.random.default_rng(SEED), subject.graph
    samples = [
        {
            name: rng.integers(-128, 128, graph.values[name].shape).astype(np.int8)
            for name in graph.inputs
        }
        for _ in range(given.inputs)
    ]
    with tempfile.TemporaryDirectory() as folder:
        runs = QueueRuns(subject, Path(folder))
        print(f"{given.network}: predicted {sum(runs.cycles)} a run, {runs.predicted()} queued")
        for queued in (True, False):
            found = runs.check(samples, seed=SEED, queued=queued)
            # The first start precedes the second input, the last run nothing.
            periods = found.periods[1:-1]
            way = "queued" if queued else "apart"
            print(f"{way}: runs of {max(found.cycles)} cycles, periods {[*periods]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
