"""--target, --device and --board: what they mean together, and what contradicts."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from qcompile.compiler import targets
from qcompile.compiler.errors import UsageError
from qcompile.hw.boards import BOARDS, Board
from qcompile.hw.boards.icebreaker import ICEBREAKER
from qcompile.hw.devices import DEVICES, UP5K


def board(name: str, device: str, family: str) -> Board:
    """A board that differs from the iCEBreaker in these names alone."""
    return replace(ICEBREAKER, name=name, device=replace(UP5K, name=device, family=family))


@pytest.fixture
def four_boards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two families; the first one has two devices, the first of them two boards."""
    known = (
        board("a1", "a", "ice40"),
        board("a2", "a", "ice40"),
        board("b1", "b", "ice40"),
        board("c1", "c", "xc7"),
    )
    monkeypatch.setattr(targets, "BOARDS", {each.name: each for each in known})
    monkeypatch.setattr(targets, "DEVICES", {each.device.name: each.device for each in known})
    monkeypatch.setattr(targets, "FAMILIES", ("ice40", "xc7"))


@pytest.mark.parametrize(
    ("family", "device", "name", "expected"),
    [
        ("ice40", None, None, "a1"),
        ("xc7", None, None, "c1"),
        (None, "b", None, "b1"),
        (None, None, "a2", "a2"),
        ("ice40", "a", "a2", "a2"),
        ("ice40", "b", None, "b1"),
    ],
)
@pytest.mark.usefixtures("four_boards")
def test_what_is_not_said_follows(
    family: str | None, device: str | None, name: str | None, expected: str
) -> None:
    assert targets.choose_board(family=family, device=device, board=name).name == expected


@pytest.mark.usefixtures("four_boards")
def test_every_device_has_its_first_board_as_default() -> None:
    assert [each.name for each in targets.default_boards()] == ["a1", "b1", "c1"]


@pytest.mark.parametrize(
    ("family", "device", "name", "words"),
    [
        (None, "b", "a1", "--device b --board a1"),
        ("xc7", "a", None, "--target xc7 --device a"),
        ("ice40", None, "c1", "--target ice40 --board c1"),
    ],
)
@pytest.mark.usefixtures("four_boards")
def test_contradictions_are_refused_with_the_choices(
    family: str | None, device: str | None, name: str | None, words: str
) -> None:
    message = (
        f"{words}: no board is all of that\n  help: choose one of --device a --board a1; "
        "--device a --board a2; --device b --board b1; --device c --board c1"
    )
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        targets.choose_board(family=family, device=device, board=name)


def test_boards_and_devices_are_known_by_their_own_names() -> None:
    assert [board.name for board in BOARDS.values()] == list(BOARDS)
    assert [device.name for device in DEVICES.values()] == list(DEVICES)
    for each in BOARDS.values():
        assert each.device is DEVICES[each.device.name]
        assert each.device.clock_hz % 3_000_000 == 0, "whole clocks of a bit at 3 Mbaud"
