"""Logarithmic networks on an array of shifts in Verilator: every layer equal to golden."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.pipeline import load_model
from qcompile.hw.config import AcceleratorConfig
from qcompile.runtime.host_ops import run_host_ops
from sim_tests.bench import measure
from sim_tests.compiler.log_networks import images, log_network
from sim_tests.cosim.accelerator_runs import Machine, compile_graph

pytestmark = pytest.mark.cosim

FULL = pytest.mark.full


@pytest.mark.parametrize(
    ("levels", "step", "residual"),
    [
        (8, 16, True),
        *(pytest.param(*form, False, marks=FULL) for form in ((16, 8), (8, 8), (16, 16))),
    ],
)
def test_verilog_of_shifts_equals_golden_in_every_layer(
    levels: int, step: int, residual: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    path = log_network(tmp_path, rng, levels, step, residual=residual)
    row = measure(path, "hx8k", tmp_path, 3)
    assert row.problem == ""
    assert row.passed
    assert row.wrong == 0
    assert row.layers == 7 + residual and row.elements > 0
    assert row.predicted == row.first


@pytest.mark.parametrize(
    ("levels", "step", "acc_width"), [(16, 8, 24), pytest.param(32, 8, 32, marks=FULL)]
)
def test_machines_of_any_size_equal_golden_layer_by_layer(
    levels: int, step: int, acc_width: int, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    """Without a device's limits: 32 levels take a byte of memory, and more block RAMs."""
    config = AcceleratorConfig(
        pe="log", levels=levels, step=step, acc_width=acc_width, vendor="plain"
    )
    machine = Machine(config, tmp_path)
    model = load_model(log_network(tmp_path, rng, levels, step))
    sent = run_host_ops(model.prologue, {"image": images(rng, 1)})
    codes = {name: sent[name] for name in model.graph.inputs}
    subject = machine.add(compile_graph(model.graph, config, machine.board), codes)
    steps = subject.layer_by_layer()
    results = machine.run(steps, seed=seed)
    loads = [result for step_, result in zip(steps, results, strict=True) if step_[0] == "load"]
    named = [layer for layer in subject.compiled.layers if layer.output in subject.expected]
    assert len(named) >= 7
    for layer, words in zip(subject.compiled.layers, loads, strict=True):
        if layer.output in subject.expected and not layer.inner:
            subject.check(layer.output, words)
