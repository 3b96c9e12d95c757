"""What a board is: its chip, clock, flash and pins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qcompile.hw.devices import Device
from qcompile.hw.flash_parts import FlashPart

if TYPE_CHECKING:
    from amaranth.build import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardPorts:
    """Names of the top-level Verilog ports, as the simulated board connects them.

    `select` is active low; `data` has the lines of `flash_cells`.
    """

    clock: str
    rx: str
    tx: str
    select: str
    flash_clock: str
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A board that a bitstream is made for.

    Attributes
    ----------
    name : str
        As `--board` takes it.
    device : Device
    package : str
        The device's package by nextpnr's name.
    platform : callable
        Makes the Amaranth platform: pins and tool flow.
    oscillator_hz : int
        Clock at the pin that feeds the PLL.
    clock_pin, uart, flash : str
        Resource names of the platform: clock input, UART (rx, tx), flash (cs, clk, dq).
    clock_at_pll : bool
        The clock pin is the PLL's own pad; otherwise the clock takes a way through the fabric.
    flash_part : FlashPart
    flash_lines : int
        Data lines that reads use: 1, 2 or 4.
    loader_board : str
        openFPGALoader's name.
    loader_cable : str or None
        openFPGALoader's name of the programmer where it is not that of `loader_board`.
    """

    name: str
    device: Device
    package: str
    platform: Callable[[], Platform]
    oscillator_hz: int
    clock_pin: str
    uart: str
    flash: str
    clock_at_pll: bool
    flash_part: FlashPart
    flash_lines: int
    loader_board: str
    loader_cable: str | None = None

    @property
    def ports(self) -> BoardPorts:
        """Names that Amaranth gives the pins of the first resource of each kind."""
        return BoardPorts(
            clock=f"{self.clock_pin}_0__io",
            rx=f"{self.uart}_0__rx__io",
            tx=f"{self.uart}_0__tx__io",
            select=f"{self.flash}_0__cs__io",
            flash_clock=f"{self.flash}_0__clk__io",
            data=f"{self.flash}_0__dq__io",
        )


def flash_cells(lines: int) -> int:
    """Data pins of a flash that is read on so many lines: one needs DI and DO."""
    return max(lines, 2)
