"""Input files: what is read, what is converted, and the message for everything else."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from qcompile.compiler import ir
from qcompile.compiler.errors import InputError
from qcompile.compiler.inputs import load_inputs
from qcompile.runtime.inputs import Normalization

CODES = ir.Value(
    name="input_1",
    shape=(1, 4, 3, 1),
    dtype="int8",
    quantization=ir.Quantization(scale=0.5, zero_point=83),
)
REAL = ir.Value(name="image", shape=(1, 3, 2, 2), dtype="float32")


def save(tmp_path: Path, **arrays: npt.ArrayLike) -> Path:
    """An npz file in the test's folder."""
    path = tmp_path / "x.npz"
    np.savez(
        path, allow_pickle=False, **{name: np.asarray(array) for name, array in arrays.items()}
    )
    return path


def refuse(path: Path, *inputs: ir.Value, **options: Any) -> str:
    """The message of the InputError that loading raises, without the folder."""
    with pytest.raises(InputError) as raised:
        load_inputs(path, inputs, **options)
    return str(raised.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize("key", ["input_1", "x"])
def test_codes_are_taken_under_the_inputs_name_or_x(tmp_path: Path, key: str) -> None:
    x = np.arange(24, dtype=np.int8).reshape(2, 4, 3, 1)
    samples = load_inputs(save(tmp_path, **{key: x}), [CODES])
    np.testing.assert_array_equal(samples.tensors["input_1"], x)
    assert (samples.count, samples.labels, samples.notes) == (2, None, ())


@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 1, 4, 3), (2, 4, 1, 3, 1)])
def test_missing_and_extra_unit_axes_are_reshaped(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = np.arange(24, dtype=np.int8).reshape(shape)
    samples = load_inputs(save(tmp_path, x=x), [CODES])
    np.testing.assert_array_equal(samples.tensors["input_1"], x.reshape(2, 4, 3, 1))


def test_a_single_input_needs_no_leading_axis(tmp_path: Path) -> None:
    samples = load_inputs(save(tmp_path, x=np.zeros((4, 3), np.int8)), [CODES])
    assert samples.tensors["input_1"].shape == (1, 4, 3, 1)


def test_limit_keeps_the_first_inputs_and_labels(tmp_path: Path) -> None:
    path = save(tmp_path, x=np.arange(60, dtype=np.int8).reshape(5, 4, 3), y=[4, 3, 2, 1, 0])
    samples = load_inputs(path, [CODES], limit=2)
    assert samples.count == 2
    assert samples.labels is not None
    assert samples.labels.tolist() == [4, 3]


def test_float_values_for_codes_are_quantized_and_it_is_said(tmp_path: Path) -> None:
    x = np.zeros((1, 4, 3, 1), np.float32)
    x[0, :, 0, 0] = [0.25, 0.75, -200.0, 1.0]
    samples = load_inputs(save(tmp_path, x=x), [CODES])
    # 0.25 / 0.5 and 0.75 / 0.5 are ties: to the even step, before the zero point is added.
    assert samples.tensors["input_1"][0, :, 0, 0].tolist() == [83, 85, -128, 85]
    (note,) = samples.notes
    assert note == (
        "input 'input_1': float32 quantized to int8 with the model's own scale 0.5 "
        "and zero point 83"
    )


def test_raw_pixels_are_normalized_per_channel(tmp_path: Path) -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2)
    normalization = Normalization(mean=(0.0, 4.0, 8.0), std=(1.0, 2.0, 4.0))
    samples = load_inputs(save(tmp_path, x=pixels), [REAL], normalization=normalization)
    expected = [0, 1, 2, 3, 0, 0.5, 1, 1.5, 0, 0.25, 0.5, 0.75]
    assert samples.tensors["image"].dtype == np.float32
    assert samples.tensors["image"].ravel().tolist() == expected
    assert samples.notes == ("input 'image': (x - mean) / std applied in float32",)


def test_normalized_pixels_are_quantized_for_an_input_of_codes(tmp_path: Path) -> None:
    pixels = np.full((1, 4, 3), 9, dtype=np.uint8)
    samples = load_inputs(
        save(tmp_path, x=pixels), [CODES], normalization=Normalization(mean=(7.0,), std=(2.0,))
    )
    assert set(samples.tensors["input_1"].ravel().tolist()) == {85}
    assert len(samples.notes) == 2


def test_several_inputs_are_found_by_name(tmp_path: Path) -> None:
    path = save(
        tmp_path, input_1=np.zeros((2, 4, 3), np.int8), image=np.ones((2, 3, 2, 2), "float32")
    )
    samples = load_inputs(path, [CODES, REAL])
    assert {name: x.shape for name, x in samples.tensors.items()} == {
        "input_1": (2, 4, 3, 1),
        "image": (2, 3, 2, 2),
    }


def test_an_input_called_y_is_no_label(tmp_path: Path) -> None:
    value = ir.Value(name="y", shape=(1, 2), dtype="float32")
    samples = load_inputs(save(tmp_path, y=np.zeros((3, 2), np.float32)), [value])
    assert samples.labels is None


def test_a_folder_is_named(tmp_path: Path) -> None:
    assert refuse(tmp_path, CODES).startswith(f"{tmp_path.name}: is a folder\n")


def test_the_name_x_is_asked_for_once(tmp_path: Path) -> None:
    value = ir.Value(name="x", shape=(1, 2), dtype="float32")
    message = refuse(save(tmp_path, z=np.zeros((1, 2))), value)
    assert message.endswith("help: store it under the name 'x'")


HEADER = "{'descr': '|i1', 'fortran_order': False, 'shape': (2, 4, 3, 1), }"


@pytest.mark.parametrize(
    "header",
    [
        *("((((" * 20, "[" * 3000 + "]" * 3000, HEADER.replace("2,", "2.0,"), "{'descr':"),
        *(HEADER.replace("'|i1'", "12345"), HEADER.replace("'|i1'", "[1,2,[3]]")),
        *(HEADER.replace("2,", f"{2**70},"), HEADER.replace("2,", "-1,")),
        HEADER.replace("2,", f"{10**12},"),
    ],
)
def test_headers_that_lie_are_one_message(tmp_path: Path, header: str) -> None:
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", content + bytes(24))
    message = refuse(tmp_path / "x.npz", CODES)
    assert message.startswith("x.npz: array 'x' ")
    assert "\n  help: " in message


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2, zipfile.ZIP_DEFLATED])
def test_damaged_compression_is_one_message(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
        file = io.BytesIO()
        np.save(file, np.arange(24, dtype=np.int8).reshape(2, 4, 3, 1))
        archive.writestr("x.npy", file.getvalue())
    data = bytearray((tmp_path / "x.npz").read_bytes())
    for i in range(50, 70):
        data[i] ^= 0xFF
    (tmp_path / "x.npz").write_bytes(data)
    assert refuse(tmp_path / "x.npz", CODES).startswith("x.npz: array 'x' cannot be read (")


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert refuse(tmp_path / "no.npz", CODES) == (
        "no.npz: no such file\n"
        "  help: --inputs takes an npz file; write it with numpy.savez('inputs.npz', x=array)"
    )


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY not a zip", b"PK\x03\x04 cut"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    assert refuse(path, CODES).startswith("x.npz: not an npz file (")


def test_a_cut_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    whole = io.BytesIO()
    np.save(whole, np.zeros((2, 4, 3, 1), np.int8))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", whole.getvalue()[:-5])
    message = refuse(path, CODES)
    assert message.startswith("x.npz: array 'x' cannot be read (")
    assert message.endswith("help: the file is damaged or cut; write it again with numpy.savez")


def test_flipped_bytes_in_a_compressed_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    rng = np.random.default_rng(1)
    np.savez_compressed(path, x=rng.integers(-9, 9, (50, 4, 3, 1)).astype(np.int8))
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(content)
    assert re.match(r"^x\.npz: array 'x' cannot be read \(", refuse(path, CODES))


def test_a_file_without_the_input_says_what_it_holds(tmp_path: Path) -> None:
    path = save(tmp_path, images=np.zeros((5, 4, 3), np.int8), y=[1])
    assert refuse(path, CODES) == (
        "x.npz: no array for the model's input 'input_1' int8[N,4,3,1]; "
        "the file holds 'images' int8[5,4,3], 'y' int64[1]\n"
        "  help: store it under the name 'input_1' or 'x'"
    )


def test_x_does_not_stand_for_one_of_several_inputs(tmp_path: Path) -> None:
    message = refuse(save(tmp_path, x=np.zeros((5, 4, 3), np.int8)), CODES, REAL)
    assert message.endswith("help: store it under the name 'input_1'")


def test_wrong_shape_is_refused(tmp_path: Path) -> None:
    assert refuse(save(tmp_path, x=np.zeros((5, 3, 4), np.int8)), CODES) == (
        "x.npz: array 'x' is int8[5,3,4], but input 'input_1' is int8[N,4,3,1]\n"
        "  help: the first axis counts the inputs; other axes differ only by 1s"
    )


def test_wrong_type_names_the_ways_out(tmp_path: Path) -> None:
    assert refuse(save(tmp_path, x=np.zeros((5, 4, 3))), CODES) == (
        "x.npz: array 'x' is float64[5,4,3], but input 'input_1' is int8[N,4,3,1]\n"
        "  help: give real values as float32 (x = 0.5 * (code - 83)), codes as int8, "
        "or --mean and --std for raw pixels"
    )
    assert refuse(save(tmp_path, x=np.zeros((1, 3, 2, 2), np.uint8)), REAL) == (
        "x.npz: array 'x' is uint8[1,3,2,2], but input 'image' is float32[N,3,2,2]\n"
        "  help: convert it with .astype('float32'), or give --mean and --std for raw pixels"
    )


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    assert refuse(path, CODES).endswith("store plain numbers; objects and text are not read")


def test_an_empty_array_is_refused(tmp_path: Path) -> None:
    assert refuse(save(tmp_path, x=np.zeros((0, 4, 3, 1), np.int8)), CODES) == (
        "x.npz: array 'x' is int8[0,4,3,1], but input 'input_1' is int8[N,4,3,1]: "
        "it holds no input\n  help: store at least one input"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_located(tmp_path: Path, value: float) -> None:
    x = np.zeros((2, 3, 2, 2), np.float32)
    x[1, 2, 0, 1] = value
    assert refuse(save(tmp_path, x=x), REAL) == (
        f"x.npz: input 'image' holds {value} at [1, 2, 0, 1]\n"
        "  help: every value must be a finite number"
    )


@pytest.mark.parametrize("std", [0.0, float("nan")])
def test_useless_normalization_is_refused(tmp_path: Path, std: float) -> None:
    path = save(tmp_path, x=np.zeros((1, 3, 2, 2), np.uint8))
    message = refuse(path, REAL, normalization=Normalization(std=(std,)))
    assert message == (
        f"--mean 0 and --std {std:g} are not usable\n  help: give finite numbers, and no std of 0"
    )


def test_normalization_with_the_wrong_number_of_channels_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, x=np.zeros((1, 3, 2, 2), np.uint8))
    assert refuse(path, REAL, normalization=Normalization(mean=(1.0, 2.0, 3.0, 4.0))) == (
        "x.npz: --mean has 4 numbers, but input 'image' is float32[N,3,2,2]\n"
        "  help: give one number, or one for each channel of the first or last axis of "
        "float32[N,3,2,2]"
    )


def test_labels_must_be_one_whole_number_an_input(tmp_path: Path) -> None:
    x = np.zeros((2, 4, 3), np.int8)
    assert refuse(save(tmp_path, x=x, y=[[0.5], [1.0]]), CODES).startswith(
        "x.npz: labels 'y' are float64[2,1], not whole numbers [N]"
    )
    assert refuse(save(tmp_path, x=x, y=[1, 2, 3]), CODES) == (
        "x.npz: arrays hold different numbers of inputs: 2 of 'input_1', 3 of labels 'y'\n"
        "  help: the first axis of every array must be the same"
    )
