"""The 7-series devices that an array of lines is sized for."""

from __future__ import annotations

from dataclasses import dataclass

FAMILY = "xc7"
LUT_PERCENT = 70
BLOCK_PERCENT = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesDevice:
    """What a device has, and the share of it that an array may take.

    Attributes
    ----------
    name : str
        As `--device` takes it: the vendor's name in lower case, without package and speed.
    luts, dsps : int
        Six-input look-up tables and DSP48E1.
    block_rams : int
        Block RAMs of 36 Kbit.
    """

    name: str
    luts: int
    dsps: int
    block_rams: int

    @property
    def family(self) -> str:
        """As `--target` takes it."""
        return FAMILY

    @property
    def part(self) -> str:
        """The vendor's name."""
        return self.name.upper()

    @property
    def lut_budget(self) -> int:
        """Look-up tables that an array may take: 70 %, so that it can be routed."""
        return self.luts * LUT_PERCENT // 100

    @property
    def dsp_budget(self) -> int:
        """DSPs that an array may take: 90 %."""
        return self.dsps * BLOCK_PERCENT // 100

    @property
    def block_ram_budget(self) -> float:
        """Block RAMs of 36 Kbit that an array may take: 90 %, in halves."""
        return self.block_rams * 2 * BLOCK_PERCENT // 100 / 2


DEVICES = {
    device.name: device
    for device in (
        LinesDevice(name="xc7a35t", luts=20_800, dsps=90, block_rams=50),
        LinesDevice(name="xc7z020", luts=53_200, dsps=220, block_rams=140),
        LinesDevice(name="xc7a100t", luts=63_400, dsps=240, block_rams=135),
    )
}
"""By name, fewest LUTs first."""
