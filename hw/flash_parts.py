"""The SPI flash chips of the boards: what each holds and knows, from its data sheet."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashPart:
    """A flash chip, as `hw/sim/spi_flash.v` models it.

    Every part reads on one line (0x0B) and on two (0x3B), with 24-bit addresses and eight dummy
    clocks, and says its `jedec_id` (0x9F).

    Attributes
    ----------
    name : str
    size_bytes : int
        A power of two.
    jedec_id : int
        Manufacturer, type and capacity, 24 bits.
    sleeps : bool
        It has a power-down mode (0xB9, 0xAB), in which an iCE40 leaves it after configuration. A
        part without lets both commands pass, as every iCE40 sends them.
    quad_enable : bool
        It reads on four lines (0x6B) once bit 1 of its status register 2 is set.
    """

    name: str
    size_bytes: int
    jedec_id: int
    sleeps: bool
    quad_enable: bool

    def verilog_defines(self) -> str:
        """The macros that `hw/sim/spi_flash.v` takes its part from."""
        return (
            f"`define FLASH_SIZE_BITS {self.size_bytes.bit_length() - 1}\n"
            f"`define FLASH_JEDEC_ID 24'h{self.jedec_id:06X}\n"
            f"`define FLASH_SLEEPS {int(self.sleeps)}\n"
            f"`define FLASH_QUAD_ENABLE {int(self.quad_enable)}\n"
        )


W25Q128JV = FlashPart(
    name="W25Q128JV", size_bytes=16 << 20, jedec_id=0xEF4018, sleeps=True, quad_enable=True
)
"""Winbond W25Q128JV data sheet, revision F, section 8."""

W25Q32JV_IM = FlashPart(
    name="W25Q32JV-IM", size_bytes=4 << 20, jedec_id=0xEF7016, sleeps=True, quad_enable=True
)
"""Winbond W25Q32JV-DTR data sheet: the -IM parts have another type byte, 0x70."""

N25Q032A13 = FlashPart(
    name="N25Q032A13", size_bytes=4 << 20, jedec_id=0x20BA16, sleeps=False, quad_enable=False
)
"""Micron n25q_32mb_3v_65nm data sheet: the 3 V part has no deep power-down. It reads on four lines
without any enable bit, which no board here asks for."""

S25FL128S = FlashPart(
    name="S25FL128S", size_bytes=16 << 20, jedec_id=0x012018, sleeps=False, quad_enable=False
)
"""Infineon (Spansion) S25FL128S data sheet: without deep power-down; its quad bit lies in another
register than Winbond's, so it is read on two lines."""

N25Q128A = FlashPart(
    name="N25Q128A", size_bytes=16 << 20, jedec_id=0x20BA18, sleeps=False, quad_enable=False
)
"""Micron n25q_128mb_3v_65nm data sheet."""
