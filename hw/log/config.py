"""Sizes of the log-domain array: everything that changes its netlist, validated once."""

from __future__ import annotations

from dataclasses import dataclass

LEVELS = (8, 16, 32)
STEPS = (8, 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogArrayConfig:
    """Sizes of a log-domain array; what codes mean: `compiler.log_format`.

    Attributes
    ----------
    rows : int
        Output positions computed at once, 2 or more.
    columns : int
        Output channels computed at once, and channels in an activation word.
    levels : int
        Codes of an activation, one of 8, 16, 32; code 0 is zero.
    step : int
        Sixteenths of an octave from a code to the next: 16 (powers of two), or 8 (of the square
        root of two: two sums, of the codes with whole and with half octaves).
    acc_width : int
        Bits of each sum.
    """

    rows: int = 4
    columns: int = 4
    levels: int = 8
    step: int = 16
    acc_width: int = 24

    def __post_init__(self) -> None:
        if self.rows < 2 or self.columns < 1:
            raise ValueError(
                f"rows and columns must be at least 2 and 1, not {self.rows} and {self.columns}"
            )
        if self.levels not in LEVELS:
            raise ValueError(f"levels must be one of {LEVELS}, not {self.levels}")
        if self.step not in STEPS:
            raise ValueError(f"step must be one of {STEPS}, not {self.step}")
        if self.acc_width <= self.product_bits:
            raise ValueError(
                f"acc_width must be more than a product's {self.product_bits} bits, "
                f"not {self.acc_width}"
            )

    @property
    def code_bits(self) -> int:
        """Bits of an activation code."""
        return (self.levels - 1).bit_length()

    @property
    def classes(self) -> int:
        """Sums of a processing element: one for each residue of the exponents."""
        return 16 // self.step

    @property
    def sum_bits(self) -> int:
        """Bits of all sums of a processing element."""
        return self.classes * self.acc_width

    @property
    def product_bits(self) -> int:
        """Bits of a weight shifted by the largest exponent."""
        return 8 + (self.levels - 2) * self.step // 16
