"""The boards that bitstreams are made for; the first of a device is its default."""

from qcompile.hw.boards.arty_a7 import ARTY_A7_35T, ARTY_A7_100T
from qcompile.hw.boards.board import Board, BoardPorts
from qcompile.hw.boards.ice40_hx8k_b_evn import ICE40_HX8K_B_EVN
from qcompile.hw.boards.icebreaker import ICEBREAKER
from qcompile.hw.boards.lines_board import LinesBoard
from qcompile.hw.boards.pynq_z2 import PYNQ_Z2
from qcompile.hw.boards.upduino_v3 import UPDUINO_V3

BOARDS = {board.name: board for board in (ICEBREAKER, UPDUINO_V3, ICE40_HX8K_B_EVN)}
LINES_BOARDS = {board.name: board for board in (ARTY_A7_100T, ARTY_A7_35T, PYNQ_Z2)}
"""Boards with an array of lines; the first is the family's default."""

__all__ = ["BOARDS", "LINES_BOARDS", "Board", "BoardPorts", "LinesBoard"]
