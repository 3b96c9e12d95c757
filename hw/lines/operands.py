"""The operands of a line: a chain of words from memory and a register of V bytes for each row."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.select import select

CHAIN_WORDS = 7
"""Four rows whose windows are two pixels apart look at positions 0, 2, 4 and 6."""


class LineOperands(wiring.Component):
    """Chain of words and rotating operand registers; docs/lines.md section 2.

    With `shift` the word enters the chain's last position and all others move down by one. With
    `load` row r takes the word that stands at position 3 + r in this cycle, or 2r with `apart`,
    `pad` in each byte where that is not `in_picture`; without, its register rotates: byte c takes
    byte c + 1. So a word shifted in in cycle t can be loaded in cycle t + 1 and multiplied in cycle
    t + 2. Both may come in every cycle, also together. No backpressure; registers have no reset,
    contents are undefined until loaded.

    `shift` enables 7 * 8V registers and `load` selects for 32V: they come from registers, of
    which each line has its own where the device is large.

    Attributes
    ----------
    LATENCY : int
        Cycles from `load` to the operands.
    word : 8V, in
        Byte i is channel i of the word's group.
    in_picture : 1, in
        The word is part of the picture.
    pad : 8, in
        What every channel beside the picture is; constant while a layer runs.
    shift : 1, in
    load : 1, in
    apart : 1, in
        The layer's rows are two pixels apart; constant while a layer runs.
    operands : 8V x rows, out
        Byte c of row r at bit 8 * (r * V + c).
    """

    LATENCY = 1

    word: Signal
    in_picture: Signal
    pad: Signal
    shift: Signal
    load: Signal
    apart: Signal
    operands: Signal

    def __init__(self, config: LinesConfig) -> None:
        self.config = config
        super().__init__(
            {
                "word": In(config.word_bits),
                "in_picture": In(1),
                "pad": In(8),
                "shift": In(1),
                "load": In(1),
                "apart": In(1),
                "operands": Out(config.word_bits * config.rows),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self.config.word_bits
        chain = [Signal(bits, name=f"chain_{i}", reset_less=True) for i in range(CHAIN_WORDS)]
        in_picture = Signal(CHAIN_WORDS, name="chain_in_picture", reset_less=True)
        with m.If(self.shift):
            m.d.sync += [
                Cat(chain).eq(Cat(*chain[1:], self.word)),
                in_picture.eq(Cat(in_picture[1:], self.in_picture)),
            ]
        pad = self.pad.replicate(self.config.columns)
        rows = []
        for r in range(self.config.rows):
            row = Signal(bits, name=f"row_{r}", reset_less=True)
            near, far = CHAIN_WORDS - self.config.rows + r, 2 * r
            known = Mux(self.apart, in_picture[far], in_picture[near])
            # One mux of four a bit: six inputs, one look-up table.
            chosen = Signal(2, name=f"row_{r}_takes")
            m.d.comb += chosen.eq(Mux(self.load, Cat(~known | self.apart, known), 0))
            choices = [row.rotate_right(8), pad, chain[near], chain[far]]
            m.d.sync += row.eq(select(choices, chosen))
            rows.append(row)
        m.d.comb += self.operands.eq(Cat(rows))
        return m
