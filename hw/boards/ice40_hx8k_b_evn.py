"""Lattice iCE40-HX8K breakout board: iCE40HX8K, 12 MHz, FT2232H, N25Q032A13 on two lines.

Its jumpers stand as for programming the flash, not the chip's own memory. WP# and HOLD# of the
flash have no pins at the chip, so reads go over two lines. The clock of pin J3 reaches the PLL from
inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcompile.hw.boards.board import Board
from qcompile.hw.devices import HX8K
from qcompile.hw.flash_parts import N25Q032A13

if TYPE_CHECKING:
    from amaranth.build import Platform


def _platform() -> Platform:
    from amaranth_boards.ice40_hx8k_b_evn import (  # type: ignore[import-untyped]  # it has no types
        ICE40HX8KBEVNPlatform,
    )

    platform: Platform = ICE40HX8KBEVNPlatform()
    return platform


ICE40_HX8K_B_EVN = Board(
    name="ice40_hx8k_b_evn",
    device=HX8K,
    package="ct256",
    platform=_platform,
    oscillator_hz=12_000_000,
    clock_pin="clk12",
    clock_at_pll=False,
    uart="uart",
    flash="spi_flash_2x",
    flash_part=N25Q032A13,
    flash_lines=2,
    loader_board="ice40_generic",
)
