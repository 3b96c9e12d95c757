"""Bytes on the serial line for one inference, requests and replies."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from qcompile.runtime import protocol
from qcompile.runtime.serial_link import BEATS_A_FRAME

FRAME = protocol.HEADER_BYTES + protocol.CRC_BYTES
BEAT_BYTES = protocol.BEAT_BITS // 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A tensor on the line: its memory words, the beats of each that are sent, and which way."""

    words: int
    beats: int
    to_board: bool

    @property
    def bytes(self) -> int:
        """Of all its frames."""
        frames = -(-self.words // (BEATS_A_FRAME // self.beats))
        address_and_count = 2 if self.to_board else 4
        return BEAT_BYTES * self.beats * self.words + frames * (2 * FRAME + address_and_count)


def inference_bytes(transfers: Iterable[Transfer]) -> int:
    """Tensors, the start, and the wait for the end."""
    control = len(protocol.start_payload(0)) + struct.calcsize(protocol.STATUS_FORMAT)
    return 4 * FRAME + control + sum(transfer.bytes for transfer in transfers)
