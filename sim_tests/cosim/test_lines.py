"""Graphs of every kind of layer through the array of lines' Verilog, against golden."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler import ir
from qcompile.compiler.lines.backend import LinesCompiled, compile_graph
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.flash_program import FlashTiming
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.compiler.test_bands import large_kernels, mobilenet_v2
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
from sim_tests.cosim.test_bands import inner_sum
from sim_tests.cosim.test_bands import maxima as cut_maxima

pytestmark = pytest.mark.cosim

FLASH = FlashTiming(clock_hz=100_000_000, divider=3, lines=2)
SIZES = [
    LinesConfig(lines=2, columns=4, lanes=2, acc_width=28, bank_words=4096, weight_rows=4096),
    LinesConfig(lines=3, columns=4, lanes=4, acc_width=28, bank_words=2048, weight_rows=4096),
    LinesConfig(
        lines=3, columns=8, lanes=2, acc_width=28, bank_words=2048, weight_rows=192, streams=True
    ),
]

Subject = tuple[LinesCompiled, dict[str, ir.Int8Array]]
BANDS: list[tuple[Callable[[IntegerGraph], str], int]] = [
    (large_kernels, 8704),
    (cut_maxima, 8704),
    (inner_sum, 4608),
    (lambda g: mobilenet_v2(g, 32), 8704),
]
"""Networks that do not fit sets of so many bytes."""
EIGHT_BANKS = LinesConfig(
    lines=5, columns=4, lanes=1, acc_width=28, bank_words=1024, weight_rows=4096
)


def config_name(config: LinesConfig) -> str:
    """For a test's name."""
    return f"{config.lines} lines{', weights with the program' if config.streams else ''}"


def vectors(g: IntegerGraph) -> tuple[str, ...]:
    """One pixel: lines have weights of their own; sums of two tensors behind them."""
    x = g.input(37)
    a = g.conv(g.conv(x, 19), 3)
    b = g.conv(g.lookup(g.conv(x, 70)), 3)
    return (g.add(a, b),)


def short_vectors(g: IntegerGraph) -> tuple[str, ...]:
    """One pass a tile, and few lines in the last: their constants come while the layer in front
    runs, so that nothing else holds the tile up."""
    return (g.conv(g.conv(g.conv(g.input(300), 3), 17), 6),)


def strides(g: IntegerGraph) -> tuple[str, ...]:
    """Lines two rows of pixels apart: with four banks their input lies turned."""
    x = g.conv(g.input(9, 20, 12), 9)
    return (g.conv(g.conv(x, 0, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1)), 5),)


GRAPHS: list[Callable[[IntegerGraph], tuple[str, ...]]] = [
    *(dense, depthwise, pointwise, fractions, vectors, short_vectors, pools, maxima, strides),
    *(moves, phases, operands, constants, products),
]


@pytest.mark.parametrize(
    ("config", "flash"),
    [*((config, None) for config in (*SIZES, EIGHT_BANKS)), (SIZES[-1], FLASH)],
    ids=[*map(config_name, (*SIZES, EIGHT_BANKS)), "3 lines, program in a flash"],
)
def test_every_layer_is_golden(
    config: LinesConfig,
    flash: FlashTiming | None,
    tmp_path: Path,
    rng: np.random.Generator,
    seed: int,
) -> None:
    subjects = []
    turned = 0
    for make in GRAPHS:
        g = IntegerGraph(rng)
        graph = g.graph(*make(g))
        subjects.append((compile_graph(graph, config, flash=flash), g.codes()))
        turned += sum(plan.read_turned for plan in subjects[-1][0].plans)
    assert bool(turned) == config.turns_words
    runs = LinesRuns(config, tmp_path, flash=flash)
    runs.check(subjects, seed=seed)
    check_whole_runs(runs, subjects, seed)


@pytest.mark.parametrize("config", SIZES[1:], ids=config_name)
def test_bands_of_rows_are_golden(
    config: LinesConfig, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    subjects = []
    for make, size in BANDS:
        g = IntegerGraph(rng)
        graph = g.graph(make(g))
        fewer = replace(config, bank_words=size // config.columns // config.banks)
        compiled = replace(compile_graph(graph, fewer), config=config)
        assert any(layer.inner for layer in compiled.layers)
        ends = [place.offset + place.words for place in compiled.places.values()]
        assert max(ends) <= fewer.set_words
        subjects.append((compiled, g.codes()))
    check_whole_runs(LinesRuns(config, tmp_path), subjects, seed)


def check_whole_runs(runs: LinesRuns, subjects: list[Subject], seed: int) -> None:
    """Outputs are golden's, and cycles what the model predicts, layer by layer."""
    for (compiled, _), run in zip(
        subjects, runs.check(subjects, seed=seed, layers=False), strict=True
    ):
        predicted = [layer.cycles for layer in compiled.cycles()]
        assert (predicted, sum(predicted)) == ([*run.layer_cycles], run.cycles)


def test_the_hosts_accesses_disturb_no_run_and_take_no_cycles(
    tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    config = SIZES[1]
    subjects = []
    for make in (dense, depthwise, vectors, operands):
        g = IntegerGraph(rng)
        graph = g.graph(*make(g))
        subjects.append((compile_graph(graph, config), g.codes()))
    runs = LinesRuns(config, tmp_path)
    runs.check(subjects, seed=seed, busy_host=True)
    whole = runs.check(subjects, seed=seed, layers=False, busy_host=True)
    for (compiled, _), run in zip(subjects, whole, strict=True):
        assert [layer.cycles for layer in compiled.cycles()] == [*run.layer_cycles]
