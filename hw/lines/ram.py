"""A memory of any depth that takes no more block RAM than its words need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Const, Elaboratable, Module, Signal, Value
from amaranth.lib import memory

from qcompile.hw.lines.select import select

BLOCK_ROWS = 512
"""Depth of a block RAM at its widest: a memory's depth counts in these."""
LUT_ROWS = 64
"""Rows that are cheaper in look-up tables than in a block RAM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """Enable, address and word of one port."""

    en: Signal
    addr: Signal
    data: Signal


def parts(depth: int) -> list[int]:
    """Depths of the memories that make up one: up to `LUT_ROWS` rows too many stand apart."""
    rest = depth % BLOCK_ROWS
    return [depth - rest, rest] if depth > BLOCK_ROWS and 0 < rest <= LUT_ROWS else [depth]


class LinesRam(Elaboratable):
    """One write and one read port; a word comes a cycle after its read and stands until the next.

    A word written in cycle t is read from cycle t + 1 on; what is read beyond the last word is
    undefined. There is no backpressure.

    Parameters
    ----------
    width, depth : int
        Bits of a word, and words.
    init : up to `depth` words
        The first words' contents; without, all are undefined until written.

    Attributes
    ----------
    writer, reader : Port
        Their data: in of the writer, out of the reader.
    """

    def __init__(self, width: int, depth: int, *, init: Sequence[int] = ()) -> None:
        self.width = width
        self.depth = depth
        self.init = init
        bits = (depth - 1).bit_length()
        self.writer, self.reader = (
            Port(
                en=Signal(name=f"{name}_en"),
                addr=Signal(bits, name=f"{name}_addr"),
                data=Signal(width, name=f"{name}_data"),
            )
            for name in ("write", "read")
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words: list[Value] = []
        depths = parts(self.depth)
        for index, depth in enumerate(depths):
            begin = sum(depths[:index])
            init = self.init[begin : begin + depth]
            ram: memory.Memory = memory.Memory(shape=self.width, depth=depth, init=init)
            m.submodules[f"part{index}"] = ram
            writer, reader = ram.write_port(), ram.read_port()
            here = (self.writer.addr >= depths[0]) == index if len(depths) > 1 else Const(1)
            m.d.comb += [
                # `begin` is a multiple of BLOCK_ROWS: the lowest bits are the part's own.
                writer.en.eq(self.writer.en & here),
                writer.addr.eq(self.writer.addr),
                writer.data.eq(self.writer.data),
                reader.en.eq(self.reader.en),
                reader.addr.eq(self.reader.addr),
            ]
            words.append(reader.data)
        behind = Signal(reset_less=True)
        if len(words) > 1:
            with m.If(self.reader.en):
                m.d.sync += behind.eq(self.reader.addr >= depths[0])
        m.d.comb += self.reader.data.eq(select(words, behind))
        return m
