"""An Arty board whose array takes its program and weights from the flash, at its pins."""

from __future__ import annotations

import fcntl
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler import ir
from qcompile.compiler.golden.interpreter import run_graph
from qcompile.compiler.lines.backend import LinesCompiled, compile_graph
from qcompile.compiler.lines.project import board_files
from qcompile.compiler.simulated_board import build_simulated_board
from qcompile.hw.boards.arty_a7 import ARTY_A7_35T, FLASH
from qcompile.hw.lines.config import LinesConfig
from qcompile.runtime.errors import BoardError
from qcompile.runtime.protocol import CoreError, State
from qcompile.runtime.serial_link import SerialLink
from qcompile.runtime.transport import SimTransport
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.compiler.lines_walker import memory_words
from sim_tests.cosim.lines_runs import unpacked

pytestmark = pytest.mark.cosim

CONFIG = LinesConfig(
    lines=1,
    lanes=1,
    acc_width=28,
    bank_words=256,
    weight_rows=512,
    streams=True,
    dsp="instance",
    dsp_pairs=8,
)
CLOCK_HZ = 90_000_000
HEADER_BYTES = 64
PROGRAM = FLASH.offset + HEADER_BYTES
SECONDS = 0.05
Start = Callable[..., SimTransport]


@dataclass(frozen=True, slots=True)
class Subject:
    """A graph, its input, the image with its program, and a board without either."""

    compiled: LinesCompiled
    codes: dict[str, ir.Int8Array]
    image: bytes
    executable: Path


@pytest.fixture(scope="module")
def subject(project: Path) -> Subject:
    """Always the same graph; its weights are more than the weight memory holds."""
    g = IntegerGraph(np.random.default_rng(20))
    y = g.conv(g.conv(g.input(3, 7, 5), 40, (3, 3), pads=(1, 1, 1, 1)), 37)
    graph = g.graph(g.conv(g.conv(y, 30, (3, 3)), 50))
    timing = FLASH.timing(CLOCK_HZ)
    compiled = compile_graph(graph, CONFIG, flash=timing)
    program = np.array(compiled.program.words, "<u8").tobytes()
    assert len(program) > 2 * CONFIG.weight_rows * CONFIG.columns
    header = struct.pack(
        "<4sHHIII12x32s",
        *(b"QCIM", 1, 0, CONFIG.id, len(program), zlib.crc32(program), bytes(range(32))),
    )
    files = board_files(CONFIG, ARTY_A7_35T, None, CLOCK_HZ, lambda step: None)
    folder = project / "build" / ".cache" / "lines_flash"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / "top.v").write_bytes(files["top.v"])
        executable = build_simulated_board(folder / "top.v", folder, board=ARTY_A7_35T)
    return Subject(compiled, g.codes(), header + program, executable)


@pytest.fixture
def start(subject: Subject, tmp_path: Path, seed: int) -> Iterator[Start]:
    """Starts the board with plusargs; its flash has the image."""
    flash = tmp_path / "flash.bin"
    flash.write_bytes(subject.image)
    started: list[SimTransport] = []

    def begin(*options: str) -> SimTransport:
        transport = SimTransport(
            subject.executable,
            flash,
            clock_hz=CLOCK_HZ,
            flash_offset=FLASH.offset,
            seed=seed,
            options=options,
        )
        started.append(transport)
        return transport

    yield begin
    for transport in started:
        transport.close()


def address(subject: Subject, name: str) -> int:
    """Where a tensor is, for the host."""
    place = subject.compiled.places[name]
    return place.bank << 15 | place.offset


def test_weights_from_the_flash_make_golden_s_outputs(start: Start, subject: Subject) -> None:
    link = SerialLink(start(), name="sim")
    info = link.info()
    assert (info.configuration_id, info.clock_hz) == (CONFIG.id, CLOCK_HZ)
    assert link.read_flash(FLASH.offset, len(subject.image)) == subject.image
    assert link.read_flash(FLASH.offset - 1, 3) == b"\xff" + subject.image[:2]
    compiled, (name,) = subject.compiled, subject.compiled.graph.inputs
    place = compiled.places[name]
    words = memory_words(subject.codes[name][0].reshape(place.shape), CONFIG.columns)
    output = compiled.places[compiled.graph.outputs[0]]
    expected = run_graph(compiled.graph, subject.codes)[compiled.graph.outputs[0]]
    for _ in range(2):
        link.write_all([(address(subject, name), words.astype(np.int8).reshape(-1).view("<u4"))])
        link.start(PROGRAM)
        status = link.wait(SECONDS)
        assert (status.state, status.layers) == (State.DONE, len(compiled.layers))
        found = link.read_memory(address(subject, compiled.graph.outputs[0]), output.words)
        codes = unpacked(found.astype("<u4").view(np.int8), output.shape, CONFIG.columns)
        np.testing.assert_array_equal(codes, expected[0].reshape(output.shape))
        assert status.cycles == sum(layer.cycles for layer in compiled.cycles())


def test_an_abort_leaves_the_flash_ready_for_the_next_run(start: Start, subject: Subject) -> None:
    link = SerialLink(start(), name="sim")
    for _ in range(3):
        link.start(PROGRAM)
        link.abort()
        assert link.read_flash(FLASH.offset, 4) == b"QCIM"
    link.start(PROGRAM, stop_after=1)
    assert link.wait(SECONDS).state == State.PAUSED
    link.resume()
    assert link.wait(SECONDS).layers == len(subject.compiled.layers)


@pytest.mark.parametrize("level", [0, 1])
def test_a_missing_flash_is_told(start: Start, level: int) -> None:
    link = SerialLink(start("+flash_dead=1", f"+floating={level}"), name="sim")
    status = link.status()
    assert (status.state, status.error) == (State.ERROR, CoreError.FLASH_SILENT)
    with pytest.raises(BoardError, match=r"^sim: its flash does not answer\n"):
        link.read_flash(FLASH.offset, 1)
