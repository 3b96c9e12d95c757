"""The configuration of one accelerator: everything that changes its netlist, validated once."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass
from typing import Literal

ACC_WIDTHS = (20, 24, 28, 32)
LOG_ACC_WIDTH = 24
"""Widest sums of logarithmic codes: their limits fill a channel's constants."""
MAX_SHIFTS = (39, 47, 55)
"""Largest right shifts that exact requantization is built for; scales from 2**-16, -24, -32."""
MAX_BANK_WORDS = 1 << 14
"""Words that a bank's addresses reach."""
MIN_WORDS = 256
"""Of a bank, or of the weight FIFO."""
SHIFT_RANGE = 32
"""Right shifts below and including the largest that one unit does."""


def configuration_id(fields: Mapping[str, object], without: Set[str]) -> int:
    """CRC-32 of the canonical JSON of a configuration's fields, some of them left out."""
    kept = {name: value for name, value in fields.items() if name not in without}
    return zlib.crc32(json.dumps(kept, sort_keys=True).encode())


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
        Words of `columns` bytes in each of the two memory banks, 16,384 at most.
    weight_depth : int
        Weight words in the weight FIFO; a channel group used by several tiles must fit.
    requant : "exact" or "shift"
        Which requantization unit is built.
    max_shift : int
        Largest right shift of exact requantization, one of 39, 47, 55: the smallest that the
        model's scales need, since 8 more cost about 330 logic cells.
    adder : bool
        Residual operands are fetched and added: 5 block RAMs. Without, codes pass as ever.
    codebook : bool
        Weights may come as 4-bit indices of a layer's codebook: 4 block RAMs.
    pe : "int8" or "log"
        The array: multipliers, or shifts of the weight by logarithmic codes (`hw.log`).
    vendor : "ice40", "ice40hx" or "plain"
        Which multipliers and banks are built: the DSPs and SPRAM of iCE40 UltraPlus, logic cells
        and block RAM, or what a simulator likes best.
    """

    rows: int = 4
    columns: int = 4
    acc_width: int = 24
    bank_words: int = 16384
    weight_depth: int = 1024
    requant: Literal["exact", "shift"] = "exact"
    max_shift: int = MAX_SHIFTS[0]
    adder: bool = True
    codebook: bool = False
    pe: Literal["int8", "log"] = "int8"
    vendor: Literal["ice40", "ice40hx", "plain"] = "ice40"

    def __post_init__(self) -> None:
        if self.rows != 4 or self.columns != 4:
            raise ValueError(f"rows and columns must be 4, not {self.rows} and {self.columns}")
        if self.acc_width not in ACC_WIDTHS:
            raise ValueError(f"acc_width must be one of {ACC_WIDTHS}, not {self.acc_width}")
        if self.pe == "log" and self.acc_width > LOG_ACC_WIDTH:
            raise ValueError(
                f"acc_width must be {LOG_ACC_WIDTH} or less with pe log, not {self.acc_width}"
            )
        if self.max_shift not in MAX_SHIFTS:
            raise ValueError(f"max_shift must be one of {MAX_SHIFTS}, not {self.max_shift}")
        if self.bank_words > MAX_BANK_WORDS:
            raise ValueError(f"bank_words must be {MAX_BANK_WORDS} or less, not {self.bank_words}")
        for name in ("bank_words", "weight_depth"):
            value = getattr(self, name)
            if value < MIN_WORDS or value & (value - 1):
                raise ValueError(
                    f"{name} must be a power of two of {MIN_WORDS} or more, not {value}"
                )

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates in one cycle at full utilisation."""
        return self.rows * self.columns

    @property
    def id(self) -> int:
        """CRC-32 of the canonical JSON of everything that the program depends on.

        What came later and is not there is left out, so that older bitstreams keep their ids.
        """
        later = {"codebook": self.codebook, "pe": self.pe == "log"}
        without = {name for name, there in later.items() if not there}
        return configuration_id(asdict(self), {"vendor", *without})
