"""Verilator's library is compiled once, and only by builds that ended well."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompile.compiler.verilator_library import OBJECTS, shared_library


def build(cache: Path, folder: Path, *options: str, fails: bool = False) -> set[str]:
    """What a build finds, newer than its makefile, before it makes all that is missing."""
    folder.mkdir()
    with shared_library(cache, folder, options):
        (folder / "Vtop.mk").touch()
        made = (folder / "Vtop.mk").stat().st_mtime
        found = {path.name for path in folder.glob(OBJECTS) if path.stat().st_mtime > made}
        for name in ("verilated.o", "verilated_vpi.o"):
            (folder / name).write_text("whole")
        (folder / "Vtop.o").write_text("one simulation's own")
        if fails:
            raise OSError("the compiler was killed")
    return found


def test_a_second_build_finds_the_library_and_nothing_else(tmp_path: Path) -> None:
    assert build(tmp_path, tmp_path / "first", "-O3") == set()
    assert build(tmp_path, tmp_path / "second", "-O3") == {"verilated.o", "verilated_vpi.o"}


def test_other_options_make_another_library(tmp_path: Path) -> None:
    assert build(tmp_path, tmp_path / "first", "-O3") == set()
    assert build(tmp_path, tmp_path / "second", "-O0") == set()


def test_a_build_that_failed_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="killed"):
        build(tmp_path, tmp_path / "first", "-O3", fails=True)
    assert build(tmp_path, tmp_path / "second", "-O3") == set()
