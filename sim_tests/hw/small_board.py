"""A simulated board whose core is `SmallCore`: the real pins, link and reader around it."""

from __future__ import annotations

import fcntl
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qcompile.compiler import toolchain
from qcompile.compiler.simulated_board import build_simulated_board
from qcompile.hw.boards import Board
from qcompile.hw.boards.icebreaker import ICEBREAKER
from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.layouts import IMAGE_HEADER_BYTES
from qcompile.hw.top import System, Top
from sim_tests.hw.small_core import END_WORD, SmallCore

CLOCK_HZ = 24_000_000
CONFIG = AcceleratorConfig()
COPY_ADDRESS = 0x4000
"""Where SmallCore puts its program's words."""


def executable(project: Path, board: Board = ICEBREAKER) -> Path:
    """The simulated board, built once."""
    folder = project / "build" / ".cache" / "small_board" / board.name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        top = Top(
            System(SmallCore(pace=2), CONFIG, clock_hz=CLOCK_HZ, flash_lines=board.flash_lines),
            board,
        )
        with toolchain.activated_tools():
            plan = board.platform().prepare(top, "top", debug_verilog=True, emit_src=False)
        text = plan.files["top.debug.v"]
        (folder / "top.v").write_bytes(text.encode() if isinstance(text, str) else text)
        return build_simulated_board(folder / "top.v", folder, board=board)


def crc16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE by its textbook loop."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x1021 if crc & 0x8000 else 0)) & 0xFFFF
    return crc


def program(words: npt.NDArray[np.uint16]) -> bytes:
    """A program for SmallCore: the words, END_WORD, CRC-16."""
    body = np.append(words, END_WORD).astype("<u2").tobytes()
    return body + crc16(body).to_bytes(2, "big")


def image(words: npt.NDArray[np.uint16]) -> bytes:
    """A flash image without a header's contents, for tests of the hardware alone."""
    return bytes(IMAGE_HEADER_BYTES) + program(words)
