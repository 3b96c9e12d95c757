"""Frames and payloads, against bytes written by hand."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from qcompile.runtime import protocol
from qcompile.runtime.protocol import Command, FrameError, Reply, State


def test_request_is_sync_command_length_payload_and_crc() -> None:
    frame = protocol.request_frame(Command.RESUME, protocol.resume_payload(0x0102))
    body = b"\x09\x02\x00\x02\x01"
    assert frame == b"\x51" + body + struct.pack("<I", zlib.crc32(body))


def test_payloads_are_little_endian() -> None:
    words = np.array([0x04030201, 0xFFEEDDCC], np.uint32)
    written = protocol.write_memory_payload(0x7FFE, words)
    assert written == bytes.fromhex("fe7f 01020304 ccddeeff")
    assert protocol.read_memory_payload(0x1234, 0x0506) == bytes.fromhex("3412 0605")
    assert protocol.read_flash_payload(0x100000, 256) == bytes.fromhex("00001000 0001")
    assert protocol.start_payload(0x100100) == bytes.fromhex("00011000 ffff")
    assert protocol.parse_words(bytes.fromhex("01020304")).tolist() == [0x04030201]


def test_reply_survives_the_way_back() -> None:
    frame = protocol.reply_frame(0, b"abc")
    assert protocol.reply_length(frame[:4]) == 7
    assert protocol.parse_reply(frame) == Reply(status=0, payload=b"abc")


@pytest.mark.parametrize("position", range(11))
def test_every_damaged_byte_of_a_reply_is_found(position: int) -> None:
    frame = bytearray(protocol.reply_frame(0, b"abc"))
    frame[position] ^= 0x40
    with pytest.raises(FrameError):
        protocol.parse_reply(bytes(frame))


@pytest.mark.parametrize("length", range(11))
def test_a_cut_reply_is_found(length: int) -> None:
    with pytest.raises(FrameError):
        protocol.parse_reply(protocol.reply_frame(0, b"abc")[:length])


def test_status_and_info_are_taken_apart() -> None:
    status = protocol.parse_status(bytes.fromhex("03 01 0500 40e20100"))
    assert status.state is State.PAUSED
    assert (status.error, status.layers, status.cycles) == (1, 5, 123456)
    info = protocol.Info(
        version=1, rows=4, columns=4, acc_width=20, configuration_id=77, clock_hz=24_000_000
    )
    payload = protocol.info_payload(info)
    assert payload == b"QCMP\x01\x04\x04\x14" + struct.pack("<II", 77, 24_000_000)
    assert protocol.parse_info(payload) == info
    with pytest.raises(FrameError, match="is not of a qcompile board"):
        protocol.parse_info(b"XXXX" + payload[4:])
