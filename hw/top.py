"""The whole FPGA: accelerator, host link and flash reader, and the board's pins around them."""

from __future__ import annotations

from typing import Any

from amaranth.build import Platform
from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Module, ResetSignal, Signal
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.boards import Board
from qcompile.hw.boards.board import flash_cells
from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.flash_cells import connect_flash_lines
from qcompile.hw.flash_reader import FlashPins, FlashReader
from qcompile.hw.host_link import HostLink
from qcompile.hw.link_ports import connect_link, link_info
from qcompile.hw.pll import Ice40Clock
from qcompile.hw.uart import connect_uart


class System(wiring.Component):
    """Accelerator, host link and flash reader in one clock domain, without vendor cells.

    Who has the flash when, and how one that does not answer shows: `link_ports.connect_link`.

    Parameters
    ----------
    core : wiring.Component
        The accelerator; docs/architecture.md section 7 lists its ports.
    config : AcceleratorConfig
    clock_hz, flash_lines : int

    Attributes
    ----------
    rx : 1, in; tx : 1, out
        The serial line; `rx` already synchronized.
    flash : FlashPins, out
    """

    rx: Signal
    tx: Signal
    flash: Any

    def __init__(
        self, core: Any, config: AcceleratorConfig, *, clock_hz: int, flash_lines: int
    ) -> None:
        self.core = core
        self.clock_hz = clock_hz
        self._link = HostLink(link_info(config, clock_hz))
        self._reader = FlashReader(clock_hz=clock_hz, lines=flash_lines)
        super().__init__({"rx": In(1), "tx": Out(1), "flash": Out(FlashPins)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.core = core = self.core
        m.submodules.link = link = self._link
        m.submodules.reader = reader = self._reader
        wiring.connect(m, wiring.flipped(self.flash), reader.pins)
        m.d.comb += [link.rx.eq(self.rx), self.tx.eq(link.tx)]
        connect_link(m, link, core, reader)
        return m


class Top(Elaboratable):
    """A `System` on a board: clock, reset and I/O cells of the board's platform.

    Every flash pin and the UART go through registers in the I/O cells; the flash clock's cell is
    a DDR output that is high in the second half of a core clock (see hw/flash_reader.py).
    """

    def __init__(self, system: System, board: Board) -> None:
        self.system = system
        self.board = board

    def elaborate(self, platform: Platform) -> Module:
        m = Module()
        m.submodules.system = system = self.system
        clock_pin: Any = platform.request(self.board.clock_pin, dir="-")
        m.submodules.core_clock = clock = Ice40Clock(
            clock_pin,
            at_pll=self.board.clock_at_pll,
            input_hz=self.board.oscillator_hz,
            output_hz=system.clock_hz,
        )
        m.domains.sync = ClockDomain()
        m.d.comb += [ClockSignal("sync").eq(clock.clock), ResetSignal("sync").eq(clock.reset)]
        platform.add_clock_constraint(clock.clock, system.clock_hz)
        uart: Any = platform.request(self.board.uart, dir={"rx": "-", "tx": "-"})
        connect_uart(m, uart, rx=system.rx, tx=system.tx)
        self._flash(m, platform)
        return m

    def _flash(self, m: Module, platform: Platform) -> None:
        """The I/O cells of `FlashPins`."""
        port: Any = platform.request(self.board.flash, dir={"cs": "-", "clk": "-", "dq": "-"})
        pins = self.system.flash
        m.submodules.select = select = io.FFBuffer(io.Direction.Output, port.cs)
        clock: Any = io.DDRBuffer(io.Direction.Output, port.clk)
        m.submodules.flash_clock = clock
        m.d.comb += [select.o.eq(pins.select), clock.o[1].eq(pins.clock)]
        connect_flash_lines(m, port.dq, pins, flash_cells(self.board.flash_lines))
