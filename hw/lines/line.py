"""A line of the machine: its array, the reader of its captured tile, and its lanes."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.lines.array import LineArray, dsp_pairs_of_line
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.lanes import LineLanes
from qcompile.hw.lines.tile_reader import TileReader

ARRAY_INPUTS = ("word", "in_picture", "pad", "shift", "load", "apart", "weights", "tags")
LANE_INPUTS = ("valid", "step", "residual", "bias", "mantissa", "settings", "writes")
"""Inputs that have their name in the part too."""


class Line(wiring.Component):
    """Words and weights in, finished words out: `LineArray`, `TileReader` and `LineLanes`.

    What only the parts of one line exchange stays inside, so that a line is one module of the
    netlist: lines with as many pairs in DSPs are equal, and are synthesised once. `index` comes
    `TileReader.LATENCY` cycles before its step of the lanes. No backpressure; reset drops what is
    under way.

    Attributes
    ----------
    lanes_latency : int
        `LATENCY` of the lanes.
    word, in_picture, pad, shift, load, apart, weights, tags : in
        As in `LineArray`.
    captured : 1, out
        The tile is a new one since this cycle.
    index : in
        As in `TileReader`.
    valid, step, residual, bias, mantissa, settings, writes : in
        As in `LineLanes`.
    exponent : 6 x lanes, in
        `shift` of the lanes.
    finished : 8V, out
        `word` of the lanes.
    """

    word: Signal
    in_picture: Signal
    pad: Signal
    shift: Signal
    load: Signal
    apart: Signal
    weights: Signal
    tags: Any
    captured: Signal
    index: Signal
    valid: Signal
    step: Signal
    residual: Signal
    bias: Signal
    mantissa: Signal
    settings: Any
    writes: Any
    exponent: Signal
    finished: Signal

    def __init__(self, config: LinesConfig, line: int) -> None:
        pairs_in_dsp = dsp_pairs_of_line(config, line)
        self.array = LineArray(config, pairs_in_dsp=pairs_in_dsp)
        self.reader = TileReader(config, pairs_in_dsp=pairs_in_dsp)
        self.lanes = LineLanes(config)
        self.lanes_latency = self.lanes.LATENCY
        array, lanes = self.array.signature.members, self.lanes.signature.members
        super().__init__(
            {
                **{name: array[name] for name in ARRAY_INPUTS},
                "captured": Out(1),
                "index": self.reader.signature.members["index"],
                **{name: lanes[name] for name in LANE_INPUTS},
                "exponent": In(lanes["shift"].shape),
                "finished": Out(config.word_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.array = array = self.array
        m.submodules.reader = reader = self.reader
        m.submodules.lanes = lanes = self.lanes
        for part, names in ((array, ARRAY_INPUTS), (lanes, LANE_INPUTS)):
            m.d.comb += [getattr(part, name).eq(getattr(self, name)) for name in names]
        m.d.comb += [
            self.captured.eq(array.captured),
            reader.tile.eq(array.tile),
            reader.uppers.eq(array.uppers),
            reader.index.eq(self.index),
            lanes.sums.eq(reader.sums),
            lanes.shift.eq(self.exponent),
            self.finished.eq(lanes.word),
        ]
        return m
