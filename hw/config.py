"""The configuration of one accelerator: everything that changes its netlist, validated once."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass
from typing import Literal

from qcompile.hw.log.config import FOUR_BIT_LEVELS, LogArrayConfig
from qcompile.hw.program import CONSTANT_WORDS

ACC_WIDTHS = (20, 24, 28, 32)
MAX_SHIFTS = (39, 47, 55)
"""Largest right shifts that exact requantization is built for; scales from 2**-16, -24, -32."""
MAX_BANK_WORDS = 1 << 14
"""Words that a bank's addresses reach."""
MAX_CONSTANT_WORDS = 16
"""Of a channel with logarithmic codes."""
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
        Output positions computed at once (R). Equal to `columns` for now: a word has one code a
        column and a pass of the rotate mode has one read a row.
    columns : int
        Output channels computed at once (C), and channels in a memory word (V).
    acc_width : int
        Bits of an accumulator, one of 20, 24, 28, 32: holds every sum of products of raw codes.
    bank_words : int
        Words of `columns` codes in each of the two memory banks, 16,384 at most.
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
    levels, step : int
        Of the logarithmic codes: 8 or 16 in four bits of memory each, or 32 in a byte; sixteenths
        of an octave from one to the next, 16 or 8. Not looked at with `pe` int8.
    pairs : bool
        Any function of a code and a residual code of four bits, instead of the larger one: 4 block
        RAMs. Only with `pe` log.
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
    levels: int = 8
    step: int = 16
    pairs: bool = False
    vendor: Literal["ice40", "ice40hx", "plain"] = "ice40"

    def __post_init__(self) -> None:
        if self.rows != 4 or self.columns != 4:
            raise ValueError(f"rows and columns must be 4, not {self.rows} and {self.columns}")
        if self.acc_width not in ACC_WIDTHS:
            raise ValueError(f"acc_width must be one of {ACC_WIDTHS}, not {self.acc_width}")
        if self.pe == "log" and self.log.constant_words > MAX_CONSTANT_WORDS:
            raise ValueError(
                f"the limits of {self.levels} levels and sums of {self.acc_width} bits do not fit"
                f" {MAX_CONSTANT_WORDS} words"
            )
        if self.pairs and self.code_bits != 4:
            raise ValueError("pairs need codes of four bits")
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
    def log(self) -> LogArrayConfig:
        """The sizes of a log-domain array in this machine."""
        return LogArrayConfig(
            rows=self.rows,
            columns=self.columns,
            levels=self.levels,
            step=self.step,
            acc_width=self.acc_width,
        )

    @property
    def code_bits(self) -> int:
        """Bits of an activation code in memory."""
        return 4 if self.pe == "log" and self.levels <= FOUR_BIT_LEVELS else 8

    @property
    def word_bits(self) -> int:
        """Bits of a memory word."""
        return self.code_bits * self.columns

    @property
    def sum_bits(self) -> int:
        """Bits of all sums of an output."""
        return self.log.sum_bits if self.pe == "log" else self.acc_width

    @property
    def stores_weights(self) -> bool:
        """Whether the memory takes weight words, of 32 bits, for later."""
        return self.word_bits == 32

    @property
    def constant_words(self) -> int:
        """16-bit words of one channel's constants."""
        return self.log.constant_words if self.pe == "log" else CONSTANT_WORDS

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates in one cycle at full utilisation."""
        return self.rows * self.columns

    @property
    def id(self) -> int:
        """CRC-32 of the canonical JSON of everything that the program depends on.

        What came later and is not there is left out, so that older bitstreams keep their ids.
        """
        logarithmic = self.pe == "log"
        later = {
            **{"codebook": self.codebook, "pe": logarithmic},
            **{"levels": logarithmic, "step": logarithmic, "pairs": self.pairs},
        }
        without = {name for name, there in later.items() if not there}
        return configuration_id(asdict(self), {"vendor", *without})
