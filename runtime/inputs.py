"""Reads the user's inputs from an npz file and makes them what the model takes.

The file holds one array for each model input under the input's name (or `x`, where the model has
one input), shape [N, ...], and may hold labels `y`. Axes of length 1 may be missing or added. The
type must be the model's own, with two exceptions: float32 values for an input of codes are
quantized with the model's own scale and zero point, and with `mean` and `std` any numbers become
(x - mean) / std in float32 first. Both are said in `Samples.notes`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from qcompile.runtime.host_ops import quantize_linear

Array = npt.NDArray[Any]


class InputsError(ValueError):
    """The user's inputs do not fit the model: one message, and in `help` a way out."""

    def __init__(self, message: str, *, help: str) -> None:
        super().__init__(message)
        self.message = message
        self.help = help


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """What a model input takes: name, shape with a leading 1, numpy type, quantization or None."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int = 0

    def __str__(self) -> str:
        return describe(("N", *self.shape[1:]), self.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalization:
    """(x - mean) / std: one number, or one for each channel."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """N inputs, ready for the model.

    Attributes
    ----------
    tensors : dict of name to array [N, *shape[1:]]
    labels : int64 [N] or None
    notes : tuple of str
        What was converted, to be said aloud.
    """

    tensors: dict[str, Array]
    labels: Array | None
    notes: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of inputs, N."""
        return len(next(iter(self.tensors.values())))


def describe(shape: Sequence[int | str], dtype: object) -> str:
    """A type in the words of messages, such as int8[N,49,10,1]."""
    return f"{dtype}[{','.join(str(size) for size in shape)}]"


def load_samples(
    path: Path,
    specs: Sequence[InputSpec],
    *,
    normalization: Normalization | None = None,
    limit: int | None = None,
    option: str = "--inputs",
) -> Samples:
    """Read and check `path` for the model inputs `specs`; keep the first `limit` inputs.

    `option` is the one that gave the path, for messages.
    Raises InputsError, with the file's name in front, for everything that does not fit.
    """
    with _open(path, option) as archive:
        headers = _headers(path, archive)
        keys = {spec.name: _find(path, spec, specs, headers) for spec in specs}
        notes: list[str] = []
        tensors = {}
        for spec in specs:
            key = keys[spec.name]
            _check_header(path, key, spec, headers[key], normalization)
            array = _read(path, archive, key)
            tensors[spec.name] = _convert(path, array, spec, normalization, notes)
        labels = None
        if "y" in headers and "y" not in keys.values():
            labels = _labels(path, _read(path, archive, "y"))
    _check_counts(path, tensors, labels)
    return Samples(
        tensors={name: tensor[:limit] for name, tensor in tensors.items()},
        labels=None if labels is None else labels[:limit],
        notes=tuple(notes),
    )


def _open(path: Path, option: str) -> zipfile.ZipFile:
    save = "write it with numpy.savez('inputs.npz', x=array)"
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "no such file"
            raise InputsError(f"{path}: {what}", help=f"{option} takes an npz file; {save}")
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise InputsError(f"{path}: not an npz file ({error})", help=save) from error


Header = tuple[tuple[int, ...], np.dtype[Any]]


def _headers(path: Path, archive: zipfile.ZipFile) -> dict[str, Header]:
    """Shape and type of every array, without reading its data."""
    headers: dict[str, Header] = {}
    for member in archive.namelist():
        if member.endswith(".npy"):
            with _member(path, archive, member) as file:
                headers[member.removesuffix(".npy")] = _read_header(path, member, file)
    return headers


def _member(path: Path, archive: zipfile.ZipFile, member: str) -> IO[bytes]:
    try:
        return archive.open(member)
    except Exception as error:  # zipfile's and its decompressors' have no common base
        raise _damaged(path, member, error) from error


def _damaged(path: Path, member: str, error: Exception) -> InputsError:
    return InputsError(
        f"{path}: array '{member.removesuffix('.npy')}' cannot be read ({error})",
        help="the file is damaged or cut; write it again with numpy.savez",
    )


def _read_header(path: Path, member: str, file: IO[bytes]) -> Header:
    readers = {(1, 0): np.lib.format.read_array_header_1_0}
    try:
        version = np.lib.format.read_magic(file)
        reader = readers.get(version, np.lib.format.read_array_header_2_0)
        shape, _, dtype = reader(file)
    except Exception as error:  # numpy evaluates the header's text: it fails in many ways
        raise _damaged(path, member, error) from error
    return tuple(shape), dtype


def _read(path: Path, archive: zipfile.ZipFile, key: str) -> Array:
    with _member(path, archive, f"{key}.npy") as file:
        try:
            array = np.lib.format.read_array(file, allow_pickle=False)
        except Exception as error:  # as above, and data that is too short or too much
            raise _damaged(path, key, error) from error
    return np.asarray(array)


def _find(
    path: Path, spec: InputSpec, specs: Sequence[InputSpec], headers: Mapping[str, Header]
) -> str:
    """The key that holds the input: its name, or `x` for the only input."""
    if spec.name in headers:
        return spec.name
    if len(specs) == 1 and "x" in headers:
        return "x"
    listed = ", ".join(f"'{key}' {describe(*header)}" for key, header in headers.items())
    names = " or ".join(
        f"'{name}'" for name in {spec.name: 0} | ({"x": 0} if len(specs) == 1 else {})
    )
    raise InputsError(
        f"{path}: no array for the model's input '{spec.name}' {spec}; "
        f"the file holds {listed or 'nothing'}",
        help=f"store it under the name {names}",
    )


def _check_header(
    path: Path,
    key: str,
    spec: InputSpec,
    header: Header,
    normalization: Normalization | None,
) -> None:
    """Refuse wrong shapes and types before the data is read."""
    shape, dtype = header
    wrong = f"{path}: array '{key}' is {describe(shape, dtype)}, but input '{spec.name}' is {spec}"
    if dtype.kind not in "biuf":
        raise InputsError(wrong, help="store plain numbers; objects and text are not read")
    if samples_in(shape, spec) is None:
        raise InputsError(
            wrong, help="the first axis counts the inputs; other axes differ only by 1s"
        )
    if 0 in shape:
        raise InputsError(f"{wrong}: it holds no input", help="store at least one input")
    if normalization is not None:
        return
    if dtype == np.dtype(spec.dtype) or (dtype == np.float32 and spec.scale is not None):
        return
    way_out = f"convert it with .astype('{spec.dtype}'), or give --mean and --std for raw pixels"
    if spec.scale is not None:
        way_out = f"give real values as float32 (x = {spec.scale:.9g} * (code - {spec.zero_point}))"
        way_out += f", codes as {spec.dtype}, or --mean and --std for raw pixels"
    raise InputsError(wrong, help=way_out)


def samples_in(shape: Sequence[int], spec: InputSpec) -> int | None:
    """How many inputs an array of `shape` holds; None where it does not fit.

    Axes of length 1 do not count; an array of exactly one input needs no leading axis.
    """
    wanted = [size for size in spec.shape[1:] if size != 1]
    if shape and [size for size in shape[1:] if size != 1] == wanted:
        return shape[0]
    if [size for size in shape if size != 1] == wanted:
        return 1
    return None


def _convert(
    path: Path,
    array: Array,
    spec: InputSpec,
    normalization: Normalization | None,
    notes: list[str],
) -> Array:
    """Checked array to [N, *shape[1:]] of the model's type; adds to `notes` what it did."""
    count = samples_in(array.shape, spec)
    assert count is not None, "_check_header accepted the shape"
    tensor = array.reshape((count, *spec.shape[1:]))
    _check_finite(path, tensor, spec)
    if normalization is not None:
        tensor = _normalize(path, tensor, spec, normalization)
        notes.append(f"input '{spec.name}': (x - mean) / std applied in float32")
    if tensor.dtype == np.dtype(spec.dtype):
        return tensor
    if spec.scale is None:
        raise InputsError(
            f"{path}: input '{spec.name}' is {spec} without a scale; mean and std give float32",
            help=f"store the codes as {spec.dtype} and leave --mean and --std away",
        )
    notes.append(
        f"input '{spec.name}': float32 quantized to {spec.dtype} with the model's own "
        f"scale {spec.scale:.9g} and zero point {spec.zero_point}"
    )
    return quantize_linear(tensor, spec.scale, spec.zero_point, spec.dtype)


def _check_finite(path: Path, tensor: Array, spec: InputSpec) -> None:
    if tensor.dtype.kind != "f" or np.isfinite(tensor).all():
        return
    first = np.argwhere(~np.isfinite(tensor))[0].tolist()
    raise InputsError(
        f"{path}: input '{spec.name}' holds {tensor[tuple(first)]} at {first}",
        help="every value must be a finite number",
    )


def _normalize(
    path: Path, tensor: Array, spec: InputSpec, normalization: Normalization
) -> npt.NDArray[np.float32]:
    mean = _per_channel(path, "mean", normalization.mean, spec)
    std = _per_channel(path, "std", normalization.std, spec)
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std != 0).all()):
        given = [",".join(f"{x:g}" for x in v) for v in (normalization.mean, normalization.std)]
        raise InputsError(
            f"--mean {given[0]} and --std {given[1]} are not usable",
            help="give finite numbers, and no std of 0",
        )
    return np.asarray((tensor.astype(np.float32) - mean) / std, dtype=np.float32)


def _per_channel(
    path: Path, name: str, values: tuple[float, ...], spec: InputSpec
) -> npt.NDArray[np.float32]:
    """One number, or a vector along the channel axis: the first or the last of an input."""
    numbers = np.asarray(values, dtype=np.float32)
    if len(values) == 1:
        return numbers
    rank = len(spec.shape)
    axes = [axis for axis in {1, rank - 1} if rank > 1 and spec.shape[axis] == len(values)]
    if len(axes) != 1:
        raise InputsError(
            f"{path}: --{name} has {len(values)} numbers, but input '{spec.name}' is {spec}",
            help=f"give one number, or one for each channel of the first or last axis of {spec}",
        )
    return numbers.reshape([-1 if axis == axes[0] else 1 for axis in range(rank)])


def _labels(path: Path, array: Array) -> Array:
    squeezed = array.reshape(len(array)) if array.ndim and array.size == len(array) else array
    if squeezed.ndim != 1 or squeezed.dtype.kind not in "biu":
        raise InputsError(
            f"{path}: labels 'y' are {describe(array.shape, array.dtype)}, not whole numbers [N]",
            help="store the index of each input's class, or leave 'y' away",
        )
    return squeezed.astype(np.int64)


def _check_counts(path: Path, tensors: Mapping[str, Array], labels: Array | None) -> None:
    counts = {f"'{name}'": len(tensor) for name, tensor in tensors.items()}
    if labels is not None:
        counts["labels 'y'"] = len(labels)
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise InputsError(
            f"{path}: arrays hold different numbers of inputs: {listed}",
            help="the first axis of every array must be the same",
        )
