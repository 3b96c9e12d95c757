"""Which flow a board has."""

from __future__ import annotations

from collections.abc import Sequence

from qcompile.compiler.flow import Flow
from qcompile.compiler.lines.flow import LinesFlow
from qcompile.compiler.lines.sizing import SizesOf
from qcompile.compiler.small_flow import SmallFlow
from qcompile.compiler.targets import AnyBoard
from qcompile.hw.boards import LinesBoard


def flow_of(board: AnyBoard) -> Flow:
    """The small array's, or that of an array of lines."""
    return flows_of([board])[0]


def flows_of(boards: Sequence[AnyBoard]) -> list[Flow]:
    """A flow for each board; those of arrays of lines size a model once for all of them."""
    sizes = SizesOf()
    return [
        LinesFlow(board, sizes) if isinstance(board, LinesBoard) else SmallFlow(board)
        for board in boards
    ]
