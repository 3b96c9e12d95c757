"""An array of lines with its link to the host, in one clock domain and without vendor cells."""

from __future__ import annotations

from typing import Any, Literal

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.axi.link import AxiLink
from qcompile.hw.axi.signatures import AXI_STREAM, axi_lite
from qcompile.hw.flash_reader import FlashPins
from qcompile.hw.host_link import HostLink
from qcompile.hw.lines.accelerator import LinesAccelerator, ProgramSource
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.contents import LinesContents
from qcompile.hw.lines.flash_program import FlashTiming
from qcompile.hw.lines.program_memory import WORD_BITS
from qcompile.hw.link_ports import connect_control
from qcompile.runtime.protocol import (
    PROTOCOL_VERSION,
    REGISTER_ADDRESS_BITS,
    CoreError,
    Info,
    State,
)

HOST_ADDRESS_BITS = 16
"""The host's address of an activation word: bits 0 to 14 its number in the set, bit 15 the set."""
LinkKind = Literal["uart", "axi"]


def lines_info(config: LinesConfig, clock_hz: int) -> Info:
    """What the link tells: `rows` are those of all lines, `columns` the bytes of a memory word."""
    return Info(
        version=PROTOCOL_VERSION,
        rows=config.lines * config.rows,
        columns=config.columns,
        acc_width=config.acc_width,
        configuration_id=config.id,
        clock_hz=clock_hz,
    )


class LinesSystem(wiring.Component):
    """`LinesAccelerator` behind a link, which reads and starts programs in a flash.

    Without a flash of the board this is the program memory: byte address n is its byte n; beyond
    its end bytes are undefined. A program begins at a whole word: the low three bits of its address
    are ignored. A flash that does not answer shows as `State.ERROR` with
    `CoreError.FLASH_SILENT`.

    Parameters
    ----------
    config : LinesConfig
    source : int or FlashTiming
        Words of the program memory, or how the flash with the program is read.
    contents : LinesContents or None
        What program and weight memory hold from power-up on: the link writes neither.
    clock_hz : int
        Clock of the `sync` domain.
    link : "uart" or "axi"

    Attributes
    ----------
    rx : 1, in; tx : 1, out
        With "uart": the serial line; `rx` already synchronized.
    axi : axi_lite(12), in; words_i : AXI_STREAM, in; words_o : AXI_STREAM, out
        With "axi": as `AxiLink` has them.
    flash : FlashPins, out
        With a flash: as `FlashProgram` has them.
    """

    rx: Signal
    tx: Signal
    axi: Any
    words_i: Any
    words_o: Any
    flash: Any

    def __init__(
        self,
        config: LinesConfig,
        source: ProgramSource,
        contents: LinesContents | None,
        *,
        clock_hz: int,
        link: LinkKind,
    ) -> None:
        self.clock_hz = clock_hz
        self.in_flash = isinstance(source, FlashTiming)
        self._core = LinesAccelerator(config, source, contents)
        info = lines_info(config, clock_hz)
        self._late = link == "uart"
        self._link: Any
        if link == "uart":
            self._link = HostLink(info, address_bits=HOST_ADDRESS_BITS)
            outer = {"rx": In(1), "tx": Out(1)}
        else:
            self._link = AxiLink(info, address_bits=HOST_ADDRESS_BITS, queues=True)
            outer = {
                "axi": In(axi_lite(REGISTER_ADDRESS_BITS)),
                "words_i": In(AXI_STREAM),
                "words_o": Out(AXI_STREAM),
            }
        self._outer = tuple(outer)  # of the link
        super().__init__({**outer, **({"flash": Out(FlashPins)} if self.in_flash else {})})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.core = core = self._core
        m.submodules.link = link = self._link
        for name in self._outer:
            member = self.signature.members[name]
            outer, inner = getattr(self, name), getattr(link, name)
            if member.is_signature:
                wiring.connect(m, wiring.flipped(outer), inner)
            else:
                m.d.comb += inner.eq(outer) if member.flow == In else outer.eq(inner)
        m.d.comb += [
            core.host_valid.eq(link.host_valid),
            core.host_write.eq(link.host_write),
            core.host_set.eq(link.host_address[-1]),
            core.host_address.eq(link.host_address),
            core.host_data.eq(link.host_write_data),
            link.host_ready.eq(core.host_ready),
            link.host_data.eq(core.host_word),
            link.host_data_valid.eq(core.host_word_valid),
            core.start_address.eq(link.flash_address // (WORD_BITS // 8)),
            core.read_address.eq(link.flash_address),
            link.flash_ready.eq(core.flash_ready if self.in_flash else 1),
        ]
        # The serial link decodes a frame's end deeper than the array may be, and has time.
        late = self._late
        connect_control(m, link, core, registered=late)
        domain = m.d.sync if late else m.d.comb
        domain += [core.read_start.eq(link.flash_start), core.read_stop.eq(link.flash_stop)]
        if self.in_flash:
            wiring.connect(m, wiring.flipped(self.flash), core.flash)
            with m.If(core.flash_error):
                m.d.comb += [link.state.eq(State.ERROR), link.error.eq(CoreError.FLASH_SILENT)]
        wiring.connect(m, core.read_o, link.flash_i)
        return m
