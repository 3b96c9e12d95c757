"""Between banks and lines: the row that each bank reads, and the word that each line gets.

Lines fall into G groups by their numbers modulo G (`LinesConfig.line_groups`), and banks into
*sections* of G banks that follow each other. Lines of a group are a multiple of G words apart, so
in one cycle all of them want the same one of each section's banks. With two groups, then, a mux of
two sets and two banks chooses a section's word for each group, a look-up table a bit; one of four
sections for each line takes one more.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value

from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.select import select


def _group_bits(config: LinesConfig) -> int:
    """Lowest bits of a bank's number: which of its section."""
    return config.line_groups - 1


def bank_rows(config: LinesConfig, places: Sequence[Value], lines: Value) -> list[Value]:
    """The row of each bank's word, of the lines in `lines`; combinational.

    Parameters
    ----------
    places : P addresses
        Where the lines' words lie.
    lines : P
        Lines that want theirs.
    """
    groups, low = config.line_groups, _group_bits(config)
    found = []
    for section, bank in product(range(config.banks // groups), range(groups)):
        # Lines that read here in one cycle read one row: the `or` is a mux.
        row: Value = Const(0)
        for group in range(groups):
            of_group: Value = Const(0)
            for line in range(group, config.lines, groups):
                place = places[line]
                here = lines[line] & (place[: config.bank_bits][low:] == section)
                of_group = of_group | Mux(here, place[config.bank_bits :], 0)
            row = row | Mux(places[group][:low] == bank, of_group, 0)
        found.append(row)
    return found


def cross(
    m: Module,
    config: LinesConfig,
    banks: Sequence[Sequence[Signal]],
    places: Sequence[Value],
    read_set: Value,
) -> Value:
    """8V x P: each line's word in a register, two cycles after its place.

    Parameters
    ----------
    banks : [set][bank] words
        A cycle after their places.
    places : P addresses
    read_set : 1
        The set that is read, in the places' cycle.
    """
    groups, low = config.line_groups, _group_bits(config)
    set_1 = Signal(name="read_set_1", reset_less=True)
    m.d.sync += set_1.eq(read_set)
    of_group = []
    for group in range(groups):
        bank_1 = Signal(low, name=f"group{group}_bank", reset_less=True)
        m.d.sync += bank_1.eq(places[group])
        words = []
        for bank in range(0, config.banks, groups):
            choices = [word for of_set in banks for word in of_set[bank : bank + groups]]
            word = Signal(config.word_bits, name=f"group{group}_section{bank // groups}")
            m.d.comb += word.eq(select(choices, Cat(bank_1, set_1)))
            words.append(word)
        of_group.append(words)
    outs = []
    for line, place in enumerate(places):
        section_1 = Signal(config.bank_bits - low, name=f"line{line}_section", reset_less=True)
        out = Signal(config.word_bits, name=f"line{line}_word", reset_less=True)
        m.d.sync += [
            section_1.eq(place[: config.bank_bits][low:]),
            out.eq(select(of_group[line % groups], section_1)),
        ]
        outs.append(out)
    return Cat(outs)
