"""What stands in the cache is whole: interrupted work is wiped and done again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qcompile.compiler import cache
from qcompile.compiler.errors import InputError


def test_the_cache_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder("simulations") == tmp_path / "qcompile" / "simulations"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "beside")
    assert cache.cache_folder("simulations") == tmp_path / "beside" / "qcompile" / "simulations"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder("hardware") == tmp_path / ".cache" / "qcompile" / "hardware"


def test_what_is_done_is_not_made_again(tmp_path: Path) -> None:
    made: list[str] = []
    folder = tmp_path / "new" / "thing"

    def make() -> None:
        (folder / "result").write_text("x")
        made.append("one")

    cache.make_once(folder, make)
    cache.make_once(folder, make)
    assert made == ["one"]
    assert sorted(os.listdir(folder)) == ["done", "lock", "result"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_interrupted_work_leaves_nothing_to_the_next_try(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def interrupted() -> None:
        (tmp_path / "objects").mkdir()
        (tmp_path / "objects" / "half.gch").write_text("half")
        (tmp_path / "half.o").write_text("half")
        raise error

    with pytest.raises(error):
        cache.make_once(tmp_path, interrupted)
    found: list[str] = []
    cache.make_once(tmp_path, lambda: found.extend(os.listdir(tmp_path)))
    assert found == ["lock"]


def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from qcompile.compiler import cache\n"
        "with cache.locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None and other.stdout is not None, "opened with pipes"
        assert other.stdout.readline() == "held\n"
        told: list[str] = []

        def waiting() -> None:
            told.append("waits")
            assert other.stdin is not None
            other.stdin.close()

        with cache.locked(tmp_path, waiting=waiting):
            assert other.wait(timeout=10) == 0
    assert told == ["waits"]


def test_a_cache_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "simulations"
    with pytest.raises(InputError) as raised:
        cache.make_once(folder, lambda: None)
    assert str(raised.value) == (
        f"{folder}: the cache cannot be written: Not a directory\n"
        "  help: set XDG_CACHE_HOME to a folder that you may write"
    )
