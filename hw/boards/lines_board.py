"""What a board with a 7-series device is: its chip, clock and link."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from qcompile.hw.lines.devices import LinesDevice

if TYPE_CHECKING:
    from amaranth.build import Platform


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
    clock_hz : int
        Clock of the array where nothing else is asked for.
    link : "uart" or "axi"
        What the host reaches the array through.
    loader_board : str
        openFPGALoader's name.
    """

    name: str
    device: LinesDevice
    part: str
    platform: Callable[[], Platform]
    oscillator_hz: int
    clock_hz: int
    link: Literal["uart", "axi"]
    loader_board: str
