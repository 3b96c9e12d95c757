"""tinyVision.ai UPduino v3: iCE40UP5K, 12 MHz, W25Q32JV on two lines, no serial port of its own.

Pins by the schematic of v3.0; v3.1 has the same. What it needs:

* the jumper OSC (R16) closed, which brings the 12 MHz to pin 20, and the two jumpers qSPI (R24,
  R25) open: one of them would join pin 20 with HOLD#. So reads go over two lines;
* a serial adapter of 3.3 V that does 3 Mbaud, its TX at header pin 9 and its RX at 6: the FT232H of
  the board has no pins but the flash's;
* power without USB data while it runs (the 5 V pin, or a cable for charging): as a serial port the
  FT232H drives the flash's lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcompile.hw.boards.board import Board
from qcompile.hw.devices import UP5K
from qcompile.hw.flash_parts import W25Q32JV_IM

if TYPE_CHECKING:
    from amaranth.build import Platform


def _platform() -> Platform:
    from amaranth.build import Attrs
    from amaranth_boards.resources import (  # type: ignore[import-untyped]  # it has no types
        UARTResource,
    )
    from amaranth_boards.upduino_v3 import (  # type: ignore[import-untyped]  # it has no types
        UpduinoV3Platform,
    )

    platform: Platform = UpduinoV3Platform()
    attributes = Attrs(IO_STANDARD="SB_LVCMOS", PULLUP=1)
    platform.add_resources([UARTResource(0, rx="9", tx="6", attrs=attributes)])
    return platform


UPDUINO_V3 = Board(
    name="upduino_v3",
    device=UP5K,
    package="sg48",
    platform=_platform,
    oscillator_hz=12_000_000,
    clock_pin="clk12",
    clock_at_pll=False,
    uart="uart",
    flash="spi_flash_2x",
    flash_part=W25Q32JV_IM,
    flash_lines=2,
    loader_board="ice40_generic",
    loader_cable="ft232",
)
