"""Errors that a user can cause, by family; `cli` prints them without a traceback, exit 1 or 2."""

from __future__ import annotations

from collections.abc import Sequence


class QcompileError(Exception):
    """Base of every error that a user can cause.

    Parameters
    ----------
    message : str
        What is wrong, naming the culprit: `model.onnx: Conv 'b2/conv' (node 14): ...`.
    context : sequence of str
        Facts that help to find it, a line each.
    help : str
        A way out. Empty only where there is none.
    problems : sequence of QcompileError
        Those that this error is the list of; empty where it is one itself.
    """

    def __init__(
        self,
        message: str,
        *,
        context: Sequence[str] = (),
        help: str = "",
        problems: Sequence[QcompileError] = (),
    ) -> None:
        self.message = message
        self.context = tuple(context)
        self.help = help
        self.problems = tuple(problems)
        super().__init__(self.render())

    def render(self) -> str:
        """The whole text: message, indented context, `help:` line."""
        lines = [self.message, *(f"  {line}" for line in self.context)]
        if self.help:
            lines.append(f"  help: {self.help}")
        return "\n".join(lines)


class ModelError(QcompileError):
    """The file is broken, or is not what it claims to be."""


class UnsupportedError(QcompileError):
    """Valid ONNX that qcompile does not do."""


class CapacityError(QcompileError):
    """Does not fit the chip: says what is needed, what there is, and which knob to turn."""


class VerifyError(QcompileError):
    """Our own bug: a pass left an invalid graph, or hardware and golden disagree."""


class InputError(QcompileError):
    """The user's input data, folder or device is not what the build needs."""


class UsageError(InputError):
    """A wrong option: exit code 2, as for those that the parser finds."""


class ToolError(QcompileError):
    """A tool that qcompile starts is missing, or failed."""
