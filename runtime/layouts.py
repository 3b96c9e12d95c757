"""Tensors as memory words, and the flash image's header: what a board's host must know.

docs/architecture.md sections 3 and 5; a test compares this file with `hw/layouts.py`.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

WORD_CHANNELS = 4
"""Channels (bytes) in a memory word of the small machine."""

IMAGE_OFFSET = 0x100000
"""Byte address of the flash image on boards whose flash holds the bitstream too."""
IMAGE_HEADER_BYTES = 256
"""From such an image to its program."""
IMAGE_MAGIC = b"QCIM"
IMAGE_VERSION = 1
IMAGE_FORMAT = "<4sHHIII12x32s"
IMAGE_FIELD_BYTES = struct.calcsize(IMAGE_FORMAT)
"""Of a header that say something; an array of lines has the program behind them."""
PROGRAM_ADDRESS = IMAGE_OFFSET + IMAGE_HEADER_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageHeader:
    """What a flash image says of itself; `model_sha256` as 64 hexadecimal digits."""

    configuration_id: int
    program_bytes: int
    program_crc: int
    model_sha256: str


def parse_image_header(data: bytes) -> ImageHeader:
    """Take the first bytes of a flash image apart; ValueError where it is none."""
    if len(data) < IMAGE_FIELD_BYTES:
        raise ValueError(f"a flash image header has {IMAGE_FIELD_BYTES} bytes, not {len(data)}")
    magic, version, _, identity, count, crc, sha256 = struct.unpack_from(IMAGE_FORMAT, data)
    if magic != IMAGE_MAGIC:
        raise ValueError(f"no flash image: it starts with {magic.hex()}")
    if version != IMAGE_VERSION:
        raise ValueError(f"a flash image of version {version}, not {IMAGE_VERSION}")
    return ImageHeader(
        configuration_id=identity,
        program_bytes=count,
        program_crc=crc,
        model_sha256=sha256.hex(),
    )


def image_address(program_address: int) -> int:
    """Byte address of the image with its program there: images begin at whole MiB."""
    return program_address - program_address % IMAGE_OFFSET


def program_is_whole(image: bytes, header_bytes: int = IMAGE_HEADER_BYTES) -> bool:
    """Whether what stands behind an image's header has the length and CRC that it tells."""
    header = parse_image_header(image)
    program = image[header_bytes : header_bytes + header.program_bytes]
    return len(program) == header.program_bytes and zlib.crc32(program) == header.program_crc


def pack_tensor(
    codes: npt.NDArray[np.int8], word_bytes: int = WORD_CHANNELS, pitch: int | None = None
) -> npt.NDArray[np.uint32]:
    """[channels, height, width] int8 -> memory words [group][y][x] as uint32 beats, low first.

    Byte i of a word is channel word_bytes * g + i. Rows of pixels are `pitch` words apart, `width`
    without; what lies between them, and channels behind the last, are zeros.
    """
    channels, height, width = codes.shape
    row = width if pitch is None else pitch
    groups = -(-channels // word_bytes)
    padded = np.zeros((groups * word_bytes, height, row), np.int8)
    padded[:channels, :, :width] = codes
    by_group = padded.reshape(groups, word_bytes, height, row).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(by_group).view("<u4").reshape(-1).astype(np.uint32)


def word_order(first: int, count: int, turned_bit: int) -> npt.NDArray[np.int64]:
    """Where each of a turned tensor's words stands behind address `first`, both multiples of four:
    bit 0 of an address changes where its bit `turned_bit` is set, and where that is bit 3 (eight
    banks) bits 0 and 1 then change places."""
    addresses = np.arange(first, first + count)
    addresses ^= addresses >> turned_bit & 1
    if turned_bit == 3:
        addresses = addresses & ~3 | addresses << 1 & 2 | addresses >> 1 & 1
    return addresses - first


def unpack_tensor(
    words: npt.NDArray[np.uint32],
    channels: int,
    height: int,
    width: int,
    *,
    word_bytes: int = WORD_CHANNELS,
    pitch: int | None = None,
) -> npt.NDArray[np.int8]:
    """Inverse of `pack_tensor`: beats -> [channels, height, width] int8."""
    row = width if pitch is None else pitch
    groups = -(-channels // word_bytes)
    by_group = words.astype("<u4").view(np.int8).reshape(groups, height, row, word_bytes)
    whole = by_group.transpose(0, 3, 1, 2).reshape(-1, height, row)
    return np.ascontiguousarray(whole[:channels, :, :width])
