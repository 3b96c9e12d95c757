"""The one table of byte orders: compiler, hardware, golden and runtime read it here.

docs/architecture.md section 3 and 5 say the same in prose.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

WORD_CHANNELS = 4
"""Channels (bytes) in an activation word, V."""

BANK_ADDRESS_BITS = 14
ADDRESS_BITS = BANK_ADDRESS_BITS + 1
"""A memory address: bit 14 the bank, bits 13..0 the word."""

IMAGE_OFFSET = 0x100000
"""Byte address of the flash image; the bitstream lies below."""
IMAGE_HEADER_BYTES = 256
IMAGE_MAGIC = b"QCIM"
IMAGE_VERSION = 1


def tensor_words(channels: int, height: int, width: int) -> int:
    """Words that a [channels, height, width] tensor of int8 codes takes in memory."""
    return -(-channels // WORD_CHANNELS) * height * width


def pack_tensor(codes: npt.NDArray[np.int8], fill: int = 0) -> npt.NDArray[np.uint32]:
    """[channels, height, width] int8 -> uint32 words [group][y][x], byte i is channel V*g + i."""
    channels, height, width = codes.shape
    groups = -(-channels // WORD_CHANNELS)
    padded = np.full((groups * WORD_CHANNELS, height, width), fill, np.int8)
    padded[:channels] = codes
    by_group = padded.reshape(groups, WORD_CHANNELS, height, width).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(by_group).view("<u4").reshape(-1)


def unpack_tensor(
    words: npt.NDArray[np.uint32], channels: int, height: int, width: int
) -> npt.NDArray[np.int8]:
    """Inverse of `pack_tensor`: uint32 words -> [channels, height, width] int8."""
    groups = -(-channels // WORD_CHANNELS)
    by_group = words.astype("<u4").view(np.int8).reshape(groups, height, width, WORD_CHANNELS)
    return np.ascontiguousarray(
        by_group.transpose(0, 3, 1, 2).reshape(-1, height, width)[:channels]
    )
