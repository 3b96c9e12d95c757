"""A single-ported 32-bit memory in two SB_SPRAM256KA of iCE40 UltraPlus, and a plain twin."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

ADDRESS_BITS = 14
SPRAM_WORDS = 1 << ADDRESS_BITS
"""Of one SB_SPRAM256KA, 16 bits each."""


class SinglePortMemory(wiring.Component):
    """Words of 32 bits with byte enables, one access a cycle, for any device.

    A cycle with `enable` reads (`write` all zero) or writes the bytes whose `write` bits are set.
    The word read stands at `read_data` one cycle later and stays there until the next cycle with
    `enable`; after a write `read_data` is undefined. Contents are undefined at power-up. There is
    no backpressure. On iCE40 Yosys makes block RAMs of it.

    Parameters
    ----------
    words : int
        A power of two, 16,384 at most; address bits above are not looked at.

    Attributes
    ----------
    LATENCY : int
        Cycles from address to `read_data`: 1.
    enable : 1, in
    write : 4, in
        Byte enables; bit i writes bits 8i..8i+7.
    address : 14, in
    write_data : 32, in
    read_data : 32, out
    """

    LATENCY = 1

    enable: Signal
    write: Signal
    address: Signal
    write_data: Signal
    read_data: Signal

    def __init__(self, words: int = SPRAM_WORDS) -> None:
        self.words = words
        super().__init__(
            {
                "enable": In(1),
                "write": In(4),
                "address": In(ADDRESS_BITS),
                "write_data": In(32),
                "read_data": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ram: memory.Memory = memory.Memory(shape=32, depth=self.words, init=[])
        m.submodules.ram = ram
        write_port = ram.write_port(granularity=8)
        read_port = ram.read_port()
        m.d.comb += [
            write_port.addr.eq(self.address[: len(write_port.addr)]),
            write_port.data.eq(self.write_data),
            write_port.en.eq(self.write & self.enable.replicate(4)),
            read_port.addr.eq(self.address[: len(read_port.addr)]),
            read_port.en.eq(self.enable & ~self.write.any()),
            self.read_data.eq(read_port.data),
        ]
        return m


class Ice40SinglePortMemory(SinglePortMemory):
    """`SinglePortMemory` in two SB_SPRAM256KA: the low halves of the words in the first.

    It has all of their words, whatever is asked for.
    """

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for half in range(2):
            low, high = (self.write[2 * half + byte].replicate(2) for byte in range(2))
            m.submodules[f"spram{half}"] = Instance(
                "SB_SPRAM256KA",
                i_CLOCK=ClockSignal(),
                i_CHIPSELECT=self.enable,
                i_WREN=self.write.any(),
                i_MASKWREN=Cat(low, high),  # a bit for each four bits of data
                i_ADDRESS=self.address,
                i_DATAIN=self.write_data.word_select(half, 16),
                i_STANDBY=Const(0),
                i_SLEEP=Const(0),
                i_POWEROFF=Const(1),  # active low
                o_DATAOUT=self.read_data.word_select(half, 16),
            )
        return m
