"""Reads a build directory for the runtime: manifest, flash image, golden vectors.

Parts that are there are checked against the manifest's sha256; a board's host needs only
manifest.json and flash.bin, golden.npz for a self-test, and of an array of lines stored.npz and
selftest.npz where the manifest speaks of them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.runtime import layouts
from qcompile.runtime.classes import Classes, find_classes
from qcompile.runtime.errors import BoardError
from qcompile.runtime.input_queue import InputQueue
from qcompile.runtime.inputs import InputSpec

MANIFEST = "manifest.json"
FLASH_IMAGE = "flash.bin"
BITSTREAM = "top.bin"
XC7_BITSTREAM = "top.bit"
GOLDEN = "golden.npz"
STORED = "stored.npz"
MULTIPLY_TEST = "selftest.npz"
AGAIN = "compile the model again, and copy the whole directory"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a tensor lies in the accelerator's memory; `shape` is channels, height, width.

    A layer's stands there when `done` layers of the program have ended. Memory words have
    `word_bytes` channels of a pixel; rows of pixels are `pitch` words apart. With `turned_bit`
    words lie as `layouts.word_order` says. With `halves` each code takes two channels, its low
    four bits and then the others.
    """

    name: str
    address: int
    shape: tuple[int, int, int]
    words: int
    word_bytes: int
    pitch: int
    done: int = 0
    turned_bit: int | None = None
    halves: bool = False

    def pack(self, codes: npt.NDArray[np.int8]) -> npt.NDArray[np.uint32]:
        """The tensor's codes, in any shape of the right size, as memory words."""
        return layouts.pack_tensor(codes.reshape(self.shape), self.word_bytes, self.pitch)

    def unpack(self, words: npt.NDArray[np.uint32]) -> npt.NDArray[np.int8]:
        """Memory words as codes [channels, height, width]."""
        if self.turned_bit is not None:
            order = layouts.word_order(self.address, self.words, self.turned_bit)
            words = words.reshape(self.words, -1)[order].reshape(-1)
        codes = layouts.unpack_tensor(
            words, *self.shape, word_bytes=self.word_bytes, pitch=self.pitch
        )
        if not self.halves:
            return codes
        return codes[::2] & 15 | codes[1::2] << 4


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiplyTest:
    """A second program of a build, whose layer every multiplier of the array takes part in."""

    program_address: int
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A build directory, as far as the runtime needs it.

    Attributes
    ----------
    folder : Path
    model_name, model_sha256, family, board, loader_board : str
        `loader_board` is openFPGALoader's name of the board.
    loader_cable : str or None
        openFPGALoader's name of the programmer where it is not the board's.
    inputs : tuple of InputSpec
        The model's own inputs.
    outputs : dict of str to tuple
        Shapes [1, ...] of the model's own outputs, by name.
    prologue, epilogue : tuples of dicts
        Host operations, for `runtime.host_ops`.
    accelerator_inputs, accelerator_outputs, layers : tuples of Place
        Layers whose tensor the model names, in the order of the program.
    stored : tuple of Place
        Constant operands, which are written before each run, where inputs queue before the first.
    queue : InputQueue or None
    multiply_test : MultiplyTest or None
    header : ImageHeader
        Of the build's flash image.
    program_address : int
        Byte address of the program in the flash.
    load_address : int or None
        Of a program that brings weights that stay, before the first run.
    clock_hz : int
    note : str or None
        Something to be said aloud of the build.
    """

    folder: Path
    model_name: str
    model_sha256: str
    family: str
    board: str
    loader_board: str
    loader_cable: str | None
    inputs: tuple[InputSpec, ...]
    outputs: dict[str, tuple[int, ...]]
    prologue: tuple[dict[str, Any], ...]
    epilogue: tuple[dict[str, Any], ...]
    accelerator_inputs: tuple[Place, ...]
    accelerator_outputs: tuple[Place, ...]
    layers: tuple[Place, ...]
    stored: tuple[Place, ...]
    queue: InputQueue | None
    multiply_test: MultiplyTest | None
    header: layouts.ImageHeader
    program_address: int
    load_address: int | None
    clock_hz: int
    note: str | None

    @property
    def classes(self) -> Classes | None:
        """The output that holds scores of classes; None where the model has none."""
        return find_classes(self.outputs, [spec.shape for spec in self.inputs])

    def part(self, name: str) -> Path:
        """Path of a part that must be there."""
        path = self.folder / name
        if not path.is_file():
            raise BoardError(f"{self.folder}: its part '{name}' is missing", help=AGAIN)
        return path

    def tensors(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Arrays of an npz that must be there."""
        path = self.part(name)
        try:
            with np.load(path) as archive:
                return {key: archive[key] for key in archive.files}
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise BoardError(f"{path}: cannot be read ({error})", help=AGAIN) from error


def open_artifact(folder: Path) -> Artifact:
    """Read a build directory; BoardError where it is none, or a part was changed."""
    manifest = _read_manifest(folder)
    if "digest" not in manifest:
        raise BoardError(f"{folder / MANIFEST}: is not complete: it has no digest", help=AGAIN)
    if manifest["digest"] != manifest_digest(manifest):
        raise BoardError(f"{folder / MANIFEST}: was changed after compiling", help=AGAIN)
    try:
        _check_parts(folder, manifest["parts"])
        return _from_manifest(folder, manifest)
    except (KeyError, TypeError, AttributeError) as error:
        raise BoardError(
            f"{folder / MANIFEST}: is not complete ({type(error).__name__}: {error})", help=AGAIN
        ) from error


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """sha256 of a manifest's content without its own `digest`, as sorted JSON without blanks."""
    content = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(
        json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def version_note(manifest: Mapping[str, Any]) -> str | None:
    """What to say of a build of another version of qcompile; None of one of this version."""
    try:
        installed = importlib.metadata.version("qcompile")
    except importlib.metadata.PackageNotFoundError:
        return None
    written = manifest.get("qcompile")
    if written == installed:
        return None
    return f"the build is of qcompile {written}, and this is {installed}"


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError as error:
        raise BoardError(
            f"{folder}: is no build directory: it has no {MANIFEST}",
            help="give the folder that compile wrote",
        ) from error
    except NotADirectoryError as error:
        raise BoardError(
            f"{folder}: is a file, no build directory", help="give the folder that compile wrote"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise BoardError(f"{folder / MANIFEST}: cannot be read ({error})", help=AGAIN) from error
    if not isinstance(manifest, dict):
        raise BoardError(f"{folder / MANIFEST}: is no JSON object", help=AGAIN)
    return manifest


def _check_parts(folder: Path, parts: Mapping[str, str]) -> None:
    for name, digest in parts.items():
        path = folder / name
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise BoardError(f"{folder}: its part '{name}' was changed after compiling", help=AGAIN)


def _from_manifest(folder: Path, manifest: Mapping[str, Any]) -> Artifact:
    accelerator = manifest["accelerator"]
    return Artifact(
        folder=folder,
        model_name=manifest["model"]["name"],
        model_sha256=manifest["model"]["sha256"],
        family=manifest["target"]["family"],
        board=manifest["target"]["board"],
        loader_board=manifest["target"]["loader"],
        loader_cable=manifest["target"]["cable"],
        inputs=tuple(_input_spec(value) for value in manifest["inputs"]),
        outputs={value["name"]: tuple(value["shape"]) for value in manifest["outputs"]},
        prologue=tuple(manifest["prologue"]),
        epilogue=tuple(manifest["epilogue"]),
        accelerator_inputs=tuple(read_place(entry, "value") for entry in accelerator["inputs"]),
        accelerator_outputs=tuple(read_place(entry, "value") for entry in accelerator["outputs"]),
        layers=tuple(read_place(entry, "name") for entry in accelerator["layers"]),
        stored=tuple(read_place(entry, "value") for entry in accelerator.get("stored", ())),
        queue=_input_queue(accelerator),
        multiply_test=_multiply_test(manifest),
        header=_image_header(folder, manifest),
        program_address=int(manifest["program"]["offset"]),
        load_address=manifest["program"].get("load"),
        clock_hz=int(manifest["clock_hz"]),
        note=version_note(manifest),
    )


def _input_spec(value: Mapping[str, Any]) -> InputSpec:
    quantization = value["quantization"] or {}
    floating = value["dtype"] == "float32"
    return InputSpec(
        name=value["name"],
        shape=tuple(value["shape"]),
        dtype=value["dtype"],
        scale=None if floating else quantization.get("scale"),
        zero_point=quantization.get("zero_point", 0),
    )


def _input_queue(accelerator: Mapping[str, Any]) -> InputQueue | None:
    queue = accelerator.get("queue")
    return None if queue is None else InputQueue(**queue)


def _multiply_test(manifest: Mapping[str, Any]) -> MultiplyTest | None:
    test = manifest.get("selftest")
    if test is None:
        return None
    return MultiplyTest(
        program_address=int(test["program"]),
        inputs=tuple(read_place(entry, "value") for entry in test["inputs"]),
        outputs=tuple(read_place(entry, "value") for entry in test["outputs"]),
    )


def read_place(entry: Mapping[str, Any], key: str) -> Place:
    """A place of a manifest, under the name that it has at `key`.

    The small machine's have words of four bytes and no room between rows.
    """
    channels, height, width = entry["shape"][-3:]
    return Place(
        name=entry[key],
        address=int(entry["address"]),
        shape=(channels, height, width),
        words=int(entry["words"]),
        word_bytes=int(entry.get("word_bytes", layouts.WORD_CHANNELS)),
        pitch=int(entry.get("pitch", width)),
        done=int(entry["done"]) if key == "name" else 0,
        turned_bit=entry.get("turned_bit"),
        halves=bool(entry.get("halves", False)),
    )


def _image_header(folder: Path, manifest: Mapping[str, Any]) -> layouts.ImageHeader:
    """The flash image's header, checked against image and manifest."""
    path = folder / FLASH_IMAGE
    try:
        image = path.read_bytes()
        header = layouts.parse_image_header(image)
        address = int(manifest["program"]["offset"])
        whole = layouts.program_is_whole(image, address - layouts.image_address(address))
    except (OSError, ValueError) as error:
        raise BoardError(f"{path}: cannot be used ({error})", help=AGAIN) from error
    if not whole or header.model_sha256 != manifest["model"]["sha256"]:
        raise BoardError(f"{path}: is not the flash image of this build", help=AGAIN)
    return header
