"""Graphs of every kind of layer through the array of lines' Verilog, against golden."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.lines.backend import compile_graph
from qcompile.hw.lines.config import LinesConfig
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.cosim.lines_runs import LinesRuns
from sim_tests.cosim.test_accelerator import (
    constants,
    dense,
    depthwise,
    fractions,
    maxima,
    moves,
    operands,
    phases,
    pointwise,
    pools,
    products,
)

pytestmark = pytest.mark.cosim

SIZES = [
    LinesConfig(lines=2, columns=4, lanes=2, acc_width=28, bank_words=4096, weight_rows=4096),
    LinesConfig(lines=3, columns=4, lanes=4, acc_width=28, bank_words=2048, weight_rows=4096),
    LinesConfig(
        lines=3, columns=8, lanes=2, acc_width=28, bank_words=2048, weight_rows=192, streams=True
    ),
]


def config_name(config: LinesConfig) -> str:
    """For a test's name."""
    return f"{config.lines} lines{', weights with the program' if config.streams else ''}"


def vectors(g: IntegerGraph) -> tuple[str, ...]:
    """One pixel: lines have weights of their own; sums of two tensors behind them."""
    x = g.input(37)
    a = g.conv(g.conv(x, 19), 3)
    b = g.conv(g.lookup(g.conv(x, 70)), 3)
    return (g.add(a, b),)


GRAPHS: list[Callable[[IntegerGraph], tuple[str, ...]]] = [
    *(dense, depthwise, pointwise, fractions, vectors, pools, maxima),
    *(moves, phases, operands, constants, products),
]


@pytest.mark.parametrize("config", SIZES, ids=config_name)
def test_every_layer_is_golden(
    config: LinesConfig, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    subjects = []
    for make in GRAPHS:
        g = IntegerGraph(rng)
        graph = g.graph(*make(g))
        subjects.append((compile_graph(graph, config), g.codes()))
    runs = LinesRuns(config, tmp_path)
    runs.check(subjects, seed=seed)
    whole = runs.check(subjects, seed=seed, layers=False)
    for (compiled, _), run in zip(subjects, whole, strict=True):
        predicted = [layer.cycles for layer in compiled.cycles()]
        assert (predicted, sum(predicted)) == ([*run.layer_cycles], run.cycles)
