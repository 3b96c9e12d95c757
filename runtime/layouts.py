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
"""Channels (bytes) in a memory word."""

IMAGE_OFFSET = 0x100000
"""Byte address of the flash image."""
IMAGE_HEADER_BYTES = 256
IMAGE_MAGIC = b"QCIM"
IMAGE_VERSION = 1
IMAGE_FORMAT = "<4sHHIII12x32s"
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
    if len(data) < struct.calcsize(IMAGE_FORMAT):
        raise ValueError(f"a flash image header has {IMAGE_HEADER_BYTES} bytes, not {len(data)}")
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


def program_is_whole(image: bytes) -> bool:
    """Whether the program behind a flash image's header has the length and CRC that it tells."""
    header = parse_image_header(image)
    program = image[IMAGE_HEADER_BYTES : IMAGE_HEADER_BYTES + header.program_bytes]
    return len(program) == header.program_bytes and zlib.crc32(program) == header.program_crc


def pack_tensor(codes: npt.NDArray[np.int8]) -> npt.NDArray[np.uint32]:
    """[channels, height, width] int8 -> uint32 words [group][y][x], byte i is channel 4*g + i."""
    channels, height, width = codes.shape
    groups = -(-channels // WORD_CHANNELS)
    padded = np.zeros((groups * WORD_CHANNELS, height, width), np.int8)
    padded[:channels] = codes
    by_group = padded.reshape(groups, WORD_CHANNELS, height, width).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(by_group).view("<u4").reshape(-1).astype(np.uint32)


def unpack_tensor(
    words: npt.NDArray[np.uint32], channels: int, height: int, width: int
) -> npt.NDArray[np.int8]:
    """Inverse of `pack_tensor`: uint32 words -> [channels, height, width] int8."""
    groups = -(-channels // WORD_CHANNELS)
    by_group = words.astype("<u4").view(np.int8).reshape(groups, height, width, WORD_CHANNELS)
    return np.ascontiguousarray(
        by_group.transpose(0, 3, 1, 2).reshape(-1, height, width)[:channels]
    )
