"""Which board a compilation is for: what --target, --device and --board say together."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path

from qcompile.compiler.errors import InputError, UsageError
from qcompile.hw import boards, devices
from qcompile.hw.boards import Board, LinesBoard
from qcompile.hw.devices import Device
from qcompile.hw.lines import devices as lines_devices
from qcompile.hw.lines.devices import LinesDevice

AnyBoard = Board | LinesBoard
BOARDS: Mapping[str, AnyBoard] = ChainMap[str, AnyBoard](
    boards.LINES_BOARDS,  # type: ignore[arg-type]  # read only
    boards.BOARDS,  # type: ignore[arg-type]
)
"""The iCE40 boards come first: a ChainMap begins with its last mapping."""
DEVICES: dict[str, Device | LinesDevice] = {**devices.DEVICES, **lines_devices.DEVICES}
FAMILIES = tuple(dict.fromkeys(device.family for device in DEVICES.values()))


def choose_board(*, family: str | None, device: str | None, board: str | None) -> AnyBoard:
    """The first board that is all of what is asked for; None asks for nothing.

    So a family alone means its first device, and a device alone its first board. UsageError where
    nothing is asked for, a name is unknown, or no board is all of it.
    """
    board = None if board is None else board.replace("-", "_")
    asked = {"target": family, "device": device, "board": board}
    if not any(asked.values()):
        raise UsageError(
            "no target is given",
            help=f"add --target {', '.join(FAMILIES)}, --device {', '.join(DEVICES)} or "
            f"--board {', '.join(sorted(BOARDS))}",
        )
    _require_known("target", family, "device family", FAMILIES)
    _require_known("device", device, "device", tuple(DEVICES))
    _require_known("board", board, "board", tuple(BOARDS))
    for candidate in BOARDS.values():
        has = {
            "target": candidate.device.family,
            "device": candidate.device.name,
            "board": candidate.name,
        }
        if all(value in (None, has[option]) for option, value in asked.items()):
            return candidate
    words = " ".join(f"--{option} {value}" for option, value in asked.items() if value)
    raise UsageError(
        f"{words}: no board is all of that",
        help="choose one of " + "; ".join(_options(candidate) for candidate in BOARDS.values()),
    )


def default_boards() -> tuple[AnyBoard, ...]:
    """The first board of every device."""
    return tuple(
        choose_board(family=None, device=device, board=None)
        for device in dict.fromkeys(board.device.name for board in BOARDS.values())
    )


def board_of_build(folder: Path, name: str) -> AnyBoard:
    """The board that a build names; InputError where this qcompile has it not."""
    if name not in BOARDS:
        raise InputError(
            f"{folder}: is for the board '{name}', which this qcompile has not",
            help=f"compile the model again for one of {', '.join(sorted(BOARDS))}",
        )
    return BOARDS[name]


def _options(board: AnyBoard) -> str:
    return f"--device {board.device.name} --board {board.name}"


def _require_known(option: str, value: str | None, noun: str, known: tuple[str, ...]) -> None:
    if value is None or value in known:
        return
    choice = "choose" if len(known) == 1 else "choose one of"
    raise UsageError(
        f"--{option} {value}: no such {noun}",
        help=f"{choice} {', '.join(sorted(known))}; `qcompile targets` lists devices and boards",
    )
