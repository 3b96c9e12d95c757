"""The build directory appears whole or not at all, and is refused when it was changed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from qcompile.compiler import artifact
from qcompile.compiler.errors import InputError

FILES = {"model.onnx": b"model", "accelerator.v": b"module", "parts/extra.bin": b"\x00\x01"}


def manifest(sha256: str = "11") -> dict[str, Any]:
    """As small as a manifest can be."""
    return {"model": {"name": "m", "file": "model.onnx", "sha256": sha256}}


def refusal(function: Any, *arguments: Any, **options: Any) -> str:
    """The message of the InputError that a call raises."""
    with pytest.raises(InputError) as raised:
        function(*arguments, **options)
    return str(raised.value)


def test_a_build_is_written_and_opened(tmp_path: Path) -> None:
    folder = tmp_path / "build" / "m"
    artifact.write_build(folder, FILES, manifest())
    build = artifact.open_build(folder)
    assert build.model.read_bytes() == b"model"
    assert sorted(build.manifest["parts"]) == sorted(FILES)
    assert [path.name for path in folder.parent.iterdir()] == ["m"]
    assert folder.stat().st_mode & 0o700 == 0o700


def test_a_build_replaces_the_one_before_as_a_whole(tmp_path: Path) -> None:
    artifact.write_build(tmp_path / "m", FILES, manifest())
    (tmp_path / "m" / "sim.json").write_text("{}")
    artifact.write_build(tmp_path / "m", {"model.onnx": b"new"}, manifest())
    assert sorted(os.listdir(tmp_path / "m")) == ["manifest.json", "model.onnx"]
    assert os.listdir(tmp_path) == ["m"]


def test_the_users_own_files_stay_when_a_build_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    artifact.write_build(folder, FILES, manifest())
    for name in ("notes.txt", "parts/mine.txt", "runs/1/x.npz", "top.bin", "sim.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "latest").symlink_to("runs/1")
    (folder / "gone").symlink_to("nowhere")
    (folder / "empty").mkdir()
    artifact.write_build(folder, {"model.onnx": b"new"}, manifest("22"))
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    assert found == [
        *("empty", "gone", "latest", "manifest.json", "model.onnx", "notes.txt"),
        *("parts", "parts/mine.txt", "runs", "runs/1", "runs/1/x.npz"),
    ], "but neither a part of the old build nor what names of ours promise"
    for name in ("notes.txt", "parts/mine.txt", "runs/1/x.npz"):
        assert (folder / name).read_text() == name
    assert os.readlink(folder / "latest") == "runs/1"
    assert artifact.open_build(folder).model.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["m"]


def test_the_users_own_files_stay_where_the_new_build_fails(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    artifact.write_build(folder, FILES, manifest())
    (folder / "weights.data").write_text("mine")
    message = refusal(artifact.write_build, folder, {"weights.data": b"theirs"}, manifest("22"))
    assert message == (
        f"{folder}/weights.data: is a file of yours, and the new build has one of that name\n"
        "  help: move it away, or choose another folder with -o"
    )
    assert (folder / "weights.data").read_text() == "mine"
    assert artifact.open_build(folder).model.read_bytes() == b"model"


def test_files_are_copied_where_they_cannot_be_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    artifact.write_build(tmp_path / "m", FILES, manifest())
    (tmp_path / "m" / "notes.txt").write_text("mine")
    artifact.write_build(tmp_path / "m", FILES, manifest())
    assert (tmp_path / "m" / "notes.txt").read_text() == "mine"


def test_a_build_with_a_broken_manifest_is_replaced(tmp_path: Path) -> None:
    artifact.write_build(tmp_path / "m", FILES, manifest())
    (tmp_path / "m" / "manifest.json").write_text("{")
    artifact.write_build(tmp_path / "m", {"model.onnx": b"new"}, manifest())
    assert artifact.open_build(tmp_path / "m").model.read_bytes() == b"new"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_nothing_is_left_behind_when_writing_ends_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    artifact.write_build(tmp_path / "m", FILES, manifest())

    def fail(record: object) -> str:
        raise error

    monkeypatch.setattr(artifact, "to_json", fail)
    with pytest.raises(error):
        artifact.write_build(tmp_path / "m", {"model.onnx": b"new"}, manifest())
    with pytest.raises(error):
        artifact.write_build(tmp_path / "other", FILES, manifest())
    assert os.listdir(tmp_path) == ["m"]
    assert artifact.open_build(tmp_path / "m").model.read_bytes() == b"model"


def test_the_old_build_stays_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact.write_build(tmp_path / "m", FILES, manifest())
    rename = Path.rename

    def fail_for_new(path: Path, target: Path) -> Path:
        if path.name.startswith(".m.") and not path.name.endswith(".old"):
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_for_new)
    message = refusal(artifact.write_build, tmp_path / "m", {"model.onnx": b"new"}, manifest())
    assert message.startswith(f"{tmp_path}/m: cannot be written: No space left on device")
    assert artifact.open_build(tmp_path / "m").model.read_bytes() == b"model"
    assert os.listdir(tmp_path) == ["m"]


def test_destinations_that_may_be_replaced(tmp_path: Path) -> None:
    artifact.check_destination(tmp_path / "absent", "11", force=False)
    (tmp_path / "empty").mkdir()
    artifact.check_destination(tmp_path / "empty", "11", force=False)
    artifact.write_build(tmp_path / "m", FILES, manifest("11"))
    artifact.check_destination(tmp_path / "m", "11", force=False)
    artifact.check_destination(tmp_path / "m", "22", force=True)


def test_a_build_of_another_model_is_refused_without_force(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    artifact.write_build(folder, FILES, manifest("11" * 32))
    assert refusal(artifact.check_destination, folder, "22" * 32, force=False) == (
        f"{folder}: holds a build of another model\n"
        "  it is 'm' with sha256 1111111111111111...\n"
        "  help: replace it with --force, or choose another folder with -o"
    )


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_of_other_files_is_never_replaced(tmp_path: Path, force: bool) -> None:
    (tmp_path / "precious.txt").write_text("x")
    assert refusal(artifact.check_destination, tmp_path, "11", force=force) == (
        f"{tmp_path}: holds files that are no build of qcompile\n"
        "  help: choose another folder with -o, or empty this one"
    )
    file = tmp_path / "precious.txt"
    assert refusal(artifact.check_destination, file, "11", force=force).startswith(
        f"{file}: is no folder"
    )


def test_opening_something_else_is_refused(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    assert refusal(artifact.open_build, absent).startswith(f"{absent}: no such folder")
    assert refusal(artifact.open_build, tmp_path).startswith(
        f"{tmp_path}: is no build of qcompile: it has no manifest.json"
    )
    (tmp_path / "manifest.json").write_text("{")
    assert "manifest.json: cannot be read (" in refusal(artifact.open_build, tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    assert "manifest.json: is no JSON object" in refusal(artifact.open_build, tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"parts": {}}))
    assert "manifest.json: is not complete" in refusal(artifact.open_build, tmp_path)


def test_a_changed_or_missing_part_is_named(tmp_path: Path) -> None:
    artifact.write_build(tmp_path / "m", FILES, manifest())
    (tmp_path / "m" / "accelerator.v").write_bytes(b"modulo")
    assert refusal(artifact.open_build, tmp_path / "m") == (
        f"{tmp_path}/m: its part 'accelerator.v' was changed after compiling\n"
        "  help: compile the model again"
    )
    (tmp_path / "m" / "accelerator.v").unlink()
    assert "its part 'accelerator.v' is missing" in refusal(artifact.open_build, tmp_path / "m")


def test_a_single_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "sim.json"
    artifact.write_file(path, "one")
    artifact.write_file(path, b"two")
    assert path.read_text() == "two"
    assert os.listdir(path.parent) == ["sim.json"]
    blocked = path / "below"
    assert refusal(artifact.write_file, blocked, "x").startswith(f"{blocked}: cannot be written: ")


@pytest.mark.parametrize("name", ["fifo", "link"])
def test_what_is_no_plain_file_is_never_replaced(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    assert refusal(artifact.write_file, tmp_path / name, "x") == (
        f"{tmp_path}/fifo: is no plain file, and is not replaced\n"
        "  help: choose another place with -o"
    )
    assert (tmp_path / "fifo").is_fifo()
    assert sorted(os.listdir(tmp_path)) == ["fifo", "link"]


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("sim.json")
    artifact.write_file(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "sim.json").read_text() == "x"


def test_an_edited_manifest_is_named(tmp_path: Path) -> None:
    artifact.write_build(tmp_path / "m", FILES, {**manifest(), "clock_hz": 24})
    path = tmp_path / "m" / "manifest.json"
    path.write_text(path.read_text().replace("24", "25"))
    assert refusal(artifact.open_build, tmp_path / "m") == (
        f"{path}: was changed after compiling\n  help: compile the model again"
    )


def test_json_with_nan_is_our_bug() -> None:
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        artifact.to_json({"x": float("nan")})
