"""What a board with a 7-series device is: its chip, clock and link."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from qcompile.hw.flash_parts import FlashPart
from qcompile.hw.lines.devices import LinesDevice
from qcompile.hw.lines.flash_program import FlashTiming

if TYPE_CHECKING:
    from amaranth.build import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesPins:
    """Names of the top-level Verilog ports, as the simulated board connects them.

    `select` (active low) and `data` are there in a design that reads the flash.
    """

    clock: str
    rx: str
    tx: str
    select: str
    data: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardFlash:
    """The flash of a board, as a design reads it; its clock goes through a STARTUPE2.

    Attributes
    ----------
    part : FlashPart
    resource : str
        Resource name of the platform: `cs` and four of `dq`.
    lines : int
        Data lines that reads use.
    clock_hz : int
        Of the flash clock at most.
    offset : int
        Byte address of an image, behind the device's bitstream: whole MiB.
    """

    part: FlashPart
    resource: str
    lines: int
    clock_hz: int
    offset: int

    def timing(self, clock_hz: int) -> FlashTiming:
        """The fastest read by a design of this clock."""
        divider = max(2, -(-clock_hz // self.clock_hz))
        return FlashTiming(clock_hz=clock_hz, divider=divider, lines=self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesBoard:
    """A board that an array of lines is made for.

    Attributes
    ----------
    name : str
        As `--board` takes it.
    device : LinesDevice
    part : str
        Device with package and speed, as Vivado takes it.
    platform : callable
        Makes the Amaranth platform: pins and tool flow.
    oscillator_hz : int
        Clock that feeds the design's own: a pin, or the processor's clock for the fabric.
    clock_pin, uart : str
        Resource names of the platform: clock input, UART (rx, tx); with "uart" only.
    clock_hz : int
        Clock of the array where nothing else is asked for.
    link : "uart" or "axi"
        What the host reaches the array through.
    loader_board : str
        openFPGALoader's name.
    open_part : str
        The part as openXC7's data base calls it: temperature and voltage make no difference there.
    flash : BoardFlash or None
        One that a design can read its program from.
    """

    name: str
    device: LinesDevice
    part: str
    platform: Callable[[], Platform]
    oscillator_hz: int
    clock_hz: int
    link: Literal["uart", "axi"]
    loader_board: str
    open_part: str
    clock_pin: str = "clk100"
    uart: str = "uart"
    flash: BoardFlash | None = None

    @property
    def pins(self) -> LinesPins:
        """Names that Amaranth gives the pins of the first resource of each kind; "uart" only."""
        return LinesPins(
            clock=f"{self.clock_pin}_0__io",
            rx=f"{self.uart}_0__rx__io",
            tx=f"{self.uart}_0__tx__io",
            select="" if self.flash is None else f"{self.flash.resource}_0__cs__io",
            data="" if self.flash is None else f"{self.flash.resource}_0__dq__io",
        )
