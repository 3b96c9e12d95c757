"""Digilent Arty A7-35T and A7-100T: 100 MHz, FT2232HQ, 16 MB of SPI flash.

The flash is an S25FL128S, an N25Q128A on the first boards; the FPGA's configuration clock is its
clock. Bitstreams take 2,192,012 bytes (xc7a35t) and 3,825,788 (xc7a100t): UG470, table 1-1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qcompile.hw.boards.lines_board import BoardFlash, LinesBoard
from qcompile.hw.flash_parts import S25FL128S
from qcompile.hw.lines.devices import DEVICES

if TYPE_CHECKING:
    from amaranth.build import Platform


FLASH = BoardFlash(
    part=S25FL128S,
    resource="program_flash",
    lines=2,
    clock_hz=33_400_000,
    offset=0x400000,
)


def _flash() -> Any:
    """The flash without its clock, which has no pin of the fabric."""
    from amaranth.build import Attrs, Pins, PinsN, Resource, Subsignal

    return Resource(
        FLASH.resource,
        0,
        Subsignal("cs", PinsN("L13", dir="o")),
        Subsignal("dq", Pins("K17 K18 L14 M14", dir="io")),
        Attrs(IOSTANDARD="LVCMOS33"),
    )


def _platform_35t() -> Platform:
    from amaranth_boards.arty_a7 import (  # type: ignore[import-untyped]  # it has no types
        ArtyA7_35Platform,
    )

    class ArtyA735T(ArtyA7_35Platform):  # type: ignore[misc]  # its base has no types
        resources = [*ArtyA7_35Platform.resources, _flash()]  # noqa: RUF012  # as its base

    platform: Platform = ArtyA735T(toolchain="Vivado")
    return platform


def _platform_100t() -> Platform:
    """With the part that is on the board: neither of industrial temperature nor of low voltage."""
    from amaranth_boards.arty_a7 import ArtyA7_100Platform

    class ArtyA7100T(ArtyA7_100Platform):  # type: ignore[misc]  # its base has no types
        device = "xc7a100t"
        speed = "1"
        resources = [*ArtyA7_100Platform.resources, _flash()]  # noqa: RUF012  # as its base

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
    flash=FLASH,
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
    flash=FLASH,
)
