"""Layers with packed weights between plain ones, through the accelerator's Verilog.

All that the machine without codebooks does must go on: stores and recalls, layers longer than the
weight FIFO, groups that serve many tiles, pauses, another start.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qcompile.hw.program import CODEBOOKS, PacketKind
from qcompile.runtime.protocol import State
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.cosim.accelerator_runs import Machine, Step, Subject, compile_graph
from sim_tests.cosim.test_accelerator import (
    CONFIG,
    check_runs,
    pools,
    products,
    residuals,
    tables,
    whole_run,
)

pytestmark = pytest.mark.cosim

CODEBOOK_CONFIG = replace(CONFIG, codebook=True)


def mixed(g: IntegerGraph) -> tuple[str, ...]:
    """Every kind of layer with packed and with plain weights, in turn."""
    x = g.conv(g.input(5, 11, 9), 24, (3, 3), pads=(1, 1, 1, 1), levels=16)
    x = g.conv(x, 0, (3, 3), pads=(1, 1, 1, 1))
    x = g.conv(x, 24, levels=3)
    x = g.conv(x, 0, (5, 3), pads=(2, 1, 2, 1), levels=7)
    y = g.conv(x, 24)
    x = g.conv(g.add(y, x), 0, (3, 3), strides=(2, 2), levels=16)
    return (g.conv(x, 40, (2, 2), nine_bits=True, levels=5), g.conv(x, 9))


def connected(g: IntegerGraph) -> tuple[str, ...]:
    """More weights than the FIFO holds, used once; a plain layer of the kind between."""
    x = g.conv(g.input(2600), 9, levels=16)
    return (g.conv(g.conv(x, 70), 12, levels=2),)


def shared_by_tiles(g: IntegerGraph) -> tuple[str, ...]:
    """1,530 words of a group serve several tiles: only packed ones fit."""
    return (g.conv(g.input(170, 5, 9), 8, (3, 3), pads=(1, 1, 1, 1), levels=16),)


def stored(g: IntegerGraph) -> tuple[str, ...]:
    """Many pixels, then many weights of both kinds, which the stream stores before."""
    x = g.conv(g.input(8, 16, 16), 16, (3, 3), pads=(1, 1, 1, 1), levels=16)
    x = g.pool(g.conv(x, 16, (3, 3), pads=(1, 1, 1, 1)), (8, 8), (8, 8))
    x = g.conv(x, 200, (2, 2), levels=16)
    return (g.conv(g.conv(x, 60), 300, levels=9),)


def many(g: IntegerGraph) -> tuple[str, ...]:
    """More codebooks than the hardware holds, and short layers, so the stream is far ahead."""
    x = g.input(12, 1, 4)
    for _ in range(CODEBOOKS + 8):
        x = g.conv(x, 12, levels=4)
    return (x,)


PACKED = (mixed, connected, shared_by_tiles, stored, many)
GRAPHS = (*PACKED, pools, residuals, tables, products)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """One compiled simulation for all tests of this file."""
    return Machine(CODEBOOK_CONFIG, tmp_path_factory.mktemp("machine"))


@pytest.fixture
def subjects(machine: Machine, rng: np.random.Generator) -> list[Subject]:
    """Every graph, compiled for the machine with codebooks."""
    made = []
    for build in GRAPHS:
        g = IntegerGraph(rng)
        graph = g.graph(*build(g), name=build.__name__)
        made.append(machine.add(compile_graph(graph, CODEBOOK_CONFIG, machine.board), g.codes()))
    return made


def test_packed_and_plain_layers_give_goldens_codes_in_the_predicted_cycles(
    machine: Machine, subjects: list[Subject], seed: int
) -> None:
    for subject, build in zip(subjects, PACKED, strict=False):
        plans = subject.compiled.plans
        assert any(plan.codebook is not None for plan in plans), build.__name__
    (recalling,) = (s for s in subjects if s.compiled.model.name == stored.__name__)
    kinds = {kind for kind, _, _ in recalling.compiled.program.packets()}
    assert {PacketKind.STORE, PacketKind.RECALL, PacketKind.CODEBOOK} <= kinds
    script = [step for subject in subjects for step in whole_run(subject)]
    runs = machine.run(script, seed=seed)
    again = machine.run(script, seed=seed + 1)
    assert runs == again, "memory's contents at power-up change results or cycles"
    # Recalls from the bank that the feeder reads: the cycle model has means of plain words.
    check_runs(subjects, runs, layers=0.06)


def test_a_pause_after_every_layer_shows_its_tensor(
    machine: Machine, subjects: list[Subject], seed: int
) -> None:
    script: list[Step] = []
    for subject in subjects:
        script += subject.layer_by_layer()
    results = iter(machine.run(script, seed=seed))
    for subject in subjects:
        for _ in subject.inputs():
            next(results)
        for index, layer in enumerate(subject.compiled.layers):
            run = next(results)
            assert run.state in (State.DONE, State.PAUSED) and run.layers_done == index + 1
            words = next(results)
            if not layer.inner:
                subject.check(layer.output, words)
