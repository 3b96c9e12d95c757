"""The configuration of one array of lines: everything that changes its netlist, validated once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from qcompile.hw.config import ACC_WIDTHS, configuration_id

COLUMN_CHOICES = (4, 8, 16)
MAX_LINES = 8
LANE_CHOICES = (1, 2, 4)

DspStyle = Literal["instance", "inferred", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesConfig:
    """Sizes of an array of lines; docs/lines.md says what the parts do.

    Attributes
    ----------
    lines : int
        Groups of `rows` rows that have a read port of their own, 1..8.
    rows : int
        Output positions of a line, 4.
    columns : int
        Output channels computed at once (C), and channels in a memory word (V): 4, 8 or 16.
    lanes : int
        Requantization units of each line: 1, 2 or 4.
    acc_width : int
        Bits of an accumulator, one of 20, 24, 28, 32.
    bank_words : int
        Words of each bank of each of the two activation memories, 16 or more.
    weight_rows : int
        Rows of the weight memory, each of `lines` words.
    adder : bool
        Residual operands are fetched and added.
    streams : bool
        Weights come with the program, while layers run too; words of 8 weights or more.
    dsp : "instance", "inferred" or "none"
        How pairs of multiply-accumulators are written.
    dsp_pairs : int
        Pairs that take a DSP; the rest are logic.
    """

    lines: int = 8
    rows: int = 4
    columns: int = 16
    lanes: int = 4
    acc_width: int = 24
    bank_words: int = 512
    weight_rows: int = 512
    adder: bool = True
    streams: bool = False
    dsp: DspStyle = "inferred"
    dsp_pairs: int = 256

    def __post_init__(self) -> None:
        if not 1 <= self.lines <= MAX_LINES:
            raise ValueError(f"lines must be 1 to {MAX_LINES}, not {self.lines}")
        if self.rows != 4:
            raise ValueError(f"rows must be 4, not {self.rows}")
        for name, choices in (
            ("columns", COLUMN_CHOICES),
            ("lanes", LANE_CHOICES),
            ("acc_width", ACC_WIDTHS),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {choices}, not {getattr(self, name)}")
        for name in ("bank_words", "weight_rows"):
            if getattr(self, name) < 16:
                raise ValueError(f"{name} must be 16 or more, not {getattr(self, name)}")
        if self.streams and self.columns < 8:
            raise ValueError(f"with `streams` columns must be 8 or more, not {self.columns}")

    @property
    def banks(self) -> int:
        """Banks of an activation memory: the power of two that is `lines` or the next above."""
        return 1 << (self.lines - 1).bit_length()

    @property
    def turns_words(self) -> bool:
        """Tensors may lie turned: bit 0 of a word's address changes where the lowest bit of its row
        of the banks is set, and with eight banks bits 0 and 1 then change places. Words an even,
        not doubly even number apart then meet in no bank; those an odd number apart cannot be read
        at once."""
        return self.banks >= 4

    def place(self, address: int) -> int:
        """Where a turned tensor's word lies."""
        address ^= address >> self.bank_bits & 1
        if self.banks < 8:
            return address
        return address & ~3 | address << 1 & 2 | address >> 1 & 1

    @property
    def line_groups(self) -> int:
        """Lines whose numbers are equal modulo this read, in one cycle, banks whose numbers are."""
        return {1: 1, 2: 2, 4: 1, 8: 2}[self.banks]

    @property
    def lower_lines(self) -> int:
        """Lines whose finished words take the first write port; those above take the second."""
        return max(1, self.banks // 2)

    @property
    def set_words(self) -> int:
        """Words of each activation memory."""
        return self.banks * self.bank_words

    @property
    def bank_bits(self) -> int:
        """Lowest bits of a word's address: its bank, or its word in a row of the weight memory."""
        return (self.banks - 1).bit_length()

    @property
    def address_bits(self) -> int:
        """Bits of a word's address within a set of the activation memory."""
        return (self.set_words - 1).bit_length()

    @property
    def weight_address_bits(self) -> int:
        """Bits of a word's address in the weight memory."""
        return (self.banks * self.weight_rows - 1).bit_length()

    @property
    def pairs(self) -> int:
        """Pairs of multiply-accumulators: two rows that share a weight."""
        return self.lines * self.rows // 2 * self.columns

    @property
    def pairs_in_dsp(self) -> int:
        """Those that take a DSP."""
        return 0 if self.dsp == "none" else min(self.dsp_pairs, self.pairs)

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates in one cycle at full utilisation."""
        return 2 * self.pairs

    @property
    def word_bits(self) -> int:
        """Bits of a memory word and of a weight word."""
        return 8 * self.columns

    def weight_address(self, word: int) -> int:
        """Address of the weight memory's word number `word`: word within the row, then the row.

        The same number where `lines` is a power of two.
        """
        row, line = divmod(word, self.lines)
        return row * self.banks + line

    @property
    def id(self) -> int:
        """CRC-32 of the canonical JSON of everything that the program depends on."""
        return configuration_id(asdict(self), {"dsp", "dsp_pairs"})
