"""What a terminal shows while a step runs, and what is left of it in a file."""

from __future__ import annotations

import io
import re
import time
from functools import partial

import pytest
import rich.console

from qcompile.compiler.console import Progress


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    """Everything that a step of a second and a half with a detail draws."""
    drawn = io.StringIO()
    made = partial(rich.console.Console, file=drawn, force_terminal=terminal, width=60)
    monkeypatch.setattr(rich.console, "Console", lambda **options: made(highlight=False))
    with Progress() as progress:
        progress.step("count [all]")
        time.sleep(1.5)
        progress.detail("half of it")
        time.sleep(0.3)
    return drawn.getvalue()


def test_a_terminal_shows_how_long_a_step_has_run(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=True)
    seconds = [int(n) for n in re.findall(r"count \[all\] \((\d+) s\)", text)]
    assert {0, 1} <= set(seconds) and seconds == sorted(seconds)
    assert re.search(r"count \[all\]: half of it \(\d+ s\)", text)


def test_a_file_gets_a_line_for_a_step_that_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=False)
    assert re.fullmatch(r" +\d\.\d s  count \[all\]\n", text)
