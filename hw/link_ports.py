"""What every host link shares: its ports towards the accelerator and the program's reader."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Member, Out

from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.layouts import ADDRESS_BITS
from qcompile.runtime.protocol import BEAT_BITS, PROTOCOL_VERSION, CoreError, Info, State

FLASH_ADDRESS_BITS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryShape:
    """Words of the memory behind a link: a multiple of 32 bits each."""

    word_bits: int = 32
    address_bits: int = ADDRESS_BITS

    def __post_init__(self) -> None:
        if self.word_bits < BEAT_BITS or self.word_bits % BEAT_BITS:
            raise ValueError(f"word_bits must be a multiple of {BEAT_BITS}, not {self.word_bits}")

    @property
    def beats(self) -> int:
        """Registers or beats of a stream that a word takes."""
        return self.word_bits // BEAT_BITS


def link_info(config: AcceleratorConfig, clock_hz: int) -> Info:
    """What a link tells of the accelerator behind it."""
    return Info(
        version=PROTOCOL_VERSION,
        rows=config.rows,
        columns=config.columns,
        acc_width=config.acc_width,
        configuration_id=config.id,
        clock_hz=clock_hz,
    )


def host_ports(memory: MemoryShape) -> dict[str, Member]:
    """The part of `link_ports` that is access to memory."""
    return {
        "host_valid": Out(1),
        "host_ready": In(1),
        "host_write": Out(1),
        "host_address": Out(memory.address_bits),
        "host_write_data": Out(memory.word_bits),
        "host_data": In(memory.word_bits),
        "host_data_valid": In(1),
    }


def link_ports(memory: MemoryShape) -> dict[str, Member]:
    """Members of a link's signature towards core and flash reader.

    host_valid, host_write, host_address, host_write_data : 1, 1, address_bits, word_bits, out
    host_ready : 1, in
        Access to memory, taken when `host_ready` is 1.
    host_data : word_bits, in; host_data_valid : 1, in
        A read's word, any cycle after its access was taken.
    start, resume, abort : 1, out
        Pulses. `stop_after : 16, out` is right at start and resume and while running.
    state : 3, in; error : 8, in; layers_done : 16, in; cycles : 32, in
        Of the accelerator.
    flash_address : 24, out
        Byte address of the program from `start` to the run's end, and of the host's own reading
        for its first 100 cycles.
    flash_start, flash_stop : 1, out
        Pulses: begin and end the host's own reading.
    flash_i : stream of 16 bits, in
        Words of the host's own reading, low byte first.
    flash_ready : 1, in
        The flash can be read.
    """
    return {
        **host_ports(memory),
        "start": Out(1),
        "resume": Out(1),
        "abort": Out(1),
        "stop_after": Out(16),
        "state": In(3),
        "error": In(8),
        "layers_done": In(16),
        "cycles": In(32),
        "flash_address": Out(FLASH_ADDRESS_BITS),
        "flash_start": Out(1),
        "flash_stop": Out(1),
        "flash_i": In(stream.Signature(16)),
        "flash_ready": In(1),
    }


def connect_control(m: Module, link: Any, core: Any, *, registered: bool = False) -> None:
    """Wire a link's commands to an accelerator, and its state back.

    `registered`: commands come a cycle later, for a link that takes some to answer.
    """
    domain = m.d.sync if registered else m.d.comb
    domain += [
        core.start.eq(link.start),
        core.resume.eq(link.resume),
        core.abort.eq(link.abort),
    ]
    m.d.comb += [
        core.stop_after.eq(link.stop_after),
        link.state.eq(core.state),
        link.error.eq(core.error),
        link.layers_done.eq(core.layers_done),
        link.cycles.eq(core.cycles),
    ]


def connect_link(m: Module, link: Any, core: Any, reader: Any) -> None:
    """Wire a link to an accelerator and to the reader that both take program words from.

    The reader belongs to the accelerator while it runs or is paused, to the link otherwise. A
    flash that does not answer shows as `State.ERROR` with `CoreError.FLASH_SILENT`.
    """
    m.d.comb += [
        core.host_valid.eq(link.host_valid),
        core.host_write.eq(link.host_write),
        core.host_address.eq(link.host_address),
        core.host_write_data.eq(link.host_write_data),
        link.host_ready.eq(core.host_ready),
        link.host_data.eq(core.host_data),
        link.host_data_valid.eq(core.host_data_valid),
    ]
    connect_control(m, link, core)
    with m.If(reader.error):
        m.d.comb += [link.state.eq(State.ERROR), link.error.eq(CoreError.FLASH_SILENT)]

    host_reads = Signal()
    with m.If(link.flash_start):
        m.d.sync += host_reads.eq(1)
    with m.Elif(link.flash_stop):
        m.d.sync += host_reads.eq(0)
    program_stop = core.program_stop & ~link.flash_start
    m.d.comb += [
        reader.address.eq(link.flash_address),
        reader.start.eq(core.program_start | link.flash_start),
        reader.stop.eq(Mux(host_reads, link.flash_stop, program_stop)),
        core.program.payload.eq(reader.o.payload),
        core.program.valid.eq(reader.o.valid & ~host_reads),
        core.program_crc_ok.eq(reader.crc_ok),
        link.flash_i.payload.eq(reader.o.payload),
        link.flash_i.valid.eq(reader.o.valid & host_reads),
        link.flash_ready.eq(reader.ready),
    ]
    with m.If(host_reads):
        m.d.comb += reader.o.ready.eq(link.flash_i.ready)
    with m.Else():
        m.d.comb += reader.o.ready.eq(core.program.ready)
