"""Sizes of the log-domain array: everything that changes its netlist, validated once."""

from __future__ import annotations

from dataclasses import dataclass

LEVELS = (8, 16, 32)
FOUR_BIT_LEVELS = 16
"""Most that a code of four bits has in memory; more take eight."""
STEPS = (8, 16)
FORMS = ((8, 16), (16, 16), (8, 8), (16, 8), (32, 8))
"""Levels and step of the arrays that are built into machines."""
BIAS_BITS = 32
FRACTION_OCTAVES = 8
"""Up to which sums have room for a fraction; with more, a whole number is a small part of them."""
CLASS_BITS = 15
"""Fraction bits of the class constants, `golden.log_domain.CONSTANT_BITS`."""


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
    def octaves(self) -> int:
        """Whole octaves from code 1 to the last one."""
        return (self.levels - 2) * self.step // 16

    @property
    def keeps_fraction(self) -> bool:
        """Whether sums that end in linear codes keep a fraction: those of few half octaves."""
        return self.classes > 1 and self.octaves <= FRACTION_OCTAVES

    @property
    def total_bits(self) -> int:
        """Bits that joined sum and bias must fit."""
        return self.acc_width if self.classes == 1 else self.acc_width + CLASS_BITS + 1

    @property
    def limit_bits(self) -> int:
        """Bits of a limit: -T of the last code, for every first threshold a total can reach."""
        return self.total_bits + self.octaves

    @property
    def constant_words(self) -> int:
        """16-bit words of one channel's constants: bias, limits and two flags, 4 or more."""
        return max(4, -(-(BIAS_BITS + self.classes * self.limit_bits + 2) // 16))

    @property
    def product_bits(self) -> int:
        """Bits of a weight shifted by the largest exponent."""
        return 8 + self.octaves
