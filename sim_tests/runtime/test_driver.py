"""The driver on simulated boards, by frames and by registers: runs, self-test, wrong boards.

Damaged frames are there too.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qcompile.runtime.artifact import Artifact, open_artifact
from qcompile.runtime.driver import Board
from qcompile.runtime.errors import BoardError
from qcompile.runtime.layouts import PROGRAM_ADDRESS
from qcompile.runtime.link import Link
from qcompile.runtime.protocol import State
from qcompile.runtime.register_link import RegisterLink
from qcompile.runtime.run import run_inputs, self_test
from qcompile.runtime.serial_link import SerialLink
from qcompile.runtime.transport import SimTransport, Transport
from sim_tests.hw import axi_board, small_board
from sim_tests.hw.simulated_registers import SimulatedRegisters
from sim_tests.runtime import small_build

pytestmark = pytest.mark.cosim

Connect = Callable[[bytes], Link]


class NoisyLine:
    """A transport that damages some bytes in both directions."""

    def __init__(self, inner: Transport, rng: np.random.Generator, rate: float) -> None:
        self._inner = inner
        self._rng = rng
        self._rate = rate

    def _damage(self, data: bytes) -> bytes:
        codes = np.frombuffer(data, np.uint8).copy()
        hit = self._rng.random(len(codes)) < self._rate
        codes[hit] ^= self._rng.integers(1, 256, int(hit.sum()), np.uint8)
        return codes.tobytes()

    def write(self, data: bytes) -> None:
        self._inner.write(self._damage(data))

    def read(self, count: int, timeout: float) -> bytes:
        return self._damage(self._inner.read(count, timeout))

    def drop_input(self) -> None:
        self._inner.drop_input()

    def close(self) -> None:
        self._inner.close()


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return open_artifact(small_build.write(tmp_path / "small"))


@pytest.fixture
def transport(project: Path, tmp_path: Path, seed: int) -> Iterator[SimTransport]:
    """A simulated board with a serial line; it must end without violation."""
    flash = tmp_path / "flash.bin"
    flash.write_bytes(small_build.image())
    program = small_board.executable(project)
    transport = SimTransport(program, flash, clock_hz=small_board.CLOCK_HZ, seed=seed)
    yield transport
    transport.close()


@pytest.fixture(params=["frames", "registers"])
def connect(
    request: pytest.FixtureRequest, project: Path, tmp_path: Path, seed: int
) -> Iterator[Connect]:
    """Starts a simulated board whose flash holds the image; it must end without violation."""
    links: list[Link] = []

    def start(image: bytes) -> Link:
        folder = tmp_path / f"board{len(links)}"
        folder.mkdir()
        if request.param == "registers":
            simulation = axi_board.small_simulation()
            registers = SimulatedRegisters(simulation, folder, image, seed=seed)
            links.append(RegisterLink(registers, name="sim"))
            return links[-1]
        flash = folder / "flash.bin"
        flash.write_bytes(image)
        program = small_board.executable(project)
        transport = SimTransport(program, flash, clock_hz=small_board.CLOCK_HZ, seed=seed)
        links.append(SerialLink(transport, name="sim"))
        return links[-1]

    yield start
    for link in links:
        link.close()


@pytest.fixture
def board(connect: Connect) -> Board:
    return Board(connect(small_build.image()))


def refusal(message: str) -> str:
    return f"^{re.escape(message)}\n"


def test_inputs_run_through_prologue_memory_and_epilogue(
    board: Board, artifact: Artifact, rng: np.random.Generator
) -> None:
    assert board.check(artifact).configuration_id == small_board.CONFIG.id
    x = rng.uniform(-60, 60, (3, 3, 2, 2)).astype(np.float32)
    result = run_inputs(board, artifact, {"x": x})
    expected = small_build.output_codes().reshape(1, 64).repeat(3, axis=0)
    np.testing.assert_array_equal(result.outputs["y"], expected)
    assert len(result.cycles) == 3 and min(result.cycles) > 4 * len(small_build.WORDS)
    codes = np.clip(np.rint(x[2] / np.float32(0.5)) - 3, -128, 127).astype(np.int8)
    memory = board.link.read_memory(40, 4).astype("<u4").view(np.int8).reshape(4, 4)
    np.testing.assert_array_equal(memory[:, :3], codes.reshape(3, 4).T)


def test_self_test_passes_and_names_the_first_layer_that_differs(
    board: Board, artifact: Artifact, tmp_path: Path
) -> None:
    passed = self_test(board, artifact)
    assert (passed.layers, passed.inputs, passed.failure) == (4, 2, None)
    wrong = small_build.layer_codes(small_build.WORDS[128:192]).copy()
    wrong[1, 0, 7] += 4
    other = open_artifact(small_build.write(tmp_path / "other", golden={"layer/2": wrong}))
    failure = "layer 2 'layer2' differs from channel 1, row 0, column 7 on: expected 4, got 0"
    assert self_test(board, other).failure == failure
    assert board.link.status().state == State.IDLE
    outputs = np.stack([small_build.output_codes()] * 2)
    outputs[1, 5] += 1
    other = open_artifact(small_build.write(tmp_path / "third", golden={"output/sums": outputs}))
    assert self_test(board, other).failure == "output 'sums' of input 1 differs"


def test_damaged_frames_are_sent_again(
    transport: SimTransport, artifact: Artifact, rng: np.random.Generator
) -> None:
    link = SerialLink(NoisyLine(transport, rng, rate=1 / 500), name="noisy")
    board = Board(link)
    board.check(artifact)
    x = rng.uniform(-60, 60, (6, 3, 2, 2)).astype(np.float32)
    result = run_inputs(board, artifact, {"x": x})
    expected = small_build.output_codes().reshape(1, 64).repeat(6, axis=0)
    np.testing.assert_array_equal(result.outputs["y"], expected)
    assert link.retries > 0


def test_dead_link_ends_in_one_message(
    transport: SimTransport, artifact: Artifact, rng: np.random.Generator
) -> None:
    board = Board(SerialLink(NoisyLine(transport, rng, rate=1.0), name="/dev/ttyX"))
    with pytest.raises(BoardError, match=refusal("/dev/ttyX: the board does not answer ABORT")):
        board.check(artifact)


def test_another_model_on_the_board_is_refused(connect: Connect, artifact: Artifact) -> None:
    board = Board(connect(small_build.image(sha256="ab" * 32)))
    message = f"sim: the board holds another model than {artifact.folder}"
    with pytest.raises(BoardError, match=refusal(message)) as caught:
        board.check(artifact)
    assert caught.value.help == f"program the board: qcompile flash {artifact.folder}"


def test_same_model_compiled_differently_is_refused(board: Board, artifact: Artifact) -> None:
    header = replace(artifact.header, program_crc=1)
    message = "sim: the board holds 'small' compiled in another way"
    with pytest.raises(BoardError, match=refusal(message)):
        board.check(replace(artifact, header=header))


def test_another_configuration_on_the_board_is_refused(board: Board, artifact: Artifact) -> None:
    header = replace(artifact.header, configuration_id=1)
    message = "sim: the bitstream on the board has another accelerator configuration"
    with pytest.raises(BoardError, match=refusal(message)) as caught:
        board.check(replace(artifact, header=header))
    assert caught.value.context == (
        f"board: {small_board.CONFIG.id:08x}, 4 x 4",
        "build: 00000001",
    )


def test_empty_flash_is_refused(connect: Connect, artifact: Artifact) -> None:
    board = Board(connect(b""))
    message = "sim: the board's flash holds no program (no flash image: it starts with ffffffff)"
    with pytest.raises(BoardError, match=refusal(message)):
        board.check(artifact)


def test_run_that_does_not_end_is_aborted(connect: Connect) -> None:
    endless = bytes(256) + bytes(400_000)
    board = Board(connect(endless))
    board.link.start(PROGRAM_ADDRESS)
    message = "sim: the run did not end within 0.001 s and was aborted"
    with pytest.raises(BoardError, match=refusal(message)):
        board.link.wait(0.001)
    assert board.link.status().state == State.IDLE


def test_commands_that_the_state_forbids_are_refused(connect: Connect) -> None:
    link = connect(bytes(256) + bytes(400_000))
    with pytest.raises(BoardError, match=refusal("sim: the board refuses RESUME: BUSY")):
        link.resume()
    link.start(PROGRAM_ADDRESS)
    for command, call in (
        ("WRITE_MEMORY", lambda: link.write_all([(0, np.arange(3, dtype=np.uint32))])),
        ("READ_MEMORY", lambda: link.read_memory(0, 3)),
        ("READ_FLASH", lambda: link.read_flash(0, 4)),
        ("RESUME", lambda: link.resume(stop_after=1)),
    ):
        with pytest.raises(BoardError, match=refusal(f"sim: the board refuses {command}: BUSY")):
            call()
    assert link.status().state == State.RUNNING
    link.start(PROGRAM_ADDRESS, stop_after=1)
    assert (link.wait(0.01).state, link.status().layers) == (State.PAUSED, 1)
    link.abort()
    assert link.read_flash(0, 3) == b"\xff\xff\xff"


def test_build_can_be_moved(tmp_path: Path, artifact: Artifact) -> None:
    moved = tmp_path / "elsewhere"
    shutil.move(artifact.folder, moved)
    assert replace(open_artifact(moved), folder=artifact.folder) == artifact
