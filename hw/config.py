"""The configuration of one accelerator: everything that changes its netlist, validated once."""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict, dataclass
from typing import Literal

ACC_WIDTHS = (20, 24, 28, 32)
MAX_SHIFT = 39
"""Largest right shift of exact requantization: scales of 2**-16 and more."""
MIN_SHIFT = MAX_SHIFT - 31


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceleratorConfig:
    """Sizes of the array, its buffers and its units; equal configurations share one bitstream.

    Attributes
    ----------
    rows : int
        Output positions computed at once (R). Equal to `columns` for now: a word has one byte a
        column and a pass of the rotate mode has one read a row.
    columns : int
        Output channels computed at once (C), and channels in a memory word (V).
    acc_width : int
        Bits of an accumulator, one of 20, 24, 28, 32: holds every sum of products of raw codes.
    bank_words : int
        Words of `columns` bytes in each of the two memory banks.
    weight_depth : int
        Weight words in the weight FIFO; a channel group used by several tiles must fit.
    requant : "exact" or "shift"
        Which requantization unit is built.
    vendor : "ice40" or "plain"
        Which multipliers and memories are built.
    """

    rows: int = 4
    columns: int = 4
    acc_width: int = 24
    bank_words: int = 16384
    weight_depth: int = 1024
    requant: Literal["exact", "shift"] = "exact"
    vendor: Literal["ice40", "plain"] = "ice40"

    def __post_init__(self) -> None:
        if self.rows != 4 or self.columns != 4:
            raise ValueError(f"rows and columns must be 4, not {self.rows} and {self.columns}")
        if self.acc_width not in ACC_WIDTHS:
            raise ValueError(f"acc_width must be one of {ACC_WIDTHS}, not {self.acc_width}")
        for name in ("bank_words", "weight_depth"):
            value = getattr(self, name)
            if value < 256 or value & (value - 1):
                raise ValueError(f"{name} must be a power of two of 256 or more, not {value}")

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates in one cycle at full utilisation."""
        return self.rows * self.columns

    @property
    def id(self) -> int:
        """CRC-32 of the canonical JSON of everything that the program depends on."""
        fields = {name: value for name, value in asdict(self).items() if name != "vendor"}
        return zlib.crc32(json.dumps(fields, sort_keys=True).encode())
