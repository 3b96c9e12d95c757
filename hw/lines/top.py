"""The whole FPGA of a 7-series board: the array with its link, and the board around them."""

from __future__ import annotations

from typing import Any

from amaranth.build import Platform
from amaranth.hdl import (
    ClockDomain,
    ClockSignal,
    Elaboratable,
    Instance,
    Module,
    ResetSignal,
    Signal,
)
from amaranth.lib import io, wiring

from qcompile.hw.axi.burst_bridge import BurstBridge
from qcompile.hw.boards.lines_board import LinesBoard
from qcompile.hw.flash_cells import connect_flash_lines
from qcompile.hw.lines.accelerator import ProgramSource
from qcompile.hw.lines.clock import LinesClock
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.contents import LinesContents
from qcompile.hw.lines.system import LinesSystem
from qcompile.hw.uart import connect_uart
from qcompile.hw.vendor.zynq_ps7 import ADDRESS_BITS, ID_BITS, ZynqPs7
from qcompile.runtime.protocol import REGISTER_ADDRESS_BITS


class LinesTop(Elaboratable):
    """A `LinesSystem` on a board, with its program and weights in the bitstream or in the flash.

    Where the link is a UART, clock and serial line come from pins; where it is AXI, from the
    processor beside the array, whose master reaches the registers. Nothing drives the streams.
    Signals of the flash go through registers in the I/O cells, its clock through one in front of
    the STARTUPE2.

    Parameters
    ----------
    config : LinesConfig
    board : LinesBoard
    contents : LinesContents or None
        None: the board's flash has them.
    clock_hz : int
        Clock of the array.
    """

    def __init__(
        self,
        config: LinesConfig,
        board: LinesBoard,
        contents: LinesContents | None,
        *,
        clock_hz: int,
    ) -> None:
        self.board = board
        self.clock_hz = clock_hz
        if contents is not None:
            source: ProgramSource = contents.program_words
        elif board.flash is not None:
            source = board.flash.timing(clock_hz)
        else:
            raise ValueError(f"{board.name} has no flash that a design reads")
        self._system = LinesSystem(config, source, contents, clock_hz=clock_hz, link=board.link)

    def elaborate(self, platform: Platform) -> Module:
        m = Module()
        m.submodules.system = self._system
        if self.board.link == "uart":
            source = self._clock_pin(m, platform)
            uart: Any = platform.request(self.board.uart, dir={"rx": "-", "tx": "-"})
            connect_uart(m, uart, rx=self._system.rx, tx=self._system.tx)
        else:
            source = self._processor(m, platform)
        if self._system.in_flash:
            self._flash(m, platform)
        m.submodules.core_clock = clock = LinesClock(
            source, input_hz=self.board.oscillator_hz, output_hz=self.clock_hz
        )
        m.domains.sync = ClockDomain()
        m.d.comb += [ClockSignal("sync").eq(clock.clock), ResetSignal("sync").eq(clock.reset)]
        return m

    def _clock_pin(self, m: Module, platform: Platform) -> Signal:
        """The clock behind its pin; the platform constrains the pin."""
        pin: Any = platform.request(self.board.clock_pin, dir="-")
        m.submodules.clock_input = buffer = io.Buffer(io.Direction.Input, pin)
        source = Signal()
        m.d.comb += source.eq(buffer.i)
        return source

    def _flash(self, m: Module, platform: Platform) -> None:
        """The cells of `FlashPins`."""
        assert self.board.flash is not None, "the constructor looked"
        port: Any = platform.request(self.board.flash.resource, dir={"cs": "-", "dq": "-"})
        pins = self._system.flash
        m.submodules.flash_select = select = io.FFBuffer(io.Direction.Output, port.cs)
        m.d.comb += select.o.eq(pins.select)
        connect_flash_lines(m, port.dq, pins, len(pins.d_o))
        clock = Signal()
        m.d.sync += clock.eq(pins.clock)
        constants = {"CLK": 0, "GSR": 0, "GTS": 0, "KEYCLEARB": 1, "PACK": 0, "USRCCLKTS": 0}
        m.submodules.startup = Instance(
            "STARTUPE2",
            ("p", "PROG_USR", "FALSE"),
            ("i", "USRCCLKO", clock),
            ("i", "USRDONEO", 1),
            ("i", "USRDONETS", 1),
            *(("i", name, value) for name, value in constants.items()),
        )

    def _processor(self, m: Module, platform: Platform) -> Signal:
        """The processor's clock; its master at the registers."""
        m.submodules.processor = processor = ZynqPs7()
        m.submodules.bridge = bridge = BurstBridge(
            id_bits=ID_BITS, address_bits=ADDRESS_BITS, lite_bits=REGISTER_ADDRESS_BITS
        )
        wiring.connect(m, processor.axi, bridge.i)
        wiring.connect(m, bridge.o, self._system.axi)
        source = Signal(name="processor_clock")
        m.d.comb += source.eq(processor.clock)
        platform.add_clock_constraint(source, self.board.oscillator_hz)
        return source
