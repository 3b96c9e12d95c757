"""What a board with a 7-series device is: its chip, clock and link."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from qcompile.hw.lines.devices import LinesDevice

if TYPE_CHECKING:
    from amaranth.build import Platform


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesPins:
    """Names of the top-level Verilog ports, as the simulated board connects them."""

    clock: str
    rx: str
    tx: str


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

    @property
    def pins(self) -> LinesPins:
        """Names that Amaranth gives the pins of the first resource of each kind; "uart" only."""
        return LinesPins(
            clock=f"{self.clock_pin}_0__io",
            rx=f"{self.uart}_0__rx__io",
            tx=f"{self.uart}_0__tx__io",
        )
