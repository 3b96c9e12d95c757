"""The unpacker of 64-bit programs: hands packets to the sequencer, constants and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.lines.lanes import TableWrites
from qcompile.hw.lines.program import (
    WEIGHT_ADDRESS_BITS,
    WEIGHTS_ADDRESS_AT,
    WEIGHTS_WAIT_AT,
    WORD_BITS,
    PacketKind,
)
from qcompile.hw.program import ADD_ENTRY_BITS

ERROR_PACKET = 2
CODES_A_WORD = 4
"""Writes of two codes that a word of a table takes."""


WeightsWord = data.StructLayout(
    {"valid": 1, "first": 1, "address": WEIGHT_ADDRESS_BITS, "word": WORD_BITS}
)
"""A word of a packet of weights; `first` comes with the address of the packet's first word in the
weight memory."""


class LinesUnpacker(wiring.Component):
    """Reads header words and routes payload words; backpressure is that of the packet's target.

    Words of a layer, of constants and of weights take a cycle each, words of the residual adder's
    tables too, words of a code table four. Tables wait until no layer runs or waits, and so do
    weights whose header says it.

    Attributes
    ----------
    i : stream of 64 bits, in
    idle : 1, in
        No layer runs or waits.
    layers, constants : streams of 64 bits, out
    weights : WeightsWord, out
        Without backpressure.
    writes : TableWrites, out
    ended : 1, out
        The end packet has come.
    error : 2, out
        ERROR_PACKET: a packet of no known kind; the stream stands still then.
    """

    i: Any
    idle: Signal
    layers: Any
    constants: Any
    weights: Any
    writes: Any
    ended: Signal
    error: Signal

    def __init__(self) -> None:
        super().__init__(
            {
                "i": In(stream.Signature(64)),
                "idle": In(1),
                "layers": Out(stream.Signature(64)),
                "constants": Out(stream.Signature(64)),
                "weights": Out(WeightsWord),
                "writes": Out(TableWrites),
                "ended": Out(1),
                "error": Out(2),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        at_header = Signal(init=1)
        at = {kind: Signal(name=f"at_{kind.name.lower()}") for kind in PacketKind}
        left = Signal(16)
        last = Signal()  # `left` is 0
        index = Signal(8)
        waits = Signal()
        first = Signal()
        address = Signal(WEIGHT_ADDRESS_BITS, reset_less=True)
        part = Signal(range(CODES_A_WORD))
        ready = Signal()
        takes = self.i.valid & self.i.ready
        m.d.comb += [
            # Of these registers one is up at most; none behind the end or an unknown header.
            ready.eq(
                at_header
                | at[PacketKind.END]
                | (at[PacketKind.LAYER] & self.layers.ready)
                | (at[PacketKind.CONSTANTS] & self.constants.ready)
                | (at[PacketKind.WEIGHTS] & (self.idle | ~waits))
                | (at[PacketKind.TABLE] & self.idle & (part == CODES_A_WORD - 1))
                | (at[PacketKind.ADD_TABLES] & self.idle)
            ),
            self.i.ready.eq(ready),
            self.layers.payload.eq(self.i.payload),
            self.layers.valid.eq(self.i.valid & at[PacketKind.LAYER]),
            self.constants.payload.eq(self.i.payload),
            self.constants.valid.eq(self.i.valid & at[PacketKind.CONSTANTS]),
            self.weights.valid.eq(self.i.valid & at[PacketKind.WEIGHTS] & (self.idle | ~waits)),
            self.weights.first.eq(first),
            self.weights.address.eq(address),
            self.weights.word.eq(self.i.payload),
        ]
        self._write_tables(m, self.i.valid & self.idle, at, index, part)
        with m.If(takes):
            with m.If(at_header):
                kind = self.i.payload[60:]
                known = Cat(kind == code for code in at).any()
                m.d.sync += [
                    at_header.eq(0),
                    *(signal.eq(kind == code) for code, signal in at.items()),
                    self.error.eq(Mux(known, 0, ERROR_PACKET)),
                    left.eq(self.i.payload[:16]),
                    last.eq(self.i.payload[:16] == 0),
                    index.eq(0),
                    first.eq(1),
                    address.eq(self.i.payload[WEIGHTS_ADDRESS_AT:]),
                    waits.eq(self.i.payload[WEIGHTS_WAIT_AT]),
                ]
            with m.Else():
                m.d.sync += [
                    left.eq(left - 1),
                    last.eq(left == 1),
                    index.eq(index + 1),
                    first.eq(0),
                    self.ended.eq(at[PacketKind.END]),
                ]
                with m.If(last | at[PacketKind.END]):
                    m.d.sync += [
                        at_header.eq(~at[PacketKind.END]),
                        *(signal.eq(0) for signal in at.values()),
                    ]
        return m

    def _write_tables(
        self,
        m: Module,
        writing: Value,
        at: Mapping[PacketKind, Signal],
        index: Signal,
        part: Signal,
    ) -> None:
        """Entries of the packet's word, a cycle later; `part` of a word of codes."""
        entry = self.i.payload
        m.d.sync += [
            self.writes.table.eq(writing & at[PacketKind.TABLE]),
            self.writes.table_index.eq(index * CODES_A_WORD + part),
            self.writes.table_data.eq(entry.word_select(part, 16)),
            self.writes.add.eq(writing & at[PacketKind.ADD_TABLES]),
            self.writes.add_index.eq(index),
            self.writes.add_data[:ADD_ENTRY_BITS].eq(entry[:ADD_ENTRY_BITS]),
            self.writes.add_data[ADD_ENTRY_BITS:].eq(entry[32 : 32 + ADD_ENTRY_BITS]),
        ]
        with m.If(writing & at[PacketKind.TABLE]):
            m.d.sync += part.eq(part + 1)
