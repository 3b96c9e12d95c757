"""The runtime's reader of build directories, and its layouts against the hardware's."""

from __future__ import annotations

import importlib.metadata
import json
import re
from pathlib import Path

import numpy as np
import pytest

from qcompile.hw import layouts as hw_layouts
from qcompile.runtime import layouts
from qcompile.runtime.artifact import Place, open_artifact
from qcompile.runtime.errors import BoardError
from sim_tests.compiler.lines_walker import memory_words
from sim_tests.runtime import small_build


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 7), (4, 2, 2), (9, 1, 6)])
def test_tensors_are_packed_as_the_hardware_packs_them(
    shape: tuple[int, int, int], rng: np.random.Generator
) -> None:
    codes = rng.integers(-128, 128, shape, dtype=np.int8)
    words = layouts.pack_tensor(codes)
    assert words.tolist() == hw_layouts.pack_tensor(codes).tolist()
    np.testing.assert_array_equal(layouts.unpack_tensor(words, *shape), codes)
    np.testing.assert_array_equal(hw_layouts.unpack_tensor(words, *shape), codes)


@pytest.mark.parametrize("word", [4, 8, 16])
@pytest.mark.parametrize("shape", [(1, 1, 1), (17, 3, 4), (16, 2, 5)])
def test_tensors_are_packed_as_an_array_of_lines_reads_them(
    shape: tuple[int, int, int], word: int, rng: np.random.Generator
) -> None:
    codes = rng.integers(-128, 128, shape, dtype=np.int8)
    pitch = shape[2] | 1
    beats = layouts.pack_tensor(codes, word, pitch)
    expected = memory_words(codes, word).astype(np.int8)
    found = beats.astype("<u4").view(np.int8).reshape(-1, word)
    written = (expected != 99) | (found != 0)  # 99 stands where anything may
    np.testing.assert_array_equal(found[written], expected[written])
    unpacked = layouts.unpack_tensor(beats, *shape, word_bytes=word, pitch=pitch)
    np.testing.assert_array_equal(unpacked, codes)


def test_constants_are_the_hardware_s() -> None:
    for name in ("WORD_CHANNELS", "IMAGE_OFFSET", "IMAGE_HEADER_BYTES", "IMAGE_MAGIC"):
        assert getattr(layouts, name) == getattr(hw_layouts, name)
    assert layouts.IMAGE_VERSION == hw_layouts.IMAGE_VERSION


def test_build_directory_is_read(tmp_path: Path) -> None:
    artifact = open_artifact(small_build.write(tmp_path / "small"))
    assert artifact.model_name == "small"
    (taken,) = artifact.inputs
    assert (taken.name, taken.shape, taken.dtype) == ("x", (1, 3, 2, 2), "float32")
    assert taken.scale is None, "float32 is what the model takes: no quantization on the way in"
    assert artifact.outputs == {"y": (1, 64)}
    assert artifact.accelerator_inputs == (
        Place(name="codes", address=40, shape=(3, 2, 2), words=4, word_bytes=4, pitch=2),
    )
    assert [place.name for place in artifact.layers] == ["layer0", "layer1", "layer2", "layer3"]
    assert artifact.header.program_bytes == 2 * len(small_build.WORDS) + 4


def test_a_file_is_called_a_file(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.touch()
    message = f"{model}: is a file, no build directory\n  help: give the folder that compile wrote"
    with pytest.raises(BoardError, match=f"^{re.escape(message)}$"):
        open_artifact(model)


def test_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    message = (
        f"{tmp_path}: is no build directory: it has no manifest.json\n"
        "  help: give the folder that compile wrote"
    )
    with pytest.raises(BoardError, match=f"^{re.escape(message)}$"):
        open_artifact(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "[" * 100_000])
def test_broken_manifest_is_refused(tmp_path: Path, content: str) -> None:
    folder = small_build.write(tmp_path / "small")
    (folder / "manifest.json").write_text(content)
    with pytest.raises(BoardError, match=r"manifest.json: .*\n  help: compile the model again"):
        open_artifact(folder)


def test_incomplete_manifest_is_refused(tmp_path: Path) -> None:
    folder = small_build.write(tmp_path / "small")
    small_build.write_manifest(folder, {"parts": {}, "model": 3})
    with pytest.raises(BoardError, match=r"manifest\.json: is not complete \("):
        open_artifact(folder)


def test_edited_manifest_is_refused(tmp_path: Path) -> None:
    folder = small_build.write(tmp_path / "small")
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"scale": 0.5', '"scale": 0.25'))
    with pytest.raises(BoardError, match=r"manifest\.json: was changed after compiling\n"):
        open_artifact(folder)


def test_build_of_another_version_is_noted(tmp_path: Path) -> None:
    folder = small_build.write(tmp_path / "small")
    manifest = json.loads((folder / "manifest.json").read_text())
    installed = importlib.metadata.version("qcompile")
    small_build.write_manifest(folder, {**manifest, "qcompile": installed})
    assert open_artifact(folder).note is None
    small_build.write_manifest(folder, {**manifest, "qcompile": "9.9"})
    assert open_artifact(folder).note == f"the build is of qcompile 9.9, and this is {installed}"


def test_changed_part_is_refused(tmp_path: Path) -> None:
    folder = small_build.write(tmp_path / "small")
    (folder / "top.bin").write_bytes(b"other")
    message = (
        f"{folder}: its part 'top.bin' was changed after compiling\n"
        "  help: compile the model again, and copy the whole directory"
    )
    with pytest.raises(BoardError, match=f"^{re.escape(message)}$"):
        open_artifact(folder)


@pytest.mark.parametrize("fault", ["short", "magic", "version", "program", "model"])
def test_flash_image_that_does_not_fit_is_refused(tmp_path: Path, fault: str) -> None:
    image = bytearray(small_build.image())
    if fault == "short":
        image = image[:20]
    elif fault == "model":
        image = bytearray(small_build.image(sha256="00" * 32))
    else:
        image[{"magic": 0, "version": 4, "program": 300}[fault]] ^= 1
    folder = small_build.write(tmp_path / "small", image=bytes(image))
    with pytest.raises(BoardError, match=r"flash\.bin: (cannot be used|is not the flash image)"):
        open_artifact(folder)


def test_parts_that_a_board_host_does_not_have_are_not_missed(tmp_path: Path) -> None:
    folder = small_build.write(tmp_path / "small")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["parts"]["accelerator.v"] = "00"
    small_build.write_manifest(folder, manifest)
    (folder / "top.bin").unlink()
    artifact = open_artifact(folder)
    with pytest.raises(BoardError, match=r"its part 'top\.bin' is missing"):
        artifact.part("top.bin")
