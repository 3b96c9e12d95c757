"""TUL PYNQ-Z2: XC7Z020-1CLG400C, whose processor drives the array through registers.

FCLK_CLK0 feeds the array's PLL; it must be 100 MHz. The link's registers
are seen at every page from 0x4000_0000 to 0x7FFF_FFFF.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qcompile.hw.boards.lines_board import LinesBoard
from qcompile.hw.lines.devices import DEVICES

if TYPE_CHECKING:
    from amaranth.build import Platform


def _platform() -> Platform:
    from amaranth.build import Attrs, Clock, Pins, Resource
    from amaranth.vendor import XilinxPlatform

    class PynqZ2Platform(XilinxPlatform):
        """Pins by the board's reference manual; the array uses none of them."""

        device = "xc7z020"
        package = "clg400"
        speed = "1"
        resources = [  # type: ignore[assignment]  # noqa: RUF012  # the stubs have a placeholder
            Resource(
                "clk125",
                0,
                Pins("H16", dir="i"),
                Clock(125_000_000),
                Attrs(IOSTANDARD="LVCMOS33"),
            )
        ]
        connectors: list[Any] = []  # type: ignore[assignment]  # noqa: RUF012  # likewise

    platform: Platform = PynqZ2Platform(toolchain="Vivado")
    return platform


PYNQ_Z2 = LinesBoard(
    name="pynq_z2",
    device=DEVICES["xc7z020"],
    part="xc7z020clg400-1",
    platform=_platform,
    oscillator_hz=100_000_000,
    clock_hz=100_000_000,
    link="axi",
    loader_board="pynq_z2",
    open_part="xc7z020clg400-1",
)
