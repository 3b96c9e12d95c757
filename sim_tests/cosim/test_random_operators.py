"""Random chains of operators through the accelerator's Verilog, against golden."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler import backend
from qcompile.compiler.errors import QcompileError, VerifyError
from qcompile.compiler.ir import Model
from qcompile.compiler.pipeline import load_model
from qcompile.hw.boards.icebreaker import ICEBREAKER
from qcompile.hw.config import AcceleratorConfig
from qcompile.runtime.protocol import CoreError, State
from sim_tests.compiler.dice import SeededDice
from sim_tests.compiler.networks import random_codes
from sim_tests.compiler.random_chains import random_chain
from sim_tests.compiler.random_operators import ALL, LAYERS
from sim_tests.cosim.accelerator_runs import Machine, Subject, compile_graph
from sim_tests.cosim.test_accelerator import CONFIG, results_of, whole_run

pytestmark = pytest.mark.cosim

LONGEST_CYCLES = 20_000


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(CONFIG, tmp_path_factory.mktemp("machine"))


def fits(config: AcceleratorConfig) -> bool:
    """Whether the simulated accelerator does what the model's own would do."""
    return config.acc_width <= CONFIG.acc_width and config.max_shift == CONFIG.max_shift


def random_models(folder: Path, seed: int) -> Iterator[Model]:
    """Chains that the compiler takes, as the accelerator gets them, one after the other."""
    for number in range(10_000):
        title = f"{seed} {number}"
        path = folder / f"{number}.onnx"
        network = random_chain(ALL, LAYERS, SeededDice(title), longest=4)
        path.write_bytes(network.model().SerializeToString())
        try:
            model = load_model(path)
            compiled = backend.compile_model(model, board=ICEBREAKER, requant="exact")
        except VerifyError:
            raise
        except QcompileError:
            continue
        if fits(compiled.config) and compiled.total_cycles < LONGEST_CYCLES:
            yield compiled.model


def subjects_of(machine: Machine, folder: Path, seed: int, count: int) -> list[Subject]:
    rng = np.random.default_rng(seed)
    subjects = []
    for _, model in zip(range(count), random_models(folder, seed), strict=False):
        codes = {
            name: random_codes(rng, model.graph.values[name].shape, "int8")
            for name in model.graph.inputs
        }
        subjects.append(machine.add(compile_graph(model.graph, CONFIG, ICEBREAKER), codes))
    return subjects


def sweep(machine: Machine, folder: Path, seed: int, count: int) -> None:
    """All models in one simulation."""
    subjects = subjects_of(machine, folder, seed, count)
    script = [step for subject in subjects for step in whole_run(subject)]
    for subject, run in results_of(subjects, machine.run(script, seed=seed % 2**31)):
        name = subject.compiled.model.name
        assert (run.state, run.error) == (State.DONE, CoreError.NONE), name
        assert run.layers_done == len(subject.compiled.layers), name


def test_random_chains_give_goldens_codes(machine: Machine, tmp_path: Path, seed: int) -> None:
    sweep(machine, tmp_path, seed, 24)


@pytest.mark.full
def test_many_random_chains_give_goldens_codes(machine: Machine, tmp_path: Path, seed: int) -> None:
    sweep(machine, tmp_path, seed, 200)
