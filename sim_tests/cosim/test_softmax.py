"""Softmax on the chip in the real Verilog of both machines, against golden's own definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler import ir
from qcompile.compiler.golden.interpreter import run_graph
from qcompile.compiler.lines.backend import compile_graph as compile_for_lines
from qcompile.compiler.passes.softmax_layers import softmax_layers
from sim_tests.compiler.test_chip_softmax import codes_of, softmax_graph
from sim_tests.cosim.accelerator_runs import Machine, compile_graph
from sim_tests.cosim.lines_runs import LinesRuns
from sim_tests.cosim.test_accelerator import CONFIG, check_runs, whole_run
from sim_tests.cosim.test_lines import SIZES, check_whole_runs

pytestmark = pytest.mark.cosim

SHAPES = [(12, 1, 1), (5, 3, 4), (33, 1, 1)]
Case = tuple[ir.Graph, ir.Int8Array, ir.Int8Array]


def cases(word: int, rng: np.random.Generator) -> list[Case]:
    """Graphs of layers, codes for them, and the codes of golden's softmax."""
    found = []
    for shape in SHAPES:
        graph = softmax_graph(shape)
        codes = codes_of(rng, shape, 1)
        for x in (codes[:1], codes[1:]):
            found.append((softmax_layers(graph, word), x, golden(graph, x)))
    return found


def golden(graph: ir.Graph, x: ir.Int8Array) -> ir.Int8Array:
    """Of the graph as it is."""
    return run_graph(graph, {"x": x})["y"]


def test_small_machine_computes_softmax_in_the_predicted_cycles(
    tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    machine = Machine(CONFIG, tmp_path)
    subjects = []
    for graph, x, wanted in cases(4, rng):
        subject = machine.add(compile_graph(graph, CONFIG, machine.board), {"x": x})
        subject.expected["y"] = wanted
        subjects.append(subject)
    script = [step for subject in subjects for step in whole_run(subject)]
    check_runs(subjects, machine.run(script, seed=seed))


def test_array_of_lines_computes_softmax_in_the_predicted_cycles(
    tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    config = SIZES[-1]
    subjects = []
    for graph, x, wanted in cases(config.columns, rng):
        subjects.append((compile_for_lines(graph, config), {"x": x}))
        np.testing.assert_array_equal(golden(graph, x), wanted)
    check_whole_runs(LinesRuns(config, tmp_path), subjects, seed)
