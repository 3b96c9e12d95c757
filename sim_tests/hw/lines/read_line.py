"""A line of the array with what reads its tile for the lanes."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import wiring

from qcompile.hw.lines.array import LineArray
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.tile_reader import TileReader

LINE_INPUTS = ("word", "in_picture", "pad", "shift", "load", "apart", "weights", "tags")


class ReadLine(wiring.Component):  # type: ignore[type-arg]  # generic in its stub only
    """`LineArray` and `TileReader`; ports as theirs.

    Parameters
    ----------
    show_tile : bool
        The whole tile is an output too, which takes a subtractor for each pair in a DSP.
    """

    def __init__(self, config: LinesConfig, *, pairs_in_dsp: int, show_tile: bool = False) -> None:
        self.line = LineArray(config, pairs_in_dsp=pairs_in_dsp)
        self.reader = TileReader(config, pairs_in_dsp=pairs_in_dsp)
        self.outputs = ("captured", "tile") if show_tile else ("captured",)
        ports = self.line.signature.members
        super().__init__(
            {
                **{name: ports[name] for name in (*LINE_INPUTS, *self.outputs)},
                **{name: self.reader.signature.members[name] for name in ("index", "sums")},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.line = line = self.line
        m.submodules.reader = reader = self.reader
        this: Any = self
        m.d.comb += [
            *(getattr(line, name).eq(getattr(this, name)) for name in LINE_INPUTS),
            *(getattr(this, name).eq(getattr(line, name)) for name in self.outputs),
            reader.tile.eq(line.tile),
            reader.uppers.eq(line.uppers),
            reader.index.eq(this.index),
            this.sums.eq(reader.sums),
        ]
        return m
