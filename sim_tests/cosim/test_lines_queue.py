"""An array of lines whose inputs queue: outputs, and cycles from one start to the next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.lines.backend import compile_graph, with_queue
from qcompile.hw.lines.config import LinesConfig
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.cosim.queue_runs import QueueRuns

pytestmark = pytest.mark.cosim

CONFIG = LinesConfig(lines=1, lanes=4, acc_width=28, bank_words=1024, weight_rows=128)
HOST_CYCLES = 60
"""Of a run's start and end: looks at STATUS, two writes."""
PAUSE_CYCLES = 120
"""Of asking for outputs and lifting a pause, beside looks at what else moves."""


def test_periods_are_predicted_and_outputs_goldens(
    tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    """A run that is shorter than its transfers: it waits for reading, the next one for writing."""
    g = IntegerGraph(rng)
    a = g.conv(g.input(16, 16, 16), 16, (1, 1), strides=(2, 2))
    graph = g.graph(g.conv(a, 40, (1, 1)))
    compiled = with_queue(compile_graph(graph, CONFIG))
    assert compiled is not None
    runs = QueueRuns(compiled, tmp_path)
    (name,) = graph.inputs
    shape = (4, *graph.values[name].shape)
    samples = [{name: x} for x in rng.integers(-128, 128, shape).astype(np.int8)]
    queued = runs.check(samples, seed=seed, queued=True)
    apart = runs.check(samples, seed=seed, queued=False)
    beats = 4 * sum(runs.place(each).words for each in (name, *graph.outputs))
    assert set(apart.cycles) == {sum(runs.cycles)}
    for period in queued.periods[1:-1]:
        assert 0 <= period - runs.predicted() <= HOST_CYCLES + PAUSE_CYCLES
    for period in apart.periods[:-1]:
        assert 0 <= period - sum(runs.cycles) - beats <= 2 * HOST_CYCLES
    assert runs.predicted() < 0.7 * (sum(runs.cycles) + beats)
