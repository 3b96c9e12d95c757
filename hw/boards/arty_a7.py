"""Digilent Arty A7-35T and A7-100T: 100 MHz, FT2232HQ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qcompile.hw.boards.lines_board import LinesBoard
from qcompile.hw.lines.devices import DEVICES

if TYPE_CHECKING:
    from amaranth.build import Platform


def _platform_35t() -> Platform:
    from amaranth_boards.arty_a7 import (  # type: ignore[import-untyped]  # it has no types
        ArtyA7_35Platform,
    )

    platform: Platform = ArtyA7_35Platform(toolchain="Vivado")
    return platform


def _platform_100t() -> Platform:
    """With the part that is on the board: neither of industrial temperature nor of low voltage."""
    from amaranth_boards.arty_a7 import ArtyA7_100Platform

    class ArtyA7100T(ArtyA7_100Platform):  # type: ignore[misc]  # its base has no types
        device = "xc7a100t"
        speed = "1"

    platform: Platform = ArtyA7100T(toolchain="Vivado")
    return platform


ARTY_A7_35T = LinesBoard(
    name="arty_a7_35t",
    device=DEVICES["xc7a35t"],
    part="xc7a35ticsg324-1L",
    platform=_platform_35t,
    oscillator_hz=100_000_000,
    clock_hz=100_000_000,
    link="uart",
    loader_board="arty_a7_35t",
    open_part="xc7a35tcsg324-1",
)
ARTY_A7_100T = LinesBoard(
    name="arty_a7_100t",
    device=DEVICES["xc7a100t"],
    part="xc7a100tcsg324-1",
    platform=_platform_100t,
    oscillator_hz=100_000_000,
    clock_hz=100_000_000,
    link="uart",
    loader_board="arty_a7_100t",
    open_part="xc7a100tcsg324-1",
)
