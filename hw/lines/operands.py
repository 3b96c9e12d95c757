"""The operands of a line: a chain of words from memory and a register of V bytes for each row."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.lines.config import LinesConfig

CHAIN_WORDS = 7
"""Four rows whose windows are two pixels apart look at positions 0, 2, 4 and 6."""


class LineOperands(wiring.Component):
    """Chain of words and rotating operand registers; docs/lines.md section 2.

    With `shift` the word enters the chain's last position and all others move down by one. With
    `load` row r takes the word that stands at position 3 + r in this cycle, or 2r with `apart`;
    without, its register rotates: byte c takes byte c + 1. So a word shifted in in cycle t can be
    loaded in cycle t + 1 and multiplied in cycle t + 2. Both may come in every cycle, also
    together. No backpressure; registers have no reset, contents are undefined until loaded.

    `shift` enables 7 * 8V registers and `load` selects for 32V: they come from registers, of
    which each line has its own where the device is large.

    Attributes
    ----------
    LATENCY : int
        Cycles from `load` to the operands.
    word : 8V, in
        Byte i is channel i of the word's group.
    shift : 1, in
    load : 1, in
    apart : 1, in
        The layer's rows are two pixels apart; constant while a layer runs.
    operands : 8V x rows, out
        Byte c of row r at bit 8 * (r * V + c).
    """

    LATENCY = 1

    word: Signal
    shift: Signal
    load: Signal
    apart: Signal
    operands: Signal

    def __init__(self, config: LinesConfig) -> None:
        self.config = config
        super().__init__(
            {
                "word": In(config.word_bits),
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
        with m.If(self.shift):
            m.d.sync += Cat(chain).eq(Cat(*chain[1:], self.word))
        rows = []
        for r in range(self.config.rows):
            row = Signal(bits, name=f"row_{r}", reset_less=True)
            # One mux of three a bit: five inputs, one lookup table.
            loaded = Mux(self.apart, chain[2 * r], chain[CHAIN_WORDS - self.config.rows + r])
            m.d.sync += row.eq(Mux(self.load, loaded, row.rotate_right(8)))
            rows.append(row)
        m.d.comb += self.operands.eq(Cat(rows))
        return m
