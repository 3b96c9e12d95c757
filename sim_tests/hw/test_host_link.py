"""Frames at the pins of the simulated board: every command, and everything that is no frame."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from qcompile.runtime import protocol
from qcompile.runtime.layouts import IMAGE_OFFSET, PROGRAM_ADDRESS
from qcompile.runtime.protocol import Command, Reply, State, Status, request_frame
from qcompile.runtime.transport import SimTransport
from sim_tests.hw import small_board

pytestmark = pytest.mark.cosim

WORDS = np.arange(1, 1001, dtype=np.uint16)
REPLY_SECONDS = 0.002
SILENCE_SECONDS = 0.005
LATE_SECONDS = 0.104
LONG_RUN = np.zeros(60_000, np.uint16)
"""A program that runs for about 10 ms."""


@pytest.fixture(scope="module")
def board_program(project: Path) -> Path:
    return small_board.executable(project)


@pytest.fixture
def link(board_program: Path, tmp_path: Path, seed: int) -> Iterator[SimTransport]:
    flash = tmp_path / "flash.bin"
    flash.write_bytes(small_board.image(WORDS))
    transport = SimTransport(board_program, flash, clock_hz=small_board.CLOCK_HZ, seed=seed)
    yield transport
    transport.close()


@pytest.fixture
def slow_link(board_program: Path, tmp_path: Path, seed: int) -> Iterator[SimTransport]:
    """A board with a program that runs for some milliseconds."""
    flash = tmp_path / "flash.bin"
    flash.write_bytes(small_board.image(LONG_RUN))
    transport = SimTransport(board_program, flash, clock_hz=small_board.CLOCK_HZ, seed=seed)
    yield transport
    transport.close()


def reply(link: SimTransport, timeout: float = REPLY_SECONDS) -> Reply:
    """The next reply; a FrameError where none comes."""
    header = link.read(protocol.HEADER_BYTES, timeout)
    rest = link.read(protocol.reply_length(header), 0.3)
    return protocol.parse_reply(header + rest)


def ask(link: SimTransport, command: Command, payload: bytes = b"") -> Reply:
    """A request and its reply."""
    link.write(request_frame(command, payload))
    return reply(link, REPLY_SECONDS + len(payload) * 4e-6)


def state(link: SimTransport) -> State:
    """The board's state."""
    return protocol.parse_status(ask(link, Command.STATUS).payload).state


def test_info_tells_the_configuration(link: SimTransport) -> None:
    answer = ask(link, Command.INFO)
    assert answer.status == Status.OK
    expected = struct.pack(
        "<4sBBBBII", b"QCMP", 1, 4, 4, 24, small_board.CONFIG.id, small_board.CLOCK_HZ
    )
    assert answer.payload == expected


@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_memory_keeps_what_was_written(
    link: SimTransport, rng: np.random.Generator, count: int
) -> None:
    words = rng.integers(0, 2**32, count, dtype=np.uint32)
    address = int(rng.integers(0, 2**15 - 301))
    written = ask(link, Command.WRITE_MEMORY, protocol.write_memory_payload(address, words))
    assert written == Reply(status=Status.OK, payload=b"")
    answer = ask(link, Command.READ_MEMORY, protocol.read_memory_payload(address, count))
    assert protocol.parse_words(answer.payload).tolist() == words.tolist()


def test_bad_crc_is_told_and_nothing_is_done(link: SimTransport) -> None:
    for command, payload in (
        (Command.START, protocol.start_payload(PROGRAM_ADDRESS)),
        (Command.INFO, b""),
        (Command.READ_FLASH, protocol.read_flash_payload(IMAGE_OFFSET, 4)),
    ):
        for damaged in range(1, 4):
            frame = bytearray(request_frame(command, payload))
            frame[-damaged] ^= 0x10
            link.write(bytes(frame))
            assert reply(link) == Reply(status=Status.BAD_CRC, payload=b"")
    assert state(link) == State.IDLE


def test_unknown_commands_are_told(link: SimTransport) -> None:
    for code in (0, 10, 15, 0x11, 0x42, 0xFF):
        body = struct.pack("<BH", code, 3) + b"abc"
        crc = struct.pack("<I", zlib.crc32(body))
        link.write(bytes([protocol.REQUEST_SYNC]) + body + crc)
        assert reply(link) == Reply(status=Status.UNKNOWN_COMMAND, payload=b"")


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        (Command.INFO, (1, 2, 64)),
        (Command.WRITE_MEMORY, (0, 1, 3, 4, 5, 7)),
        (Command.READ_MEMORY, (0, 3, 5, 12)),
        (Command.READ_FLASH, (0, 4, 5, 7)),
        (Command.START, (0, 4, 5, 7, 262)),
        (Command.STATUS, (1, 8)),
        (Command.WAIT, (2,)),
        (Command.ABORT, (4,)),
        (Command.RESUME, (0, 1, 3, 4)),
    ],
)
def test_wrong_lengths_are_told(
    link: SimTransport, command: Command, wrong: tuple[int, ...]
) -> None:
    for length in wrong:
        answer = ask(link, command, bytes(length))
        assert answer == Reply(status=Status.BAD_LENGTH, payload=b""), length


def test_flash_bytes_are_read_from_any_address(link: SimTransport, tmp_path: Path) -> None:
    contents = (tmp_path / "flash.bin").read_bytes()
    for offset, count in ((0, 1), (1, 2), (255, 3), (256, 700), (7, 0)):
        payload = protocol.read_flash_payload(IMAGE_OFFSET + offset, count)
        answer = ask(link, Command.READ_FLASH, payload)
        assert answer == Reply(status=Status.OK, payload=contents[offset : offset + count])


def test_noise_before_a_frame_is_ignored(link: SimTransport) -> None:
    link.write(b"\x00\xff\x71\x52" + request_frame(Command.INFO))
    assert reply(link).status == Status.OK


@pytest.mark.parametrize("kept", [1, 2, 3, 4, 7, -2])
def test_half_frame_is_dropped_after_its_time_out(link: SimTransport, kept: int) -> None:
    link.write(request_frame(Command.START, protocol.start_payload(PROGRAM_ADDRESS))[:kept])
    assert link.read(1, LATE_SECONDS) == b""
    assert state(link) == State.IDLE


def test_frame_with_pauses_below_the_time_out_is_taken(link: SimTransport) -> None:
    frame = request_frame(Command.INFO)
    link.write(frame[:3])
    assert link.read(1, 0.09) == b""
    link.write(frame[3:])
    assert reply(link).status == Status.OK


def test_run_pauses_resumes_and_ends(link: SimTransport) -> None:
    def wait() -> protocol.RunStatus:
        answer = ask(link, Command.WAIT)
        return protocol.parse_status(answer.payload)

    assert ask(link, Command.START, protocol.start_payload(PROGRAM_ADDRESS, 3)).status == Status.OK
    paused = wait()
    assert (paused.state, paused.layers) == (State.PAUSED, 3)
    assert ask(link, Command.RESUME, protocol.resume_payload()).status == Status.OK
    done = wait()
    assert (done.state, done.error) == (State.DONE, 0)
    assert done.cycles > paused.cycles > 0
    payload = protocol.read_memory_payload(small_board.COPY_ADDRESS, len(WORDS))
    copied = protocol.parse_words(ask(link, Command.READ_MEMORY, payload).payload)
    assert copied.tolist() == WORDS.tolist()


def test_commands_that_the_state_forbids_are_busy(slow_link: SimTransport) -> None:
    link, busy = slow_link, Reply(status=Status.BUSY, payload=b"")
    assert ask(link, Command.RESUME, protocol.resume_payload()) == busy
    start = protocol.start_payload(PROGRAM_ADDRESS)
    assert ask(link, Command.START, start).status == Status.OK
    write = protocol.write_memory_payload(0, np.arange(3, dtype=np.uint32))
    read = protocol.read_memory_payload(0, 1)
    flash = protocol.read_flash_payload(IMAGE_OFFSET, 1)
    for command, payload in (
        (Command.START, protocol.start_payload(PROGRAM_ADDRESS + 2, 1)),
        (Command.RESUME, protocol.resume_payload(1)),
        (Command.WRITE_MEMORY, write),
        (Command.READ_MEMORY, read),
        (Command.READ_FLASH, flash),
    ):
        assert ask(link, command, payload) == busy, command.name
    assert state(link) == State.RUNNING
    link.write(request_frame(Command.WAIT))
    assert protocol.parse_status(reply(link, 0.1).payload).state == State.DONE


def test_abort_ends_a_run_and_the_next_one_is_whole(slow_link: SimTransport) -> None:
    link = slow_link
    for _ in range(3):
        assert ask(link, Command.START, protocol.start_payload(PROGRAM_ADDRESS)).status == Status.OK
        assert ask(link, Command.ABORT).status == Status.OK
        assert state(link) == State.IDLE
    assert ask(link, Command.READ_FLASH, protocol.read_flash_payload(0, 1)).payload == b"\xff"
    assert ask(link, Command.START, protocol.start_payload(PROGRAM_ADDRESS)).status == Status.OK
    link.write(request_frame(Command.WAIT))
    assert protocol.parse_status(reply(link, 0.1).payload).state == State.DONE


def test_wait_ends_without_reply_when_a_new_frame_comes(slow_link: SimTransport) -> None:
    link = slow_link
    assert ask(link, Command.START, protocol.start_payload(PROGRAM_ADDRESS)).status == Status.OK
    link.write(request_frame(Command.WAIT))
    assert link.read(1, SILENCE_SECONDS) == b""
    assert ask(link, Command.ABORT) == Reply(status=Status.OK, payload=b"")
    assert state(link) == State.IDLE


def test_damaged_write_still_arrives_and_is_told(link: SimTransport) -> None:
    words = np.array([0x01020304, 0xA0B0C0D0], np.uint32)
    frame = bytearray(request_frame(Command.WRITE_MEMORY, protocol.write_memory_payload(9, words)))
    frame[-1] ^= 1
    link.write(bytes(frame))
    assert reply(link).status == Status.BAD_CRC
    answer = ask(link, Command.READ_MEMORY, protocol.read_memory_payload(9, 2))
    assert protocol.parse_words(answer.payload).tolist() == words.tolist()
