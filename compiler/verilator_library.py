"""Verilator's own library, nine tenths of what a simulation has to compile, compiled once.

Its files are the same in every simulation that is made with the same options; only the main program
and what Verilator writes are not.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from qcompile.compiler.cache import locked
from qcompile.compiler.toolchain import run_tool

OBJECTS = "verilated*.o"
PROGRAMS = (("verilator", "--version"), ("g++", "-dumpfullversion"))
AN_HOUR = 3600
SPLIT = ("--output-split", "30000")
"""One file of C++ for all but large arrays: several are compiled with headers compiled first, which
takes longer than what they save on one core."""


@contextlib.contextmanager
def shared_library(cache: Path, folder: Path, options: Sequence[str]) -> Iterator[None]:
    """Compile a simulation in `folder` inside the block, with the library's files from `cache`.

    Those that are not there yet are taken from the folder when the block ends without an error.
    `options` are all that the compiler's command line depends on beside the programs' versions.
    """
    folder.mkdir(exist_ok=True)
    versions = [run_tool(program, cwd=folder) for program in PROGRAMS]
    key = "\0".join((*versions, *options))
    shared = cache / f"library-{hashlib.sha256(key.encode()).hexdigest()[:20]}"
    with locked(shared):
        _copy(shared, folder)
    yield
    with locked(shared):
        _copy(folder, shared)


def _copy(source: Path, target: Path) -> None:
    """Copy what the target lacks, whole or not at all.

    Dated an hour ahead: make wants the files newer than the makefile, which is still to be written.
    """
    later = time.time() + AN_HOUR
    for path in source.glob(OBJECTS):
        if not (target / path.name).exists():
            partial = target / f"{path.name}.partial"
            shutil.copyfile(path, partial)
            os.utime(partial, (later, later))
            partial.rename(target / path.name)
