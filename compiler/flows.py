"""Which flow a board has."""

from __future__ import annotations

from qcompile.compiler.flow import Flow
from qcompile.compiler.lines.flow import LinesFlow
from qcompile.compiler.small_flow import SmallFlow
from qcompile.hw.boards import Board, LinesBoard


def flow_of(board: Board | LinesBoard) -> Flow:
    """The small array's, or that of an array of lines."""
    return LinesFlow(board) if isinstance(board, LinesBoard) else SmallFlow(board)
