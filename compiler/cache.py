"""The user's cache: what takes minutes to make and serves again, a folder for each thing.

A folder holds `lock`, which the process that works in it holds, and `done` when what is in it is
whole. Work that was interrupted leaves a folder without `done`; nothing of it is used again: a
compiler that was killed leaves files that look finished and are not.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from qcompile.compiler.errors import InputError

LOCK = "lock"
DONE = "done"
ONCE = "once for each accelerator"
"""What a step that fills a folder adds to its name, so that nobody expects the wait again."""


def cache_folder(kind: str) -> Path:
    """Where made things of one kind stay between runs: in the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root).absolute() / "qcompile" / kind


@contextlib.contextmanager
def locked(folder: Path, *, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Make the folder and hold it until the block ends; `waiting` is called before a wait."""
    with _open_lock(folder) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _open_lock(folder: Path) -> TextIO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / LOCK).open("w")
    except OSError as error:
        raise InputError(
            f"{folder}: the cache cannot be written: {error.strerror or error}",
            help="set XDG_CACHE_HOME to a folder that you may write",
        ) from error


def make_once(folder: Path, make: Callable[[], None]) -> None:
    """Call `make` to fill the folder, unless that was done before; one process at a time.

    `make` finds the folder empty but for the lock, and counts as done when it returns.
    """
    with locked(folder):
        if (folder / DONE).exists():
            return
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()
        make()
        (folder / DONE).touch()
