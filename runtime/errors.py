"""The error that a user of a board can meet: what is wrong, facts, and a way out."""

from __future__ import annotations

from collections.abc import Sequence


class BoardError(Exception):
    """A board, a port or a build directory is not what the run needs.

    Parameters
    ----------
    message : str
        What is wrong, naming the culprit.
    context : sequence of str
        Facts that help to find it, a line each.
    help : str
        A way out.
    """

    def __init__(self, message: str, *, context: Sequence[str] = (), help: str) -> None:
        self.message = message
        self.context = tuple(context)
        self.help = help
        super().__init__(self.render())

    def render(self) -> str:
        """The whole text: message, indented context, `help:` line."""
        return "\n  ".join((self.message, *self.context, f"help: {self.help}"))
