"""1BitSquared iCEBreaker: iCE40UP5K, 12 MHz, FT2232H, W25Q128JV."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcompile.hw.boards.board import Board
from qcompile.hw.devices import UP5K
from qcompile.hw.flash_parts import W25Q128JV

if TYPE_CHECKING:
    from amaranth.build import Platform


def _platform() -> Platform:
    from amaranth_boards.icebreaker import (  # type: ignore[import-untyped]  # it has no types
        ICEBreakerPlatform,
    )

    platform: Platform = ICEBreakerPlatform()
    return platform


ICEBREAKER = Board(
    name="icebreaker",
    device=UP5K,
    package="sg48",
    platform=_platform,
    oscillator_hz=12_000_000,
    clock_pin="clk12",
    uart="uart",
    flash="spi_flash_4x",
    clock_at_pll=True,
    flash_part=W25Q128JV,
    flash_lines=4,
    loader_board="ice40_generic",
)
