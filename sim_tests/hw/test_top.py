"""The top level at its pins: wake-up, flash faults, baud mismatch, damaged programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qcompile.hw.boards import BOARDS
from qcompile.hw.boards.upduino_v3 import UPDUINO_V3
from qcompile.hw.flash_parts import N25Q032A13
from qcompile.hw.pll import PllSettings, find_pll_settings
from qcompile.runtime.driver import Board
from qcompile.runtime.errors import BoardError
from qcompile.runtime.layouts import IMAGE_HEADER_BYTES, IMAGE_OFFSET, PROGRAM_ADDRESS
from qcompile.runtime.protocol import CoreError, State
from qcompile.runtime.serial_link import SerialLink
from qcompile.runtime.transport import SimTransport
from sim_tests.hw import small_board

WORDS = np.arange(1, 701, dtype=np.uint16)
Start = Callable[..., SimTransport]


@pytest.fixture
def start(project: Path, tmp_path: Path, seed: int) -> Iterator[Start]:
    """Starts a simulated board with plusargs; the test ends it itself or leaves it."""
    program = small_board.executable(project)
    flash = tmp_path / "flash.bin"
    flash.write_bytes(small_board.image(WORDS))

    def begin(*options: str) -> SimTransport:
        return SimTransport(
            program, flash, clock_hz=small_board.CLOCK_HZ, seed=seed, options=options
        )

    yield begin


ONE_LINE = replace(UPDUINO_V3, name="one_line", flash_part=N25Q032A13, flash_lines=1)
"""What no board has yet: one data line, and a part that does not sleep."""


@pytest.fixture(params=[*BOARDS.values(), ONE_LINE], ids=lambda board: board.name)
def start_board(
    request: pytest.FixtureRequest, project: Path, tmp_path: Path, seed: int
) -> Callable[..., SimTransport]:
    """Starts each simulated board with plusargs; the test ends it itself or leaves it."""
    board = request.param
    program = small_board.executable(project, board)
    flash = tmp_path / "flash.bin"
    flash.write_bytes(small_board.image(WORDS))

    def begin(*options: str) -> SimTransport:
        clock_hz = board.device.clock_hz
        return SimTransport(program, flash, clock_hz=clock_hz, seed=seed, options=options)

    return begin


def run(link: SerialLink) -> list[int]:
    """One run of the program: the words that it left in memory."""
    link.start(PROGRAM_ADDRESS)
    assert link.wait(0.01).state == State.DONE
    words: list[int] = link.read_memory(small_board.COPY_ADDRESS, len(WORDS)).tolist()
    return words


@pytest.mark.cosim
@pytest.mark.parametrize("quad_enable", [0, 1])
def test_program_streams_from_a_flash_in_power_down(start: Start, quad_enable: int) -> None:
    transport = start(f"+flash_quad_enable={quad_enable}")
    link = SerialLink(transport, name="sim")
    for _ in range(2):
        assert run(link) == WORDS.tolist()
        assert link.read_flash(IMAGE_OFFSET, 3) == bytes(3)
    transport.close()


@pytest.mark.cosim
@pytest.mark.parametrize("host_baud", [2_940_000, 3_060_000])
def test_link_works_with_a_host_two_percent_off(
    start: Start, host_baud: int, rng: np.random.Generator
) -> None:
    transport = start(f"+host_baud={host_baud}")
    link = SerialLink(transport, name="sim")
    words = rng.integers(0, 2**32, 500, dtype=np.uint32)
    link.write_all([(0, words)])
    assert link.read_memory(0, 500).tolist() == words.tolist()
    assert link.retries == 0
    transport.close()


@pytest.mark.cosim
def test_program_streams_on_every_board(start_board: Start) -> None:
    transport = start_board()
    link = SerialLink(transport, name="sim")
    for _ in range(2):
        assert run(link) == WORDS.tolist()
        assert link.read_flash(IMAGE_OFFSET, 3) == bytes(3)
    transport.close()


@pytest.mark.cosim
@pytest.mark.parametrize("level", [0, 1])
def test_missing_flash_is_told(start_board: Start, level: int) -> None:
    transport = start_board("+flash_dead=1", f"+floating={level}")
    link = SerialLink(transport, name="sim")
    status = link.status()
    assert (status.state, status.error) == (State.ERROR, CoreError.FLASH_SILENT)
    with pytest.raises(BoardError, match=r"^sim: its flash does not answer\n"):
        link.read_flash(IMAGE_OFFSET, 1)
    transport.close()


@pytest.mark.cosim
def test_damaged_program_ends_in_an_error_and_the_next_run_is_right(
    start: Start, tmp_path: Path
) -> None:
    flash = tmp_path / "flash.bin"
    whole = flash.read_bytes()
    damaged = bytearray(small_board.image(WORDS))
    damaged[IMAGE_HEADER_BYTES + 100] ^= 1
    flash.write_bytes(bytes(damaged) + bytes(1000 - len(damaged) % 1000) + whole)
    second = (len(damaged) // 1000 + 1) * 1000 + IMAGE_HEADER_BYTES
    transport = start()
    link = SerialLink(transport, name="sim")
    link.start(PROGRAM_ADDRESS)
    status = link.wait(0.01)
    assert (status.state, status.error) == (State.ERROR, CoreError.STREAM_CRC)
    with pytest.raises(BoardError, match="the program in flash is damaged"):
        Board(link).finished(status)
    link.start(IMAGE_OFFSET + second)
    assert link.wait(0.01).state == State.DONE
    transport.close()


@pytest.mark.cosim
def test_flash_model_fails_the_run_when_a_command_comes_too_early(start: Start) -> None:
    with pytest.raises(BoardError) as caught:
        start("+flash_tres1=20000").close()
    assert caught.value.message == "the simulated board stopped with exit code 1"
    assert caught.value.context[0].startswith("flash: command before the flash is ready (")


def test_pll_settings_make_the_core_clocks_exactly() -> None:
    assert find_pll_settings(12_000_000, 24_000_000) == PllSettings(divf=63, divq=5)
    assert find_pll_settings(12_000_000, 30_000_000) == PllSettings(divf=79, divq=5)
    assert find_pll_settings(12_000_000, 30_000_000).output_hz(12_000_000) == 30_000_000
    message = "the PLL cannot make 25000000 Hz from 12000000 Hz exactly"
    with pytest.raises(ValueError, match=f"^{message}$"):
        find_pll_settings(12_000_000, 25_000_000)
