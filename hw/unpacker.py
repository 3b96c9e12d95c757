"""The unpacker: hands the program stream's packets to their FIFOs, in order."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.program import PacketKind

ERROR_CRC = 1
ERROR_PACKET = 2

TARGETS = {
    "layers": PacketKind.LAYER,
    "constants": PacketKind.CONSTANTS,
    "weights": PacketKind.WEIGHTS,
    "table": PacketKind.TABLE,
    "add_a": PacketKind.ADD_TABLE_A,
    "add_b": PacketKind.ADD_TABLE_B,
}
STORE_TARGETS = {"store": PacketKind.STORE, "recall": PacketKind.RECALL}
SINGLE_BUFFERED = ("table", "add_a", "add_b")
"""Filled only while no layer runs or waits."""


class Unpacker(wiring.Component):
    """Reads header words and routes payload words. Backpressure: that of the packet's target.

    Attributes
    ----------
    i : stream of 16 bits, in; crc_ok : 1, in
    idle : 1, in
        No layer runs or waits: tables may be overwritten.
    index : 12, out
        Index of the payload word within its packet.
    layers, constants, weights, table, add_a, add_b : streams of 16 bits, out
    store, recall, codebook : streams of 16 bits, out
        Where they are built; otherwise their packets are unknown.
    ended : 1, out
        The end packet has come, with the right CRC.
    error : 2, out
        ERROR_CRC or ERROR_PACKET; the stream stands still then.
    """

    i: Any
    crc_ok: Signal
    idle: Signal
    index: Signal
    layers: Any
    constants: Any
    weights: Any
    table: Any
    add_a: Any
    add_b: Any
    store: Any
    recall: Any
    codebook: Any
    ended: Signal
    error: Signal

    def __init__(self, *, codebook: bool = False, store: bool = True) -> None:
        self._targets = (
            TARGETS
            | (STORE_TARGETS if store else {})
            | ({"codebook": PacketKind.CODEBOOK} if codebook else {})
        )
        super().__init__(
            {
                "i": In(stream.Signature(16)),
                "crc_ok": In(1),
                "idle": In(1),
                "index": Out(12),
                **{name: Out(stream.Signature(16)) for name in self._targets},
                "ended": Out(1),
                "error": Out(2),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        in_packet = Signal()
        kind = Signal(4)
        left = Signal(12)
        stopped = self.ended | (self.error != 0)
        with m.If(stopped):
            m.d.comb += self.i.ready.eq(0)
        with m.Elif(~in_packet):
            m.d.comb += self.i.ready.eq(1)
        with m.Elif(kind == PacketKind.END):
            m.d.comb += self.i.ready.eq(1)
        known = kind == PacketKind.END
        for name, target_kind in self._targets.items():
            target = getattr(self, name)
            open_ = self.idle if name in SINGLE_BUFFERED else 1
            known = known | (kind == target_kind)
            m.d.comb += target.payload.eq(self.i.payload)
            with m.If(in_packet & (kind == target_kind)):
                m.d.comb += [
                    target.valid.eq(self.i.valid & open_),
                    self.i.ready.eq(target.ready & open_),
                ]
        with m.If(self.i.valid & self.i.ready):
            with m.If(~in_packet):
                m.d.sync += [
                    in_packet.eq(1),
                    kind.eq(self.i.payload[12:]),
                    left.eq(self.i.payload[:12]),
                    self.index.eq(0),
                ]
            with m.Else():
                m.d.sync += [
                    in_packet.eq(left != 0),
                    left.eq(left - 1),
                    self.index.eq(self.index + 1),
                ]
                with m.If(kind == PacketKind.END):
                    m.d.sync += [self.ended.eq(self.crc_ok), self.error[0].eq(~self.crc_ok)]
        with m.If(in_packet & ~known):
            m.d.sync += self.error.eq(ERROR_PACKET)
        return m
