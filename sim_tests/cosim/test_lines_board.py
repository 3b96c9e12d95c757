"""The whole FPGA of an Arty board at its pins: frames, memories in the bitstream, runs."""

from __future__ import annotations

import fcntl
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler import ir
from qcompile.compiler.golden.interpreter import run_graph
from qcompile.compiler.lines.backend import LinesCompiled, compile_graph
from qcompile.compiler.lines.project import board_files
from qcompile.compiler.passes.allocate import Placement
from qcompile.compiler.simulated_board import build_simulated_board
from qcompile.hw.boards.arty_a7 import ARTY_A7_35T
from qcompile.hw.lines import program
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.contents import LinesContents
from qcompile.runtime import protocol
from qcompile.runtime.protocol import Command, Reply, State, Status
from qcompile.runtime.serial_link import SerialLink
from qcompile.runtime.transport import SimTransport
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.compiler.lines_walker import memory_words
from sim_tests.cosim.lines_runs import unpacked

pytestmark = pytest.mark.cosim

CONFIG = LinesConfig(
    lines=1,
    lanes=2,
    acc_width=28,
    bank_words=256,
    weight_rows=512,
    dsp="instance",
    dsp_pairs=8,
)
CLOCK_HZ = 90_000_000
HEADER_BYTES = 64
SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Subject:
    """A graph that stands in a board's memories, its input and what golden makes of it."""

    compiled: LinesCompiled
    codes: dict[str, ir.Int8Array]
    contents: LinesContents
    executable: Path

    def place(self, name: str) -> Placement:
        """Where a tensor is."""
        return self.compiled.places[name]

    def address(self, name: str) -> int:
        """Where a tensor is, for the host."""
        return self.place(name).bank << 15 | self.place(name).offset

    @property
    def second_program(self) -> int:
        """Byte address of a program that ends at once."""
        return HEADER_BYTES + 8 * len(self.compiled.program.words)


@pytest.fixture(scope="module")
def subject(project: Path) -> Subject:
    """Always the same graph, so that the board is made once."""
    g = IntegerGraph(np.random.default_rng(20))
    x = g.input(3, 7, 5)
    y = g.conv(g.conv(x, 20, (3, 3), pads=(1, 1, 1, 1)), 37)
    graph = g.graph(g.conv(y, kernel=(3, 3), strides=(2, 2)))
    compiled = compile_graph(graph, CONFIG)
    words = compiled.program.words
    image = np.array(words, "<u8").tobytes() + compiled.program.weights.tobytes()
    header = struct.pack(
        "<4sHHIII12x32s", b"QCIM", 1, 0, CONFIG.id, len(image), zlib.crc32(image), bytes(range(32))
    )
    ends = program.packet(program.PacketKind.END, [0])
    contents = LinesContents(
        program=[*struct.unpack("<8Q", header), *words, *ends], weights=compiled.program.weights
    )
    files = board_files(CONFIG, ARTY_A7_35T, contents, CLOCK_HZ, lambda step: None)
    folder = project / "build" / ".cache" / "lines_board"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (folder / "top.v").write_bytes(files["top.v"])
        executable = build_simulated_board(folder / "top.v", folder, board=ARTY_A7_35T)
    return Subject(compiled, g.codes(), contents, executable)


class Wire:
    """Frames to the board, one after the other."""

    def __init__(self, transport: SimTransport) -> None:
        self.transport = transport
        self.link = SerialLink(transport, name="sim")

    def ask(self, command: Command, payload: bytes = b"") -> Reply:
        """A request's reply."""
        self.transport.write(protocol.request_frame(command, payload))
        header = self.transport.read(protocol.HEADER_BYTES, SECONDS + len(payload) * 4e-6)
        rest = self.transport.read(protocol.reply_length(header), 0.3)
        return protocol.parse_reply(header + rest)

    def write(self, address: int, data: bytes, command: Command = Command.WRITE_MEMORY) -> None:
        """Words, or the first beats of each."""
        reply = self.ask(command, struct.pack("<H", address) + data)
        assert reply == Reply(status=Status.OK, payload=b"")

    def read(self, address: int, size: int) -> bytes:
        """Bytes from a word on."""
        reply = self.ask(Command.READ_MEMORY, protocol.read_memory_payload(address, size // 4))
        assert reply.status == Status.OK
        return reply.payload


@pytest.fixture
def wire(subject: Subject, seed: int) -> Iterator[Wire]:
    transport = SimTransport(subject.executable, None, clock_hz=CLOCK_HZ, seed=seed)
    yield Wire(transport)
    transport.close()


def write_inputs(wire: Wire, subject: Subject) -> None:
    """All inputs, whole words."""
    for name, tensor in subject.codes.items():
        place = subject.place(name)
        words = memory_words(tensor[0].reshape(place.shape), CONFIG.columns)
        wire.write(subject.address(name), words.astype(np.int8).tobytes())


def check_outputs(wire: Wire, subject: Subject) -> None:
    """The output in memory is golden's."""
    name = subject.compiled.graph.outputs[0]
    place = subject.place(name)
    data = np.frombuffer(wire.read(subject.address(name), 16 * place.words), np.int8)
    expected = run_graph(subject.compiled.graph, subject.codes)[name]
    found = unpacked(data, place.shape, CONFIG.columns)
    np.testing.assert_array_equal(found, expected[0].reshape(place.shape))


def test_info_and_the_program_memory_are_the_builds(wire: Wire, subject: Subject) -> None:
    info = wire.link.info()
    assert (info.rows, info.columns, info.acc_width) == (4, 16, 28)
    assert (info.configuration_id, info.clock_hz) == (CONFIG.id, CLOCK_HZ)
    image = np.array(subject.contents.program, "<u8").tobytes()
    assert wire.link.read_flash(0, len(image)) == image
    for address, count in ((0, 1), (1, 2), (3, 13), (63, 5), (200, 0)):
        assert wire.link.read_flash(address, count) == image[address : address + count]


def test_the_program_of_the_bitstream_runs_as_golden(wire: Wire, subject: Subject) -> None:
    for _ in range(2):
        write_inputs(wire, subject)
        wire.link.start(HEADER_BYTES)
        status = wire.link.wait(SECONDS)
        assert (status.state, status.layers) == (State.DONE, len(subject.compiled.layers))
        check_outputs(wire, subject)
        assert wire.link.read_flash(0, 4) == b"QCIM"


def test_a_run_pauses_and_goes_on_and_an_abort_leaves_memory_alone(
    wire: Wire, subject: Subject
) -> None:
    write_inputs(wire, subject)
    wire.link.start(HEADER_BYTES, stop_after=1)
    wire.link.abort()
    wire.link.start(HEADER_BYTES, stop_after=1)
    status = wire.link.wait(SECONDS)
    assert (status.state, status.layers) == (State.PAUSED, 1)
    payload = protocol.read_flash_payload(0, 4)
    assert wire.ask(Command.READ_FLASH, payload).status == Status.BUSY
    wire.link.resume()
    assert wire.link.wait(SECONDS).state == State.DONE
    check_outputs(wire, subject)


def test_a_second_program_starts_at_its_own_address(wire: Wire, subject: Subject) -> None:
    wire.link.start(subject.second_program)
    status = wire.link.wait(SECONDS)
    assert (status.state, status.layers) == (State.DONE, 0)


def test_words_and_parts_of_words_reach_both_sets(wire: Wire, rng: np.random.Generator) -> None:
    for first in (0, 5, 0x8000, 0x80F0):
        words = rng.integers(0, 256, (6, 16), np.uint8)
        wire.write(first, words.tobytes())
        assert wire.read(first, 96) == words.tobytes()
        assert wire.read(first + 2, 40) == words[2:].tobytes()[:40]
        for command, beats in protocol.PARTIAL_WRITES.items():
            parts = rng.integers(0, 256, (3, 4 * beats), np.uint8)
            wire.write(first + 1, parts.tobytes(), command)
            words[1:4] = 0
            words[1:4, : 4 * beats] = parts
            assert wire.read(first, 96) == words.tobytes()
    assert wire.read(0, 16) != wire.read(0x8000, 16)


def test_words_that_do_not_come_whole_are_not_written(wire: Wire, rng: np.random.Generator) -> None:
    words = rng.bytes(48)
    wire.write(9, words)
    for size in (1, 4, 12, 20):
        reply = wire.ask(Command.WRITE_MEMORY, struct.pack("<H", 9) + bytes(size))
        assert reply.status == Status.BAD_LENGTH
    wire.write(9, rng.bytes(4), Command.WRITE_2_BEATS)
    wire.write(10, words[16:24], Command.WRITE_3_BEATS)
    assert wire.read(9, 48) == words
