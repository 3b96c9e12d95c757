"""The link to a board: its commands as functions, whatever carries them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from qcompile.runtime.errors import BoardError
from qcompile.runtime.protocol import ALL_LAYERS, Info, RunStatus

Words = npt.NDArray[np.uint32]
"""Memory words as beats of 32 bits; a wider word is several, low first."""


class Link(Protocol):
    """Commands to the accelerator of a board; each raises BoardError where it fails.

    Attributes
    ----------
    name : str
        How messages call the board: the port.
    """

    name: str

    def info(self) -> Info:
        """Which accelerator the bitstream holds."""
        ...

    def status(self) -> RunStatus:
        """State of the accelerator now; `cycles` may be torn while it runs."""
        ...

    def abort(self) -> None:
        """Reset the accelerator, in whatever it does; memory keeps its contents."""

    def start(self, program_address: int, *, stop_after: int = ALL_LAYERS) -> None:
        """Reset the accelerator and run the program at a byte address of the flash."""

    def resume(self, *, stop_after: int = ALL_LAYERS) -> None:
        """Go on after a pause; `stop_after` counts from the program's start."""

    def wait(self, timeout: float) -> RunStatus:
        """The status when the accelerator has stopped; BoardError after `timeout` seconds."""
        ...

    def write_all(self, parts: Sequence[tuple[int, Words]]) -> None:
        """Write several tensors, whole memory words, each from a memory address on."""

    def read_memory(self, address: int, count: int) -> Words:
        """Read `count` memory words, each of all its beats, from a memory address on."""
        ...

    def read_flash(self, address: int, count: int) -> bytes:
        """Read `count` bytes, 65535 at most, of the flash."""
        ...

    def close(self) -> None:
        """End the link."""


@runtime_checkable
class QueueLink(Link, Protocol):
    """A `Link` through which memory can be read and written during a run, where the accelerator
    allows that: inputs queue."""

    def wait(self, timeout: float, *, layers: int = ALL_LAYERS) -> RunStatus:
        """As `Link.wait`, or the status when so many layers have ended."""
        ...

    def lift_pause(self) -> None:
        """Run on behind the last `stop_after`, whether the accelerator has come there or not."""


def overdue(name: str, timeout: float) -> BoardError:
    """A run that did not end in time and was aborted."""
    return BoardError(
        f"{name}: the run did not end within {timeout:g} s and was aborted",
        help="try again; a board that does this always needs its bitstream anew",
    )


def silent_flash(name: str) -> BoardError:
    """A flash that cannot be read."""
    return BoardError(
        f"{name}: its flash does not answer",
        help="disconnect the board, connect it again and program it: qcompile flash DIR",
    )


def refused(name: str, command: str, reason: object) -> BoardError:
    """A command that the board does not accept now."""
    return BoardError(
        f"{name}: the board refuses {command}: {reason}",
        help="run again; a bitstream of another version needs qcompile flash DIR",
    )
