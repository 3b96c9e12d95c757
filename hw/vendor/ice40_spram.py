"""A single-ported memory in SB_SPRAM256KA of iCE40 UltraPlus, and a plain twin."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

ADDRESS_BITS = 14
SPRAM_WORDS = 1 << ADDRESS_BITS
"""Of one SB_SPRAM256KA, 16 bits each."""


class SinglePortMemory(wiring.Component):
    """Words of 16 or 32 bits with byte enables, one access a cycle, for any device.

    A cycle with `enable` reads (`write` all zero) or writes the bytes whose `write` bits are set.
    The word read stands at `read_data` one cycle later and stays there until the next cycle with
    `enable`; after a write `read_data` is undefined. Contents are undefined at power-up. There is
    no backpressure. On iCE40 Yosys makes block RAMs of it.

    Parameters
    ----------
    words : int
        A power of two, 16,384 at most; address bits above are not looked at.
    bits : int
        Of a word, 16 or 32.

    Attributes
    ----------
    LATENCY : int
        Cycles from address to `read_data`: 1.
    enable : 1, in
    write : bits / 8, in
        Byte enables; bit i writes bits 8i..8i+7.
    address : 14, in
    write_data : bits, in
    read_data : bits, out
    """

    LATENCY = 1

    enable: Signal
    write: Signal
    address: Signal
    write_data: Signal
    read_data: Signal

    def __init__(self, words: int = SPRAM_WORDS, bits: int = 32) -> None:
        self.words = words
        self.bits = bits
        super().__init__(
            {
                "enable": In(1),
                "write": In(bits // 8),
                "address": In(ADDRESS_BITS),
                "write_data": In(bits),
                "read_data": Out(bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ram: memory.Memory = memory.Memory(shape=self.bits, depth=self.words, init=[])
        m.submodules.ram = ram
        write_port = ram.write_port(granularity=8)
        read_port = ram.read_port()
        m.d.comb += [
            write_port.addr.eq(self.address[: len(write_port.addr)]),
            write_port.data.eq(self.write_data),
            write_port.en.eq(self.write & self.enable.replicate(len(self.write))),
            read_port.addr.eq(self.address[: len(read_port.addr)]),
            read_port.en.eq(self.enable & ~self.write.any()),
            self.read_data.eq(read_port.data),
        ]
        return m


class Ice40SinglePortMemory(SinglePortMemory):
    """`SinglePortMemory` in one or two SB_SPRAM256KA: the low halves of words in the first.

    It has all of their words, whatever is asked for.
    """

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for half in range(self.bits // 16):
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
