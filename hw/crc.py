"""CRC-32 one bit at a time: beside a UART there are many cycles for each bit."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

CRC32_REFLECTED = 0xEDB88320
"""ISO-HDLC polynomial 0x04C11DB7 (zlib's), bits reversed: least significant bit first."""


class SerialCrc32(wiring.Component):
    """zlib's CRC-32 over bits that arrive least significant bit of each byte first.

    One bit per cycle with `enable`. While `shift_only` is 1 the register shifts without feedback,
    so the complement of bit 0 is the CRC itself, in the order in which a frame sends it: a sender
    takes bytes from `low`, a receiver compares each bit with `~low[0]`. No backpressure.

    Attributes
    ----------
    clear : 1, in
        Start anew; wins over `enable`.
    enable, data_bit : 1, in
        Take `data_bit` into the CRC.
    shift_only : 1, in
        `enable` moves the finished CRC on by one bit; `data_bit` is ignored.
    low : 8, out
        The register's low byte; its complement is the next byte of the CRC.
    """

    clear: Signal
    enable: Signal
    data_bit: Signal
    shift_only: Signal
    low: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "clear": In(1),
                "enable": In(1),
                "data_bit": In(1),
                "shift_only": In(1),
                "low": Out(8),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        crc = Signal(32, init=0xFFFFFFFF)
        feedback = (crc[0] ^ self.data_bit) & ~self.shift_only
        m.d.comb += self.low.eq(crc[:8])
        with m.If(self.clear):
            m.d.sync += crc.eq(0xFFFFFFFF)
        with m.Elif(self.enable):
            m.d.sync += crc.eq((crc >> 1) ^ Mux(feedback, CRC32_REFLECTED, 0))
        return m
