"""The host link as code: frames and registers (docs/architecture.md section 6).

The hardware (`hw/host_link.py`, `hw/axi/`) takes its codes from here, so the two cannot disagree.
Registers stand at the end. A request of the serial link is
`0x51 | command u8 | length u16 | payload | crc32`, a reply `0x71 | status u8 | length u16 |
payload | crc32`; fields are little-endian and the CRC-32 (zlib's) covers everything between the
first byte and the CRC.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np
import numpy.typing as npt

BAUD = 3_000_000
REQUEST_SYNC = 0x51
REPLY_SYNC = 0x71
HEADER_BYTES = 4
CRC_BYTES = 4
FRAME_TIMEOUT_SECONDS = 0.1
"""A frame whose bytes stop for this long is dropped by the board."""

PROTOCOL_VERSION = 1
INFO_MAGIC = b"QCMP"
INFO_FORMAT = "<4sBBBBII"
STATUS_FORMAT = "<BBHI"

ALL_LAYERS = 0xFFFF
"""`stop_after` of a run that does not pause."""

MAX_READ_WORDS = 0x3FFF
"""Most beats in one READ_MEMORY: the reply's length field counts bytes in 16 bits."""


class Command(IntEnum):
    """Codes of the requests."""

    INFO = 1
    WRITE_MEMORY = 2
    READ_MEMORY = 3
    READ_FLASH = 4
    START = 5
    STATUS = 6
    WAIT = 7
    ABORT = 8
    RESUME = 9
    WRITE_1_BEAT = 13
    WRITE_2_BEATS = 14
    WRITE_3_BEATS = 15


PARTIAL_WRITES = {
    Command.WRITE_1_BEAT: 1,
    Command.WRITE_2_BEATS: 2,
    Command.WRITE_3_BEATS: 3,
}
"""WRITE_MEMORY of words that have more beats, of which only the first so many are sent: the rest
become zeros. The two low bits of the code tell how many."""


class Status(IntEnum):
    """Status codes of the replies."""

    OK = 0
    BAD_CRC = 1
    UNKNOWN_COMMAND = 2
    BAD_LENGTH = 3
    BUSY = 4


class State(IntEnum):
    """State of the accelerator in a STATUS or WAIT reply."""

    IDLE = 0
    RUNNING = 1
    DONE = 2
    PAUSED = 3
    ERROR = 4


class CoreError(IntEnum):
    """Why the accelerator is in `State.ERROR`."""

    NONE = 0
    STREAM_CRC = 1
    UNKNOWN_PACKET = 2
    FLASH_SILENT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A reply whose CRC was right."""

    status: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """Payload of an INFO reply: which accelerator the bitstream holds."""

    version: int
    rows: int
    columns: int
    acc_width: int
    configuration_id: int
    clock_hz: int

    @property
    def beats(self) -> int:
        """Beats of 32 bits of a memory word: it has a byte for each column."""
        return 8 * self.columns // BEAT_BITS


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """Payload of a STATUS or WAIT reply; `cycles` count from start to the last write."""

    state: State
    error: int
    layers: int
    cycles: int


class FrameError(Exception):
    """The bytes are no reply: too few, no sync byte, or a wrong CRC."""


def request_frame(command: Command, payload: bytes = b"") -> bytes:
    """The bytes of a request."""
    body = struct.pack("<BH", command, len(payload)) + payload
    return bytes([REQUEST_SYNC]) + body + struct.pack("<I", zlib.crc32(body))


def reply_frame(status: int, payload: bytes = b"") -> bytes:
    """The bytes of a reply."""
    body = struct.pack("<BH", status, len(payload)) + payload
    return bytes([REPLY_SYNC]) + body + struct.pack("<I", zlib.crc32(body))


def reply_length(header: bytes) -> int:
    """Bytes that follow a reply's first four: payload and CRC."""
    if len(header) < HEADER_BYTES or header[0] != REPLY_SYNC:
        raise FrameError(f"no reply header in {header.hex() or 'no bytes'}")
    return int.from_bytes(header[2:4], "little") + CRC_BYTES


def parse_reply(frame: bytes) -> Reply:
    """Check a whole reply frame and take it apart."""
    following = reply_length(frame[:HEADER_BYTES])
    if len(frame) != HEADER_BYTES + following:
        raise FrameError(f"{len(frame)} bytes of {HEADER_BYTES + following}")
    body, crc = frame[1:-CRC_BYTES], frame[-CRC_BYTES:]
    if zlib.crc32(body) != int.from_bytes(crc, "little"):
        raise FrameError("bad CRC")
    return Reply(status=frame[1], payload=frame[HEADER_BYTES:-CRC_BYTES])


def write_memory_payload(address: int, words: npt.NDArray[np.uint32]) -> bytes:
    """Payload of a write: address of the first memory word, then the words' beats."""
    return struct.pack("<H", address) + words.astype("<u4").tobytes()


def read_memory_payload(address: int, words: int) -> bytes:
    """Payload of READ_MEMORY: first address and number of beats, 1..MAX_READ_WORDS."""
    return struct.pack("<HH", address, words)


def read_flash_payload(address: int, count: int) -> bytes:
    """Payload of READ_FLASH: byte address and number of bytes."""
    return struct.pack("<IH", address, count)


def start_payload(program_address: int, stop_after: int = ALL_LAYERS) -> bytes:
    """Payload of START: byte address of the program in flash and layers until a pause."""
    return struct.pack("<IH", program_address, stop_after)


def resume_payload(stop_after: int = ALL_LAYERS) -> bytes:
    """Payload of RESUME: layers, counted from the start of the program, until a pause."""
    return struct.pack("<H", stop_after)


def parse_words(payload: bytes) -> npt.NDArray[np.uint32]:
    """Beats of a READ_MEMORY reply."""
    return np.frombuffer(payload, "<u4").astype(np.uint32)


def parse_info(payload: bytes) -> Info:
    """Take an INFO reply's payload apart."""
    if len(payload) != struct.calcsize(INFO_FORMAT) or payload[:4] != INFO_MAGIC:
        raise FrameError(f"INFO reply is not of a qcompile board: {payload.hex()}")
    _, version, rows, columns, acc_width, identity, clock_hz = struct.unpack(INFO_FORMAT, payload)
    return Info(
        version=version,
        rows=rows,
        columns=columns,
        acc_width=acc_width,
        configuration_id=identity,
        clock_hz=clock_hz,
    )


def info_payload(info: Info) -> bytes:
    """Inverse of `parse_info`; the hardware's table of constants is made with it."""
    return struct.pack(
        INFO_FORMAT,
        INFO_MAGIC,
        info.version,
        info.rows,
        info.columns,
        info.acc_width,
        info.configuration_id,
        info.clock_hz,
    )


def parse_status(payload: bytes) -> RunStatus:
    """Take a STATUS or WAIT reply's payload apart."""
    if len(payload) != struct.calcsize(STATUS_FORMAT):
        raise FrameError(f"STATUS reply has {len(payload)} bytes")
    state, error, layers, cycles = struct.unpack(STATUS_FORMAT, payload)
    return RunStatus(state=State(state), error=error, layers=layers, cycles=cycles)


class Register(IntEnum):
    """Byte offsets of the AXI4-Lite registers; each has 32 bits.

    INFO is the 16 bytes of an INFO reply and STATUS the 8 of a STATUS reply, as four and two
    registers, low byte first.
    """

    INFO = 0x00
    STATUS = 0x10
    RESULT = 0x18
    CONTROL = 0x1C
    PROGRAM_ADDRESS = 0x20
    STOP_AFTER = 0x24
    FLASH_DATA = 0x28
    MEMORY_ADDRESS = 0x30
    MEMORY_DATA = 0x34
    IN_ADDRESS = 0x38
    OUT_ADDRESS = 0x3C
    OUT_COUNT = 0x40


REGISTER_ADDRESS_BITS = 12
"""Byte addresses of the registers: a page of 4,096."""
FLASH_DATA_VALID = 1 << 16
"""Bit of FLASH_DATA: the 16 below are the flash's next word."""
BEAT_BITS = 32
"""Of a register and of a stream's beat; a memory word has one or more, low first."""


class Control(IntFlag):
    """Bits of the register CONTROL; each is a command."""

    START = 1
    RESUME = 2
    ABORT = 4
    READ_FLASH = 8
    END_FLASH = 16
