"""The boards that bitstreams are made for; the first of a device is its default."""

from qcompile.hw.boards.board import Board, BoardPorts
from qcompile.hw.boards.icebreaker import ICEBREAKER

BOARDS = {board.name: board for board in (ICEBREAKER,)}

__all__ = ["BOARDS", "Board", "BoardPorts"]
