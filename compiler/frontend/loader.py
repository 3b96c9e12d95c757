"""Reads an ONNX file from disk without trusting it.

Nothing is allocated because the file says so: the file's size and every declared tensor size are
checked against limits first, external data must lie in the model's own folder, and graph structure
(names, order, cycles) is checked before any operator is looked at.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from qcompile.compiler.errors import ModelError

MAX_FILE_BYTES = 1 << 30
"""Largest model file read; protobuf itself ends at 2 GiB."""

MAX_TENSOR_BYTES = 1 << 30
"""Largest constant or activation tensor accepted, in bytes."""

MAX_RANK = 32
"""Most dimensions of a tensor, far beyond any layer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """A parsed file: the protobuf, its folder, and the sha256 of file and external data."""

    path: Path
    proto: onnx.ModelProto
    sha256: str
    external: tuple[Path, ...]


def load_model_file(path: Path) -> ModelFile:
    """Parse `path`; raises ModelError when it is missing, too large, cut or not ONNX."""
    data = _read_bytes(path)
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except DecodeError:
        raise ModelError(
            f"{path.name}: not an ONNX file, or cut short",
            context=(f"{len(data):,} bytes that no protobuf parser can read to the end",),
            help="export or download the model again",
        ) from None
    if proto.ir_version < 1 or not proto.opset_import or not proto.graph.node:
        raise ModelError(
            f"{path.name}: not an ONNX model: it has no operators or no version",
            help="export or download the model again",
        )
    if any(isinstance(text, bytes) for text in _texts(proto)):  # protobuf's mark of broken UTF-8
        raise ModelError(
            f"{path.name}: holds names that are no text (UTF-8)",
            help="the file is damaged; export or download it again",
        )
    external = _external_files(path, proto)
    digest = hashlib.sha256(data)
    for file in external:
        digest.update(_read_file(file))
    return ModelFile(path=path, proto=proto, sha256=digest.hexdigest(), external=external)


def _texts(proto: onnx.ModelProto) -> Iterator[str | bytes]:
    """Every name in the file that anything looks at."""
    yield from (entry.domain for entry in proto.opset_import)
    for node in proto.graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            yield from (attribute.name, *_tensor_texts(attribute.t))
    for tensor in proto.graph.initializer:
        yield from _tensor_texts(tensor)
    for info in (*proto.graph.input, *proto.graph.output):
        yield info.name
        yield from (dim.dim_param for dim in info.type.tensor_type.shape.dim)


def _tensor_texts(tensor: TensorProto) -> Iterator[str | bytes]:
    yield tensor.name
    for entry in tensor.external_data:
        yield from (entry.key, entry.value)


def _read_bytes(path: Path) -> bytes:
    if not path.is_file():
        what = "is no regular file" if path.exists() else "no such file"
        what = "is a folder" if path.is_dir() else what
        raise ModelError(f"{path}: {what}", help="give the path of an .onnx file")
    size = path.stat().st_size
    if size == 0:
        raise ModelError(f"{path.name}: the file is empty", help="export or download it again")
    if size > MAX_FILE_BYTES:
        raise ModelError(
            f"{path.name}: {size:,} bytes, more than the {MAX_FILE_BYTES:,} that are read",
            help="networks for these devices have a few megabytes; is this the right file?",
        )
    return _read_file(path)


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None


def _external_files(path: Path, proto: onnx.ModelProto) -> tuple[Path, ...]:
    tensors = [t for t in proto.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    tensors += [
        attribute.t
        for node in proto.graph.node
        for attribute in node.attribute
        if attribute.t.data_location == TensorProto.EXTERNAL
    ]
    return tuple(sorted({_external_file(path, tensor)[0] for tensor in tensors}))


def _external_file(path: Path, tensor: TensorProto) -> tuple[Path, int, int | None]:
    """File, offset and length (None: to the end) of a tensor's external data, checked."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    folder = path.resolve().parent
    culprit = f"{path.name}: constant '{tensor.name}': external data '{location}'"
    try:
        file = (folder / location.replace("\0", "?")).resolve()
        missing = not file.is_file()
    except (OSError, RuntimeError) as error:  # too long a name, a loop of links
        raise ModelError(
            f"{culprit} cannot be read: {error}",
            help="save the model's data in a file beside it, under a short name",
        ) from None
    if not location or not file.is_relative_to(folder):
        raise ModelError(
            f"{culprit} is outside the model's folder",
            help="keep external data beside the model and save it with a relative path",
        )
    if missing:
        raise ModelError(f"{culprit} is missing", help=f"copy it into {folder}")
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries["length"]) if "length" in entries else None
    except ValueError:
        raise ModelError(f"{culprit} has an offset or a length that is no number") from None
    size = file.stat().st_size
    if offset < 0 or (length is not None and length < 0) or offset + (length or 0) > size:
        raise ModelError(
            f"{culprit} has {size:,} bytes, too few for offset {offset:,} and length {length}",
            help="copy the file again: it is cut short or belongs to another model",
        )
    if size > MAX_TENSOR_BYTES:
        raise ModelError(f"{culprit} has {size:,} bytes, more than {MAX_TENSOR_BYTES:,}")
    return file, offset, length


def read_tensor(model: ModelFile, tensor: TensorProto) -> npt.NDArray[Any]:
    """A constant's array, after its declared size was compared with the data that is there."""
    culprit = f"{model.path.name}: constant '{tensor.name}'"
    shape = tuple(tensor.dims)
    if any(d < 0 for d in shape):
        raise ModelError(f"{culprit} has a negative dimension: {list(shape)}")
    if len(shape) > MAX_RANK:
        raise ModelError(f"{culprit} has {len(shape)} dimensions, more than {MAX_RANK}")
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError):
        raise ModelError(f"{culprit} has the unknown type {tensor.data_type}") from None
    declared = math.prod(shape) * dtype.itemsize
    if declared > MAX_TENSOR_BYTES:
        raise ModelError(
            f"{culprit} declares {declared:,} bytes, more than the {MAX_TENSOR_BYTES:,} accepted",
            help="is the file damaged?",
        )
    if tensor.data_location == TensorProto.EXTERNAL:
        return _read_external(model, tensor, culprit, dtype, shape)
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"{culprit} of shape {list(shape)} does not hold the data that it declares",
            context=(str(error),),
            help="export or download the model again",
        ) from None


def _read_external(
    model: ModelFile,
    tensor: TensorProto,
    culprit: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
) -> npt.NDArray[Any]:
    file, offset, length = _external_file(model.path, tensor)
    needed = math.prod(shape) * dtype.itemsize
    data = _read_file(file)[offset : None if length is None else offset + length]
    if len(data) != needed:
        raise ModelError(
            f"{culprit} of shape {list(shape)} needs {needed:,} bytes of '{file.name}', "
            f"which gives {len(data):,}",
            help="copy the file again: it is cut short or belongs to another model",
        )
    return np.frombuffer(data, dtype=dtype.newbyteorder("<")).astype(dtype).reshape(shape)
