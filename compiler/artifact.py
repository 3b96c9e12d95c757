"""The build directory: written beside its place and renamed, so that it is whole or not there.

Its contents are listed in docs/architecture.md section 8. The manifest records the sha256 of every
part; `open_build` checks them, so that nothing runs on a directory that was edited or cut.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler.errors import InputError
from qcompile.runtime.artifact import manifest_digest

MANIFEST = "manifest.json"
OWN_FILES = frozenset(
    {
        *("accelerator.v", "flash.bin", "golden.npz", MANIFEST, "model.onnx", "report.json"),
        *("report.txt", "sim.json", "top.bin", "top.pcf", "top.v"),
        *("build.tcl", "openxc7.sh", "selftest.npz", "stored.npz", "top.bit", "top.xdc"),
    }
)
"""What may stand in a build directory besides the model's external data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A build directory whose parts are as the manifest says."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def model(self) -> Path:
        """The copy of the ONNX file."""
        return self.folder / str(self.manifest["model"]["file"])

    @property
    def report(self) -> dict[str, Any]:
        """report.json."""
        return _read_json(self.folder / "report.json")


def check_destination(folder: Path, sha256: str, *, force: bool) -> None:
    """Refuse a folder that must not be replaced by a build of the model `sha256`.

    Replaced is what is absent, empty, or a build of the same model; with `force` any build.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder}: is no folder", help="choose another one with -o")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / MANIFEST).is_file():
        raise InputError(
            f"{folder}: holds files that are no build of qcompile",
            help="choose another folder with -o, or empty this one",
        )
    held = _held_model(folder)
    if held.get("sha256") != sha256 and not force:
        raise InputError(
            f"{folder}: holds a build of another model",
            context=(f"it is '{held.get('name')}' with sha256 {str(held.get('sha256'))[:16]}...",),
            help="replace it with --force, or choose another folder with -o",
        )


def _held_model(folder: Path) -> dict[str, Any]:
    """The manifest's `model`; an unreadable manifest holds an unknown model."""
    try:
        held = _read_json(folder / MANIFEST).get("model")
    except InputError:
        return {}
    return held if isinstance(held, dict) else {}


def write_build(folder: Path, files: Mapping[str, bytes], manifest: Mapping[str, Any]) -> None:
    """Write all files and a manifest with their sha256; `folder` appears, or changes, at once.

    `check_destination` must have accepted the folder. The user's own files in it stay: all that is
    no part of the build that it holds.
    """
    parts = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    with _new_folder(folder) as beside:
        if folder.exists():
            _keep(folder, beside, Path(), OWN_FILES | _held_parts(folder))
        for name, content in files.items():
            target = beside / name
            if target.exists():
                raise InputError(
                    f"{folder / name}: is a file of yours, and the new build has one of that name",
                    help="move it away, or choose another folder with -o",
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        record = {**manifest, "parts": parts}
        (beside / MANIFEST).write_text(to_json({**record, "digest": manifest_digest(record)}))


def _held_parts(folder: Path) -> frozenset[str]:
    """Names of the parts of the build in a folder; none where its manifest cannot be read."""
    try:
        parts = _read_json(folder / MANIFEST).get("parts")
    except InputError:
        return frozenset()
    return frozenset(parts) if isinstance(parts, dict) else frozenset()


def _keep(folder: Path, beside: Path, below: Path, own: frozenset[str]) -> None:
    """Link what lies in `folder` under `below` into `beside`, but for the files `own`."""
    for path in (folder / below).iterdir():
        inner = below / path.name
        if inner.as_posix() in own:
            continue
        if any(name.startswith(f"{inner.as_posix()}/") for name in own) and path.is_dir():
            _keep(folder, beside, inner, own)
            continue
        target = beside / inner
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, target, symlinks=True, copy_function=_link)
        else:
            _link(path, target)


def _link(path: str | Path, target: str | Path) -> None:
    """A second name for a file, so that large ones cost nothing; a copy where that cannot be."""
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(path, target, follow_symlinks=False)


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that takes its place when the block ends well, or goes away."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        yield beside
        beside.chmod(0o777 & ~_umask())
        _exchange(beside, folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _exchange(beside: Path, folder: Path) -> None:
    """Move `beside` to `folder`; what was there is put back if that fails, else deleted."""
    if not folder.exists():
        beside.rename(folder)
        return
    old = beside.with_name(f"{beside.name}.old")
    folder.rename(old)
    try:
        beside.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_file(path: Path, content: bytes | str) -> None:
    """Write a single file beside its place and rename it; a link's target is what is replaced."""
    data = content.encode() if isinstance(content, str) else content
    try:
        path = path.resolve()
        if path.exists() and not path.is_file():
            raise InputError(
                f"{path}: is no plain file, and is not replaced",
                help="choose another place with -o",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    beside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        beside.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: cannot be written: {error.strerror or error}",
        help="choose another place with -o",
    )


def open_build(folder: Path) -> Build:
    """Read a build directory; InputError where it is none, or a part is missing or changed."""
    again = "compile the model again"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", help="give the folder that compile wrote")
    if not (folder / MANIFEST).is_file():
        raise InputError(
            f"{folder}: is no build of qcompile: it has no {MANIFEST}",
            help="give the folder that compile wrote",
        )
    manifest = _read_json(folder / MANIFEST)
    if not {"parts", "model", "digest"} <= manifest.keys():
        raise InputError(f"{folder / MANIFEST}: is not complete", help=again)
    if manifest["digest"] != manifest_digest(manifest):
        raise InputError(f"{folder / MANIFEST}: was changed after compiling", help=again)
    for name, digest in manifest["parts"].items():
        path = folder / name
        if not path.is_file():
            raise InputError(f"{folder}: its part '{name}' is missing", help=again)
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise InputError(f"{folder}: its part '{name}' was changed after compiling", help=again)
    return Build(folder=folder, manifest=manifest)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read ({error})", help="compile the model again") from (
            error
        )
    if not isinstance(content, dict):
        raise InputError(f"{path}: is no JSON object", help="compile the model again")
    return content


def to_json(record: Mapping[str, Any]) -> str:
    """JSON as our files have it; a NaN or infinity in it is our bug."""
    return json.dumps(record, indent=2, allow_nan=False) + "\n"


def to_npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """An npz as our files have it."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()
