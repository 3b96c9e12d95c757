"""The driver on a simulated array of one line: runs, self-tests, wrong multipliers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.golden.interpreter import run_graph
from qcompile.hw.lines.system import LinesSystem
from qcompile.runtime.artifact import open_artifact
from qcompile.runtime.driver import Board
from qcompile.runtime.errors import BoardError
from qcompile.runtime.link import Link, Words
from qcompile.runtime.protocol import Register, State
from qcompile.runtime.register_link import RegisterLink
from qcompile.runtime.run import run_inputs, self_test
from sim_tests.hw import axi_board, cosim
from sim_tests.hw.simulated_registers import SimulatedRegisters
from sim_tests.runtime import lines_build
from sim_tests.runtime.lines_build import LinesBuild

pytestmark = pytest.mark.cosim

LATE_SECONDS = 1e-3
"""Longer than a run."""
BUILD = LinesBuild()
QUEUED = LinesBuild(queued=True)


def system(link: str, build: LinesBuild) -> LinesSystem:
    contents = build.contents
    return LinesSystem(
        lines_build.CONFIG,
        contents.program_words,
        contents,
        clock_hz=lines_build.CLOCK_HZ,
        link="axi" if link == "registers" else "uart",
    )


@cache
def registers_simulation(build: LinesBuild) -> cosim.Simulation:
    component = system("registers", build)
    text = cosim.with_random_memories(cosim.to_verilog(component, name="lines_system"))
    more = "assign violated = 0;"
    return cosim.build(
        text + axi_board.wrapper(component, "lines_system", more=more), axi_board.TOP
    )


@pytest.fixture
def link(tmp_path: Path, seed: int) -> Iterator[Link]:
    folder = tmp_path / "board"
    folder.mkdir()
    registers = SimulatedRegisters(registers_simulation(BUILD), folder, b"", seed=seed)
    link = RegisterLink(registers, name="sim")
    yield link
    link.close()


def test_inputs_run_with_stored_constants(
    link: Link, tmp_path: Path, rng: np.random.Generator
) -> None:
    artifact = open_artifact(BUILD.write(tmp_path / "lines"))
    board = Board(link)
    info = board.check(artifact)
    assert (info.rows, info.columns, info.configuration_id) == (4, 16, lines_build.CONFIG.id)
    (name,), (output,) = BUILD.graph.inputs, BUILD.graph.outputs
    codes = rng.integers(-128, 128, (2, 3, 6, 4)).astype(np.int8)
    result = run_inputs(board, artifact, {name: codes})
    np.testing.assert_array_equal(
        result.outputs[output], run_graph(BUILD.graph, {name: codes})[output]
    )
    tested = self_test(board, artifact)
    assert (tested.layers, tested.inputs, tested.failure) == (len(artifact.layers), 2, None)


class WatchedRegisters(SimulatedRegisters):
    """Tells in which state of the array memory was accessed; reads are late where asked for."""

    late = False

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.states: list[tuple[str, State]] = []
        super().__init__(registers_simulation(QUEUED), folder, b"", seed=seed)

    def _look(self, kind: str, offset: int) -> None:
        if offset == Register.MEMORY_DATA:
            state = State(super().read_all(Register.STATUS, 1)[0] & 0xFF)
            self.states.append((kind, state))

    def read_all(self, offset: int, count: int) -> Words:
        if offset == Register.MEMORY_DATA and self.late:
            self.pause(LATE_SECONDS)
        self._look("read", offset)
        return super().read_all(offset, count)

    def write_all(self, offset: int, values: Words) -> None:
        self._look("write", offset)
        super().write_all(offset, values)


@pytest.mark.parametrize("late", [False, True])
def test_the_next_input_comes_and_the_last_outputs_go_while_one_is_computed(
    late: bool, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    artifact = open_artifact(QUEUED.write(tmp_path / "lines"))
    queue = artifact.queue
    assert queue is not None and queue.inputs_free < queue.outputs_from
    folder = tmp_path / "board"
    folder.mkdir()
    registers = WatchedRegisters(folder, seed=seed)
    link = RegisterLink(registers, name="sim")
    board = Board(link)
    board.check(artifact)
    registers.states.clear()
    registers.late = late
    (name,), (output,) = QUEUED.graph.inputs, QUEUED.graph.outputs
    codes = rng.integers(-128, 128, (5, 3, 6, 4)).astype(np.int8)
    result = run_inputs(board, artifact, {name: codes})
    link.close()
    expected = run_graph(QUEUED.graph, {name: codes})[output]
    np.testing.assert_array_equal(result.outputs[output], expected)
    assert max(result.cycles) - min(result.cycles) <= late  # a pause takes a cycle
    writes = [state for kind, state in registers.states if kind == "write"]
    reads = [state for kind, state in registers.states if kind == "read"]
    assert writes == [State.DONE] * 2 + [State.RUNNING] * 4  # at first the constant too
    assert reads == [State.PAUSED if late else State.RUNNING] * 4 + [State.DONE]


def test_wrong_multipliers_are_named(link: Link, tmp_path: Path) -> None:
    expected = BUILD.test.expected.copy()
    expected[0, 21, 0, 6] ^= 1
    expected[0, 3, 0, 9] ^= 64
    wrong = replace(BUILD.test, expected=expected)
    artifact = open_artifact(BUILD.write(tmp_path / "lines", test=wrong))
    message = (
        "sim: 2 of the array's multipliers compute wrong sums\n"
        "  line 0, row 1, column 3\n"
        "  line 0, row 2, column 5\n"
        "  help: load the bitstream again, then try a lower clock (compile with --clock);"
        " a board that still fails is damaged"
    )
    with pytest.raises(BoardError, match=f"^{re.escape(message)}$"):
        Board(link).check(artifact)
