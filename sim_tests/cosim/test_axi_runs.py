"""Programs of real layers through the AXI link, against golden."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.layouts import IMAGE_OFFSET, pack_tensor
from qcompile.hw.program import program_bytes
from qcompile.runtime.protocol import Control, CoreError, Register, State
from qcompile.runtime.register_link import RegisterLink
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.cosim.accelerator_runs import Machine, Run, Step, Subject, compile_graph
from sim_tests.hw import axi_board, cosim
from sim_tests.hw.simulated_registers import SimulatedRegisters

pytestmark = pytest.mark.cosim


class AxiMachine(Machine):
    """The same accelerator behind the AXI link; steps are those of `axi_bench`."""

    bench = "sim_tests.cosim.axi_bench"

    def _compiled(self, config: AcceleratorConfig, core: str) -> cosim.Simulation:
        return axi_board.simulation()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return AxiMachine(axi_board.CONFIG, tmp_path)


def subject_of(machine: Machine, rng: np.random.Generator) -> Subject:
    """A convolution, a depthwise one, a residual sum, a table."""
    g = IntegerGraph(rng)
    x = g.input(5, 6, 5)
    a = g.conv(x, 5, (3, 3), pads=(1, 1, 1, 1))
    b = g.lookup(g.add(g.conv(a, 0, (3, 3), pads=(1, 1, 1, 1)), x))
    graph = g.graph(g.pool(b, (6, 5)), b, a)
    return machine.add(compile_graph(graph, axi_board.CONFIG, machine.board), g.codes())


def test_whole_and_paused_runs_give_goldens_codes(
    machine: Machine, rng: np.random.Generator, seed: int
) -> None:
    subjects = [subject_of(machine, rng) for _ in range(2)]
    script: list[Step] = []
    for subject in subjects:
        script += [*subject.inputs(), ["go", "start"], *subject.outputs()]
    paused = subjects[0]
    whole = len(script)
    script += paused.layer_by_layer()
    results = machine.run(script, seed=seed)
    for subject in subjects:
        for _ in subject.inputs():
            results.pop(0)
        run = results.pop(0)
        assert isinstance(run, Run)
        layers = len(subject.compiled.layers)
        assert (run.state, run.error, run.layers_done) == (State.DONE, CoreError.NONE, layers)
        assert abs(run.cycles - subject.compiled.total_cycles) <= 0.02 * run.cycles
        for name in subject.output_names:
            subject.check(name, results.pop(0))
    assert len(results) == len(script) - whole
    runs = results[len(paused.inputs()) :: 2]
    assert [run.layers_done for run in runs] == list(range(1, len(runs) + 1))
    assert {run.state for run in runs[:-1]} == {State.PAUSED}
    for layer, words in zip(
        paused.compiled.layers, results[len(paused.inputs()) + 1 :: 2], strict=True
    ):
        if not layer.inner:
            paused.check(layer.output, words)


def test_what_a_state_forbids_is_told_and_changes_nothing(
    machine: Machine, rng: np.random.Generator, seed: int
) -> None:
    subject = subject_of(machine, rng)
    never: list[Step] = [
        ["refused", Register.CONTROL, Control.START],
        ["refused", Register.CONTROL, Control.READ_FLASH],
        ["refused", Register.PROGRAM_ADDRESS, 0],
    ]
    while_running: list[Step] = [
        ["refused", Register.CONTROL, Control.RESUME],
        ["refused", Register.STOP_AFTER, 0],
        ["refused", Register.MEMORY_DATA, 0xFFFFFFFF],
        ["refused", Register.MEMORY_DATA],
    ]
    place = next(iter(subject.compiled.places.values()))
    script: list[Step] = [
        *subject.inputs(),
        ["refused", Register.CONTROL, Control.RESUME],
        ["go", "start", 1, 1],
        ["write", Register.MEMORY_ADDRESS, place.address],
        *never,
        *while_running,
        ["go", "abort"],
        *subject.inputs(),
        ["go", "start", 1],
        *never,
        ["go", "resume"],
        *subject.outputs(),
    ]
    results = machine.run(script, seed=seed)
    refused = [result for result, step in zip(results, script, strict=True) if step[0] == "refused"]
    assert refused == [True] * len(refused)
    running, aborted, paused, done = (result for result in results if isinstance(result, Run))
    assert running.state == State.RUNNING
    assert (aborted.state, aborted.layers_done, aborted.cycles) == (State.IDLE, 0, 0)
    assert (paused.state, paused.layers_done) == (State.PAUSED, 1)
    assert done.state == State.DONE
    outputs = results[-len(subject.output_names) :]
    for name, words in zip(subject.output_names, outputs, strict=True):
        subject.check(name, words)


def test_runtime_runs_a_program_through_the_registers(
    machine: Machine, rng: np.random.Generator, tmp_path: Path, seed: int
) -> None:
    subject = subject_of(machine, rng)
    image = program_bytes(subject.compiled.program.words)
    registers = SimulatedRegisters(axi_board.simulation(), tmp_path, image, seed=seed)
    link = RegisterLink(registers, name="sim")
    assert link.info().configuration_id == axi_board.CONFIG.id
    assert link.read_flash(IMAGE_OFFSET, 101) == image[:101]
    places = subject.compiled.places
    codes = {name: value[0].reshape(places[name].shape) for name, value in subject.codes.items()}
    link.write_all([(places[name].address, pack_tensor(value)) for name, value in codes.items()])
    link.start(IMAGE_OFFSET, stop_after=1)
    assert link.wait(0.1).state == State.PAUSED
    link.resume()
    status = link.wait(0.1)
    assert (status.state, status.layers) == (State.DONE, len(subject.compiled.layers))
    for name in subject.output_names:
        words = link.read_memory(places[name].address, places[name].words)
        subject.check(name, words.tolist())
    link.close()
