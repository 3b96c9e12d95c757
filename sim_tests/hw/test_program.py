"""The program format by hand-worked examples; test_emit_program decodes whole programs."""

from __future__ import annotations

import binascii
import re

import numpy as np
import pytest

from qcompile.hw import program
from qcompile.hw.program import Flag, LayerDescriptor, PacketKind, Step


def make_descriptor(**changes: object) -> LayerDescriptor:
    """A descriptor, with some fields changed."""
    fields: dict[str, object] = {
        "counts": (4, 2, 3, 3, 5, 6, 7),
        "deltas": tuple(Step(address=i, p=-1, o=i - 3) for i in range(7)),
        "start": Step(address=-2, p=-1, o=-2),
        "p_bound": 20,
        "o_bound": 30,
        "pad_code": -3,
        "rows_last": 2,
        "write_start": 0x123,
        "write_row": 1,
        "write_position": -7,
        "write_group": 9,
        "residual_offset": -1,
        "zero_point": -128,
        "low": -100,
        "high": 127,
        "flags": frozenset({Flag.READ_BANK, Flag.SHARED_WEIGHTS}),
    }
    return LayerDescriptor(**{**fields, **changes})  # type: ignore[arg-type]  # fields by name


def test_descriptor_entries_are_the_fields_at_their_bits() -> None:
    entries = make_descriptor().entries()
    assert [f"{entry:08x}" for entry in entries] == [
        # deltas: address 14, P -1 in 9 bits, O -3..3 in 9 bits
        *("feffc000", "ff7fc001", "ffffc002", "007fc003", "00ffc004", "017fc005", "01ffc006"),
        "ff7ffffe",  # start
        "02020103",  # counts minus one
        "00050004",
        "fd063fff",  # pad code, groups, residual offset
        "00043c14",  # rows, bounds
        "9c800123",  # low, zero point, first write
        "827f0001",  # flags, high, row step
        "00003ff9",
        "00000009",
    ]
    words = make_descriptor().words()
    assert len(words) == program.LAYER_WORDS
    assert words[:2] == [0xC000, 0xFEFF], "low half first"


def test_a_codebooks_number_stands_above_the_positions() -> None:
    plain, packed = (make_descriptor(codebook=number).entries() for number in (None, 21))
    assert [index for index in range(16) if plain[index] != packed[index]] == [9]
    assert (plain[9], packed[9]) == (0x00050004, 0x00050004 | 1 << 25 | 21 << 26)
    with pytest.raises(ValueError, match=r"^descriptor field must be between 0 and 31, not 32$"):
        make_descriptor(codebook=32).entries()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": (65, 1, 1, 1, 1, 1, 1)}, "count of loop 0 must be 1 to 64, not 65"),
        ({"counts": (4, 1, 1, 1, 1, 0, 1)}, "count of loop 5 must be 1 to 512, not 0"),
        ({"counts": (4, 1)}, "a descriptor has 7 counts and deltas"),
    ],
)
def test_counts_beyond_their_bits_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        make_descriptor(**changes)


def test_fields_beyond_their_bits_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^descriptor field must be between -128 and 127, not 128$"
    ):
        make_descriptor(zero_point=128).entries()
    with pytest.raises(ValueError, match=r"^a packet has 1 to 4096 words, not 4097$"):
        program.packet(PacketKind.WEIGHTS, [0] * 4097)


def test_packets_by_hand() -> None:
    assert program.packet(PacketKind.LAYER, [7, 8]) == [0x1001, 7, 8]
    weights = np.array([[1, -1, 2, -2], [3, 4, 5, 6]], np.int8)
    assert program.weight_packets(weights) == [0x3003, 0xFF01, 0xFE02, 0x0403, 0x0605]
    constants = program.constants_packet([-2, 0, 0, 1], [0xABCDEF, 0, 0, 1], [0x2A, 0, 0, 1])
    assert constants == [
        *(0x200F, 0xFFFE, 0xFFFF, 0xCDEF, 0x2AAB),
        *([0] * 8),
        *(0x0001, 0x0000, 0x0001, 0x0100),
    ]
    table = np.arange(-128, 128).astype(np.int8)
    assert program.table_packet(table)[:2] == [0x407F, 0x8180]
    assert program.add_table_packet(PacketKind.ADD_TABLE_B, [-2, 1]) == [
        *(0x6003, 0xFFFE, 0x00FF, 0x0001, 0x0000)
    ]


def test_packed_weights_are_indices_of_sorted_codes() -> None:
    codebook = np.array([-128, -3, 0, 7, 127], np.int8)
    assert program.codebook_packet(5, codebook) == [
        *(0x9004, 0x0580, 0x05FD, 0x0500, 0x0507, 0x057F)
    ]
    weights = np.array([[-128, 127, 0, 7], [0, 0, -3, 127]], np.int8)
    assert program.packed_weight_packets(weights, codebook) == [0x3001, 0x3240, 0x4122]
    for wrong in (-127, 8):
        with pytest.raises(ValueError, match=r"^a weight is not in the codebook$"):
            program.packed_weight_packets(np.full((1, 4), wrong, np.int8), codebook)
    with pytest.raises(ValueError, match=r"^a weight is not in the codebook$"):
        program.packed_weight_packets(np.full((1, 4), 127, np.int8), codebook[:-1])
    with pytest.raises(ValueError, match=r"^descriptor field must be between 0 and 31, not 32$"):
        program.codebook_packet(32, codebook)


def test_crc_is_that_of_the_flash_bytes_and_the_end_packet_makes_it_zero(
    rng: np.random.Generator,
) -> None:
    words = rng.integers(0, 1 << 16, 99).tolist()
    assert program.crc16(words) == binascii.crc_hqx(program.program_bytes(words), 0xFFFF)
    whole = [*words, *program.end_packet(words)]
    assert whole[99] == 0xF000
    assert binascii.crc_hqx(program.program_bytes(whole), 0xFFFF) == 0
