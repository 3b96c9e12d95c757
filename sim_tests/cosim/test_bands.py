"""Networks whose tensors do not fit a bank, in bands of rows: Verilog against golden, and cycles.

The smaller banks are the lower parts of the machine's: a program says addresses, not sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from qcompile.compiler.backend import Compiled
from qcompile.hw.config import AcceleratorConfig
from qcompile.runtime.protocol import CoreError, State
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.compiler.test_bands import large_kernels, mobilenet_v2
from sim_tests.cosim.accelerator_runs import Machine, Step, Subject, compile_graph
from sim_tests.cosim.test_accelerator import near, results_of, whole_run

pytestmark = pytest.mark.cosim

CONFIG = AcceleratorConfig(acc_width=28, vendor="plain")
Make = Callable[[IntegerGraph], str]


def maxima(g: IntegerGraph) -> str:
    """A pool whose layers are cut one by one, with a table behind."""
    x = g.conv(g.input(3, 25, 14), 24, (3, 3), pads=(1, 1, 1, 1))
    x = g.lookup(g.max_pool(x, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1)))
    return g.conv(x, 8, (3, 3), strides=(2, 2), pads=(1, 1, 0, 1))


def inner_sum(g: IntegerGraph) -> str:
    """Both operands of a sum are band tensors."""
    a = g.conv(g.input(4, 21, 11), 20)
    b = g.conv(a, 20, (3, 3), pads=(1, 1, 1, 1))
    b = g.conv(b, 20, (3, 1), pads=(1, 0, 1, 0))
    return g.conv(g.add(b, a), 12, (3, 3), strides=(2, 2), pads=(1, 1, 1, 1))


CASES: tuple[tuple[Make, int], ...] = (
    (large_kernels, 1024),
    (maxima, 1024),
    (inner_sum, 1024),
    (lambda g: mobilenet_v2(g, 32), 1024),
    (lambda g: mobilenet_v2(g, 22), 512),
    (lambda g: mobilenet_v2(g, 80), CONFIG.bank_words),
)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """One compiled simulation for all tests of this file."""
    return Machine(CONFIG, tmp_path_factory.mktemp("machine"))


def compiled_bands(machine: Machine, make: Make, words: int, rng: np.random.Generator) -> Subject:
    """A subject in bands, for banks of so many words."""
    g = IntegerGraph(rng)
    output = make(g)
    graph = g.graph(output, name=f"{output} in {words} words")
    compiled = compile_graph(graph, replace(CONFIG, bank_words=words), machine.board)
    assert highest_word(compiled) <= words
    assert any(layer.band for layer in compiled.layers), graph.name
    return machine.add(compiled, g.codes())


def highest_word(compiled: Compiled) -> int:
    """Words of a bank that tensors reach."""
    return max(place.offset + place.words for place in compiled.places.values())


def test_bands_give_goldens_codes_in_the_predicted_cycles(
    machine: Machine, rng: np.random.Generator, seed: int
) -> None:
    subjects = [compiled_bands(machine, make, words, rng) for make, words in CASES]
    script = [step for subject in subjects for step in whole_run(subject)]
    for subject, run in results_of(subjects, machine.run(script, seed=seed)):
        compiled = subject.compiled
        assert (run.state, run.error) == (State.DONE, CoreError.NONE), compiled.model.name
        assert run.layers_done == len(compiled.layers)
        assert near(run.cycles, compiled.total_cycles), (compiled.model.name, run.cycles)


def test_tensors_of_the_model_are_whole_when_their_last_band_has_ended(
    machine: Machine, rng: np.random.Generator, seed: int
) -> None:
    subjects = [compiled_bands(machine, make, words, rng) for make, words in CASES[:5]]
    script: list[Step] = []
    for subject in subjects:
        script += subject.layer_by_layer()
    results = iter(machine.run(script, seed=seed))
    for subject in subjects:
        for _ in subject.inputs():
            next(results)
        for layer in subject.compiled.layers:
            next(results)
            words = next(results)
            if not layer.inner:
                subject.check(layer.output, words)
