"""The program format of the array of lines: packets of 64-bit words.

A packet is a header word and payload words; the header has the kind in bits 60..63 and the number
of payload words minus one in bits 0..15; that of weights also has where they go. docs/lines.md
section 6 says the same in prose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from qcompile.hw.program import ADD_ENTRY_BITS, COORDINATE_BITS, COUNT_BITS, LEVELS, Step

WORD_BITS = 64
MAX_PAYLOAD_WORDS = 1 << 16
ADDRESS_BITS = 16
"""Of a word in a set of the activation memory."""
WEIGHT_ADDRESS_BITS = 20
"""Of a word in the weight memory."""
WEIGHTS_ADDRESS_AT = 16
"""Bit of a header of weights from which on it has the first word's address."""
WEIGHTS_WAIT_AT = 48
"""Bit of a header of weights: they wait until no layer runs or waits."""
PRODUCT_BITS = 6
PASS_BITS = 9
TURN_BITS = 3
LINE_BITS = 3
COUNTED = ("tile_rows", "rows_last", "lines_last", "products", "turns", "pass_cycles")
"""Fields that are stored minus one."""
LAYER_WORDS = 14
"""Payload of a layer packet."""


class PacketKind(IntEnum):
    """First four bits of a packet's header."""

    LAYER = 1
    CONSTANTS = 2
    WEIGHTS = 3
    TABLE = 4
    ADD_TABLES = 5
    END = 15


class Flag(IntEnum):
    """Bit numbers of a layer's flags."""

    WINDOW = 0
    OWN = 1
    APART = 2
    FLAT = 3
    READ_SET = 4
    WRITE_SET = 5
    RESIDUAL = 6
    RESIDUAL_SET = 7
    TABLE = 8
    ZERO_POINT_INSIDE = 9
    SHARED_WEIGHTS = 10
    FRACTION = 11
    SINGLE_WRITES = 12
    READ_TURNED = 13
    WRITE_TURNED = 14


FIELDS: tuple[tuple[tuple[str, int], ...], ...] = (
    *(
        ((f"delta{i}_address", ADDRESS_BITS), (f"delta{i}_p", 9), (f"delta{i}_o", 9))
        for i in range(7)
    ),
    (("start_address", ADDRESS_BITS), ("start_p", 9), ("start_o", 9)),
    tuple((f"n{i}", bits) for i, bits in enumerate(COUNT_BITS)),
    (
        ("p_bound", COORDINATE_BITS),
        ("o_bound", COORDINATE_BITS),
        ("pad_code", 8),
        ("tile_rows", 2),
        ("rows_last", 2),
        ("lines_last", LINE_BITS),
        ("line_o", COORDINATE_BITS),
        ("products", PRODUCT_BITS),
        ("turns", TURN_BITS),
        ("pass_cycles", PASS_BITS),
    ),
    (
        ("line_address", ADDRESS_BITS),
        ("zero_point", 8),
        ("low", 8),
        ("high", 8),
        ("flags", len(Flag)),
    ),
    (
        ("weights", WEIGHT_ADDRESS_BITS),
        ("write_start", ADDRESS_BITS),
        ("write_line", ADDRESS_BITS),
    ),
    (
        ("write_row", ADDRESS_BITS),
        ("write_position", ADDRESS_BITS),
        ("write_group", ADDRESS_BITS),
    ),
    (("residual_offset", ADDRESS_BITS),),
)
"""A descriptor's words, each with its fields from bit 0 on. Counts are stored minus one, and so are
the fields of `COUNTED`; addresses and coordinates modulo their size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDescriptor:
    """One layer as the array of lines runs it; for the meaning see `compiler.lines.plan.LinePlan`.

    `weights` is the first word in the weight memory, `residual_offset` a residual word's address
    minus the written word's; addresses are within the sets that the flags name.
    """

    counts: tuple[int, ...]
    deltas: tuple[Step, ...]
    start: Step
    line_address: int
    line_o: int
    p_bound: int
    o_bound: int
    pad_code: int
    products: int
    turns: int
    pass_cycles: int
    tile_rows: int
    rows_last: int
    lines_last: int
    weights: int
    write_start: int
    write_line: int
    write_row: int
    write_position: int
    write_group: int
    residual_offset: int
    zero_point: int
    low: int
    high: int
    flags: frozenset[Flag]

    def values(self) -> dict[str, int]:
        """Every field of `FIELDS` as it is stored, before it is taken modulo its size."""
        found: dict[str, int] = {}
        for level in range(LEVELS):
            found[f"n{level}"] = self.counts[level] - 1
            found |= _step(f"delta{level}", self.deltas[level])
        found |= _step("start", self.start)
        found["flags"] = sum(1 << flag for flag in self.flags)
        for name in COUNTED:
            found[name] = getattr(self, name) - 1
        for fields in FIELDS:
            found |= {name: getattr(self, name) for name, _ in fields if name not in found}
        return found

    def words(self) -> list[int]:
        """The `LAYER_WORDS` payload words."""
        values = self.values()
        words = []
        for fields in FIELDS:
            word, at = 0, 0
            for name, bits in fields:
                word |= values[name] % (1 << bits) << at
                at += bits
            words.append(word)
        return words


def _step(name: str, step: Step) -> dict[str, int]:
    return {f"{name}_address": step.address, f"{name}_p": step.p, f"{name}_o": step.o}


def packet(kind: PacketKind, payload: Sequence[int]) -> list[int]:
    """Header and payload words; payload has 1 to `MAX_PAYLOAD_WORDS` words."""
    if not 1 <= len(payload) <= MAX_PAYLOAD_WORDS:
        raise ValueError(f"a packet has 1 to {MAX_PAYLOAD_WORDS} words, not {len(payload)}")
    return [kind << 60 | (len(payload) - 1), *payload]


def constants_packet(
    bias: Sequence[int], mantissa: Sequence[int], shift: Sequence[int]
) -> list[int]:
    """Constants of one word's channels: bias 32, mantissa 24, shift 6 bits a word."""
    return packet(
        PacketKind.CONSTANTS,
        [
            int(b) % (1 << 32) | int(m) << 32 | int(s) << 56
            for b, m, s in zip(bias, mantissa, shift, strict=True)
        ],
    )


def table_packet(table: npt.NDArray[np.int8]) -> list[int]:
    """256 codes, eight a word, that of code -128 first."""
    return packet(PacketKind.TABLE, np.ascontiguousarray(table).view("<u8").tolist())


def weights_packet(address: int, words: npt.NDArray[np.int8], *, waits: bool) -> list[int]:
    """Words int8 [n, V] of the weight memory from an address on, n * V / 8 payload words at most
    `MAX_PAYLOAD_WORDS`; `waits`: not before no layer runs or waits."""
    payload = np.ascontiguousarray(words).view("<u8").reshape(-1).tolist()
    header, *rest = packet(PacketKind.WEIGHTS, payload)
    return [header | address << WEIGHTS_ADDRESS_AT | int(waits) << WEIGHTS_WAIT_AT, *rest]


def add_tables_packet(a: Sequence[int], b: Sequence[int]) -> list[int]:
    """256 words: entry of table a in the low half, of table b in the high half; code -128 first."""
    mask = (1 << ADD_ENTRY_BITS) - 1
    return packet(
        PacketKind.ADD_TABLES,
        [int(x) & mask | (int(y) & mask) << 32 for x, y in zip(a, b, strict=True)],
    )
