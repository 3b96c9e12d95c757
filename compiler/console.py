"""Progress on standard error, so that results on standard output can be piped."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status
    from rich.text import Text


@dataclass(frozen=True, slots=True)
class _Shown:
    """A step that runs, with its time as it is whenever the terminal is drawn."""

    text: str
    started: float

    def __rich__(self) -> Text:
        from rich.text import Text

        return Text(f"{self.text} ({time.monotonic() - self.started:.0f} s)")


class Progress:
    """Steps with their times: a spinner on a terminal, one line a finished step elsewhere.

    Use as a context manager; `step` ends the step before it.
    """

    def __init__(self) -> None:
        self._console: Console | None = None
        self._status: Status | None = None
        self._step: str | None = None
        self._started = 0.0

    def __enter__(self) -> Progress:
        from rich.console import Console  # slow to import, and --help does not need it

        self._console = Console(stderr=True, highlight=False)
        if self._console.is_terminal:
            self._status = self._console.status("starting")
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self._finish()
        if self._status is not None:
            self._status.stop()

    def step(self, text: str) -> None:
        """Begin a step, such as "place and route"."""
        self._finish()
        self._step, self._started = text, time.monotonic()
        self.detail("")

    def detail(self, text: str) -> None:
        """Where the step is; shown on a terminal only."""
        if self._status is not None:
            more = f": {text}" if text else ""
            shown = _Shown(f"{self._step or 'working'}{more}", self._started)
            self._status.update(shown, spinner="dots")

    def note(self, text: str) -> None:
        """Something to be said aloud, such as a conversion of the user's data."""
        if self._console is not None:
            self._console.print(f"note: {text}", markup=False, soft_wrap=True)
        else:
            print(f"note: {text}", file=sys.stderr)

    def _finish(self) -> None:
        if self._step is not None and self._console is not None:
            seconds = time.monotonic() - self._started
            self._console.print(f"{seconds:7.1f} s  {self._step}", markup=False, soft_wrap=True)
        self._step = None
