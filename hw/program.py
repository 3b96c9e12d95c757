"""The program format: packets of 16-bit words that fill the accelerator's FIFOs, in order.

docs/architecture.md section 4 says the same in prose. The compiler packs with the functions of
this file and the hardware unpacks with its constants.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.hw.layouts import ADDRESS_BITS, BANK_ADDRESS_BITS

LEVELS = 7
"""Loops of a layer, inner to outer: reads, channel words, two taps, tiles, positions, groups."""
COUNT_BITS = (6, 8, 5, 5, 12, 9, 8)
"""Bits of each loop's counter (trip count - 1)."""
COORDINATE_BITS = 9
"""Bits of the P and O coordinates; an unsigned compare makes negative ones out of bounds."""
ENTRY_WORDS = 2
LAYER_ENTRIES = 16
"""32-bit entries of a layer descriptor."""
LAYER_WORDS = LAYER_ENTRIES * ENTRY_WORDS
MAX_PAYLOAD_WORDS = 4096
MAX_STORE_WORDS = (MAX_PAYLOAD_WORDS - 1) // 2
RECALL_BITS = 14
"""Of a recall's words, minus one."""
CONSTANT_WORDS = 4
"""16-bit words of one channel's constants: bias 32, mantissa 24, shift 6."""
LOG_FLAG, HIGH_FLAG = range(2)
"""The last two bits of a channel's constants: it makes logarithmic codes; of a linear code the high
half of four bits is kept, not the low one, in a memory of four-bit codes."""
INDEX_BITS = 4
"""Of a packed weight: its place in the layer's codebook."""
CODEBOOK_LEVELS = 1 << INDEX_BITS
CODEBOOK_BITS = 5
"""Of the number of one of the codebooks that the hardware holds."""
CODEBOOKS = 1 << CODEBOOK_BITS
PAIR_WORDS = 1024
"""Of the table of a code and a residual code of four bits, with four entries each."""
ADD_ENTRY_BITS = 24
ADD_FRACTION = 14
"""Bits of an entry of the residual adder's tables, signed, and how many are its fraction."""

# Entries of a descriptor. Deltas of the read loops stand at 0..6.
ENTRY_INITIAL = 7
ENTRY_COUNTS_INNER = 8
ENTRY_COUNTS_OUTER = 9
ENTRY_RESIDUAL = 10
ENTRY_BOUNDS = 11
ENTRY_WRITE_START = 12
ENTRY_WRITE_ROW = 13
ENTRY_WRITE_POSITION = 14
ENTRY_WRITE_GROUP = 15
ENTRY_PACKED_SHIFT = 25
"""In `ENTRY_COUNTS_OUTER`: whether weights are packed, then the codebook's number."""

LOW_FLAGS = 8
"""Flags that stand beside the row's step; the others stand beside the position's."""
FRACTION_BITS = 7
"""Of the sums' fraction, with `Flag.FRACTION`: they are shifted left by so many before the bias."""


class PacketKind(IntEnum):
    """First four bits of a packet's header."""

    LAYER = 1
    CONSTANTS = 2
    WEIGHTS = 3
    TABLE = 4
    ADD_TABLE_A = 5
    ADD_TABLE_B = 6
    STORE = 7
    RECALL = 8
    CODEBOOK = 9
    END = 15


class Flag(IntEnum):
    """Bit numbers of the descriptor's flags: eight in one entry, the rest in the next."""

    BROADCAST = 0
    READ_BANK = 1
    WRITE_BANK = 2
    RESIDUAL = 3
    RESIDUAL_BANK = 4
    TABLE = 5
    ZERO_POINT_INSIDE = 6
    SHARED_WEIGHTS = 7
    FRACTION = 8


def _field(value: int, bits: int, shift: int, *, signed: bool = False) -> int:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    if not low <= value <= high:
        raise ValueError(f"descriptor field must be between {low} and {high}, not {value}")
    return (value & ((1 << bits) - 1)) << shift


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one step of a loop adds: to the word address (modulo a bank), to P, to O."""

    address: int
    p: int
    o: int

    def pack(self) -> int:
        """32 bits: address 14, P 9, O 9; every field modulo its size."""
        address = self.address % (1 << BANK_ADDRESS_BITS)
        p, o = (value % (1 << COORDINATE_BITS) for value in (self.p, self.o))
        return address | p << BANK_ADDRESS_BITS | o << (BANK_ADDRESS_BITS + COORDINATE_BITS)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDescriptor:
    """One layer as the hardware runs it.

    Attributes
    ----------
    counts : 7 ints
        Trip counts of the loops, inner to outer, each 1 or more.
    deltas : 7 Steps
        Added to the read position after a read, by the outermost loop that steps on.
    start : Step
        First read position.
    p_bound, o_bound : int
        Largest in-bounds coordinate of each axis, 0..511 (511: never out of bounds).
    pad_code : int
        Code that out-of-bounds reads give, int8.
    rows_last : int
        Rows in use in the last tile along the row axis, 1..4.
    write_start, write_row, write_position, write_group : int
        First word written, and what is added after each row, after the last row of an O
        position, after the last one of a channel group.
    residual_offset : int
        Residual word's address minus the written word's.
    zero_point, low, high : int
        Of the output codes, int8.
    flags : frozenset of Flag
    codebook : int or None
        Number of the codebook that the layer's weights are indices of; None: they are codes.
    """

    counts: tuple[int, ...]
    deltas: tuple[Step, ...]
    start: Step
    p_bound: int
    o_bound: int
    pad_code: int
    rows_last: int
    write_start: int
    write_row: int
    write_position: int
    write_group: int
    residual_offset: int
    zero_point: int
    low: int
    high: int
    flags: frozenset[Flag]
    codebook: int | None = None

    def __post_init__(self) -> None:
        if len(self.counts) != LEVELS or len(self.deltas) != LEVELS:
            raise ValueError(f"a descriptor has {LEVELS} counts and deltas")
        for level, (count, bits) in enumerate(zip(self.counts, COUNT_BITS, strict=True)):
            if not 1 <= count <= 1 << bits:
                raise ValueError(f"count of loop {level} must be 1 to {1 << bits}, not {count}")

    def entries(self) -> list[int]:
        """The `LAYER_ENTRIES` 32-bit entries."""
        n = [count - 1 for count in self.counts]
        word = (1 << BANK_ADDRESS_BITS) - 1
        flags = sum(1 << flag for flag in self.flags)
        low_flags, high_flags = flags & 0xFF, flags >> LOW_FLAGS
        bounds = _field(self.p_bound, COORDINATE_BITS, 0) | _field(
            self.o_bound, COORDINATE_BITS, COORDINATE_BITS
        )
        packed = 0
        if self.codebook is not None:
            packed = 1 | _field(self.codebook, CODEBOOK_BITS, 1)
        return [
            *(delta.pack() for delta in self.deltas),
            self.start.pack(),
            n[0] | n[1] << 8 | n[2] << 16 | n[3] << 24,
            n[4] | n[5] << 16 | packed << ENTRY_PACKED_SHIFT,
            self.residual_offset & word | n[6] << 16 | _field(self.pad_code, 8, 24, signed=True),
            bounds | (self.rows_last - 1) << 2 * COORDINATE_BITS,
            self.write_start & word
            | _field(self.zero_point, 8, 16, signed=True)
            | _field(self.low, 8, 24, signed=True),
            self.write_row & word | _field(self.high, 8, 16, signed=True) | low_flags << 24,
            self.write_position & word | high_flags << 16,
            self.write_group & word,
        ]

    def words(self) -> list[int]:
        """The `LAYER_WORDS` stream words, low half of each entry first."""
        return [half for entry in self.entries() for half in (entry & 0xFFFF, entry >> 16)]


def packet(kind: PacketKind, payload: Sequence[int]) -> list[int]:
    """Header and payload words; splits nothing: payload has 1 to `MAX_PAYLOAD_WORDS` words."""
    if not 1 <= len(payload) <= MAX_PAYLOAD_WORDS:
        raise ValueError(f"a packet has 1 to {MAX_PAYLOAD_WORDS} words, not {len(payload)}")
    return [kind << 12 | (len(payload) - 1), *payload]


def weight_packets(weights: npt.NDArray[np.int8]) -> list[int]:
    """[n, 4] int8 weight words -> packets, as many as needed."""
    return _weight_packets(np.ascontiguousarray(weights).view("<u2").reshape(-1))


def packed_weight_packets(
    weights: npt.NDArray[np.int8], codebook: npt.NDArray[np.int8]
) -> list[int]:
    """The same with a stream word for each weight word: four indices of a sorted codebook."""
    indices = np.searchsorted(codebook, weights)
    if indices.max() >= len(codebook) or (codebook[indices] != weights).any():
        raise ValueError("a weight is not in the codebook")
    shifts = INDEX_BITS * np.arange(weights.shape[1])
    return _weight_packets((indices << shifts).sum(axis=1))


def _weight_packets(stream: npt.NDArray[Any]) -> list[int]:
    words = stream.tolist()
    packets: list[int] = []
    for begin in range(0, len(words), MAX_PAYLOAD_WORDS):
        packets += packet(PacketKind.WEIGHTS, words[begin : begin + MAX_PAYLOAD_WORDS])
    return packets


def codebook_packet(number: int, codebook: npt.NDArray[np.int8]) -> list[int]:
    """1 to 16 codes, that of index 0 first, a word each: the code low, the number above it."""
    above = _field(number, CODEBOOK_BITS, 8)
    return packet(PacketKind.CODEBOOK, [above | int(code) & 0xFF for code in codebook])


def store_packet(address: int, weights: npt.NDArray[np.int8]) -> list[int]:
    """[n, 4] int8 weight words to memory from word `address` on; n is `MAX_STORE_WORDS` or less."""
    words = np.ascontiguousarray(weights).view("<u2").reshape(-1).tolist()
    return packet(PacketKind.STORE, [_field(address, ADDRESS_BITS, 0), *words])


def recall_packet(address: int, count: int) -> list[int]:
    """`count` words of memory from word `address` on become weights."""
    last = _field(count - 1, RECALL_BITS, 0)
    return packet(PacketKind.RECALL, [_field(address, ADDRESS_BITS, 0), last])


def constants_packet(
    bias: Sequence[int],
    mantissa: Sequence[int],
    shift: Sequence[int],
    *,
    words: int = CONSTANT_WORDS,
    halves: Sequence[int] = (0, 0, 0, 0),
) -> list[int]:
    """Constants of one channel group: bias int32, mantissa 24 bits, shift 6 bits, each [4].

    `words` of 16 bits a channel. `halves`: which half of its code a channel has, 0 the low one, in
    a memory of four-bit codes.
    """
    payload: list[int] = []
    for b, m, s, half in zip(bias, mantissa, shift, halves, strict=True):
        entry = _field(int(b), 32, 0, signed=True) | _field(int(m), 24, 32) | _field(int(s), 6, 56)
        payload += _constant_words(entry | _flags(words, 0, half), words)
    return packet(PacketKind.CONSTANTS, payload)


def log_constants_packet(
    bias: Sequence[int],
    limits: Sequence[Sequence[int]],
    *,
    limit_bits: int,
    words: int,
    halves: Sequence[int],
) -> list[int]:
    """Constants of one channel group of logarithmic codes: bias [4] and, instead of mantissa and
    shift, limits [4, classes], the negative thresholds of the last codes. Those beyond `limit_bits`
    are as large as they can be: no sum reaches such a code."""
    least = -(1 << (limit_bits - 1))
    payload: list[int] = []
    for b, reached, half in zip(bias, limits, halves, strict=True):
        entry = _field(int(b), 32, 0, signed=True) | _flags(words, 1 << LOG_FLAG, half)
        for index, limit in enumerate(reached):
            entry |= _field(max(limit, least), limit_bits, 32 + limit_bits * index, signed=True)
        payload += _constant_words(entry, words)
    return packet(PacketKind.CONSTANTS, payload)


def _flags(words: int, flags: int, half: int) -> int:
    """The last two bits of a channel's constants."""
    return (flags | half << HIGH_FLAG) << (16 * words - 2)


def _constant_words(entry: int, words: int) -> list[int]:
    return [entry >> 16 * part & 0xFFFF for part in range(words)]


def table_packet(table: npt.NDArray[np.int8]) -> list[int]:
    """256 codes, that of code -128 first."""
    return packet(PacketKind.TABLE, np.ascontiguousarray(table).view("<u2").tolist())


def add_table_packet(kind: PacketKind, table: Iterable[int]) -> list[int]:
    """256 signed 24-bit entries, that of code -128 first, two words each."""
    entries = [_field(int(entry), ADD_ENTRY_BITS, 0, signed=True) for entry in table]
    return packet(kind, [half for entry in entries for half in (entry & 0xFFFF, entry >> 16)])


def pair_table_packet(table: npt.NDArray[np.int8]) -> list[int]:
    """[16, 256] codes of four bits, by residual code and by code, that of code 0 first."""
    entries = table.reshape(PAIR_WORDS, 4).astype(np.int64)
    words: list[int] = (entries << 4 * np.arange(4)).sum(axis=1).tolist()
    return packet(PacketKind.ADD_TABLE_A, words)


def crc16(words: Iterable[int], crc: int = 0xFFFF) -> int:
    """CRC-16/CCITT-FALSE over words in flash byte order (low byte first)."""
    for word in words:
        for byte in (word & 0xFF, word >> 8):
            crc ^= byte << 8
            for _ in range(8):
                crc = (crc << 1 ^ 0x1021) & 0xFFFF if crc & 0x8000 else crc << 1
    return crc


def end_packet(words: Sequence[int]) -> list[int]:
    """The packet that ends a program whose words so far are `words`: its CRC becomes zero."""
    header = packet(PacketKind.END, [0])[:1]
    crc = crc16([*words, *header])
    return [*header, crc >> 8 | (crc & 0xFF) << 8]


def program_bytes(words: Sequence[int]) -> bytes:
    """Stream words as flash bytes."""
    return np.asarray(words, "<u2").tobytes()
