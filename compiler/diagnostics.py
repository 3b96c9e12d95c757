"""Collects the problems of a model, so that a user sees all of them at once."""

from __future__ import annotations

from qcompile.compiler.errors import ModelError, QcompileError, UnsupportedError

LONGEST_NAME = 200


def printable(name: str) -> str:
    """A name of the model's for a terminal: control characters escaped, the middle cut."""
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
    if len(escaped) <= LONGEST_NAME:
        return escaped
    half = LONGEST_NAME // 2
    return f"{escaped[:half]}...{escaped[-half:]}"


class Problems:
    """Problems found so far; `raise_if_any` ends the compilation with one error for all.

    Parameters
    ----------
    file : str
        Name of the model's file, with which every message starts.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._found: list[QcompileError] = []

    def broken(self, message: str, *, context: tuple[str, ...] = (), help: str = "") -> None:
        """The file is not what it claims to be."""
        self._found.append(ModelError(f"{self.file}: {message}", context=context, help=help))

    def unsupported(self, message: str, *, context: tuple[str, ...] = (), help: str = "") -> None:
        """Valid ONNX that qcompile does not do."""
        self._found.append(UnsupportedError(f"{self.file}: {message}", context=context, help=help))

    @property
    def any(self) -> bool:
        """Whether a problem was found."""
        return bool(self._found)

    def raise_if_any(self) -> None:
        """Raise the one problem, or an error that lists them all in the order of discovery."""
        if not self._found:
            return
        if len(self._found) == 1:
            raise self._found[0]
        broken = any(isinstance(problem, ModelError) for problem in self._found)
        family = ModelError if broken else UnsupportedError
        lines = [line for problem in self._found for line in problem.render().splitlines()]
        raise family(
            f"{self.file}: {len(self._found)} problems", context=lines, problems=self._found
        )
