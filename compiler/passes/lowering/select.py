"""Select as layers that copy: a layer for each piece, into its part of the output tensor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.add_tables import sum_tables
from qcompile.compiler.errors import UnsupportedError
from qcompile.compiler.golden.log_domain import fraction_bits, multiples
from qcompile.compiler.layers import Layer, Region, Shape3, Stored
from qcompile.compiler.passes.lowering.layer import (
    COPY_WEIGHT,
    copy_layer,
    copy_requant,
    make_layer,
    operator_of,
    shape3,
)
from qcompile.compiler.passes.lowering.piece import Piece, Tap
from qcompile.compiler.passes.lowering.pieces import MAX_PIECES, cut
from qcompile.compiler.passes.lowering.place import place_parts
from qcompile.compiler.passes.lowering.state import Lowering


def select(state: Lowering, op: ir.Select) -> None:
    """The layers of a Select; the last one has its name. UnsupportedError where there are none."""
    shapes = [shape3(state.graph, name) for name in op.inputs]
    out = shape3(state.graph, op.outputs[0])
    pieces = cut(op.index.reshape(out), shapes, state.machine.word_channels)
    if pieces is None:
        raise UnsupportedError(
            f"'{op.name}': this {operator_of(op)} is more than {MAX_PIECES} copies of parts",
            context=[
                *(f"input '{name}' {list(s)}" for name, s in zip(op.inputs, shapes, strict=True)),
                f"output {list(out)}",
            ],
            help="move the operator to the input or output of the model, where the host runs it",
        )
    if op.joins_parts and place_parts(state, op, pieces, shapes, out):
        return
    copier = _Copier(state, op, shapes, out)
    for piece in pieces:
        copier.copy(piece)
    copier.finish()


class _Copier:
    """Makes layers of pieces; all write the bank that the largest source is not in."""

    def __init__(self, state: Lowering, op: ir.Select, shapes: list[Shape3], out: Shape3) -> None:
        self.state = state
        self.word = state.machine.word_channels
        self.op = op
        self.out = out
        self.shapes = shapes
        self.sources = [state.source(name) for name in op.inputs]
        self.layers: list[Layer] = []
        self.constants = {c.name: c.data for c in state.graph.ops if isinstance(c, ir.Constant)}
        words = [0, 0]
        for source, shape in {s: shapes[i] for i, s in enumerate(self.sources)}.items():
            words[state.bank(source)] += state.machine.words(shape)
        self.bank = int(words[1] > words[0])

    def copy(self, piece: Piece) -> None:
        """Appends the layers of a piece: one for each source, which the last one adds up."""
        sources = piece.sources or [next(i for i, s in enumerate(self.sources) if self._near(s))]
        residual = None
        for source in sources[:-1]:
            residual = self._lanes(piece, source, residual)
        layer = self._layer(piece, sources[-1], self._source(sources[-1]), self.op.fill)
        region = Region(shape=self.out, channel=piece.channel, start=piece.start, steps=piece.steps)
        self._add(
            replace(layer, region=None if layer.output_shape == self.out else region),
            self.op.outputs[0],
            residual,
        )

    def finish(self) -> None:
        """Hands all layers over; the last one completes the tensor that the model names."""
        last = replace(self.layers[-1], name=self.op.name, inner=False)
        self.state.layers += (*self.layers[:-1], last)

    def _near(self, source: str) -> bool:
        return self.state.bank(source) == self.bank

    def _source(self, source: int) -> str:
        """The tensor of a source in the bank that all layers read, copied where it is not."""
        name = self.sources[source]
        if self._near(name):
            return name
        moved = f"{self.op.name}:moved{source}"
        if all(layer.output != moved for layer in self.layers):
            shape = self.shapes[source]
            layer = copy_layer(self.op, self.state.mode, name, (shape, shape), log=self.state.log)
            self._add(layer, moved)
        return moved

    def _lanes(self, piece: Piece, source: int, residual: str | None) -> str:
        """A tensor of one channel group that holds one source's lanes, and those of `residual`."""
        layer = self._layer(piece, source, self.sources[source], 0)
        shape = (self.word, *self.out[1:])
        name = f"{self.op.name}:lanes{len(self.layers)}"
        region = Region(shape=shape, start=piece.start, steps=piece.steps)
        self._add(replace(layer, region=region), name, residual)
        return name

    def _add(self, layer: Layer, output: str, residual: str | None = None) -> None:
        """Appends a layer; `residual` begins with the channel that the layer's region does."""
        if layer.input in self.constants:
            codes = self.constants[layer.input].reshape(layer.input_shape)
            layer = replace(layer, stored=(Stored(name=layer.input, codes=codes),))
        name = output if output != self.op.outputs[0] else f"{output}:piece{len(self.layers)}"
        layer = replace(layer, name=name, output=output, inner=True)
        if residual is not None:
            channel = layer.region.channel if layer.region else 0
            # Where one has a code the other has 0, the smallest logarithmic one.
            tables = sum_tables(0) if self.state.log is None else None
            layer = replace(layer, residual=residual, residual_channel=-channel, add_tables=tables)
        self.layers.append(layer)

    def _layer(self, piece: Piece, source: int, tensor: str, fill: int) -> Layer:
        """Copies one source's lanes; the others get `fill`, or 0 where another source has them."""
        shape = self.shapes[source]
        mine = [tap if tap and tap.source == source else None for tap in piece.taps]
        if piece.shift is not None:
            layer = copy_layer(
                self.op,
                self.state.mode,
                tensor,
                (shape, (len(mine), *piece.size)),
                strides=piece.strides,
                pads=_pads(mine),
                pad_code=self.op.fill,
                log=self.state.log,
            )
            return replace(layer, input_channel=piece.channel + piece.shift)
        first, step, depth = _window(mine, self.word)
        weight = np.zeros((len(mine), depth, *_spans(mine)), np.int16)
        bias = np.zeros(len(mine), np.int64)
        top, left = _pads(mine)
        for lane, (tap, any_tap) in enumerate(zip(mine, piece.taps, strict=True)):
            if tap:
                channel = tap.channel - first - lane // self.word * step
                weight[lane, channel, tap.row + top, tap.column + left] = COPY_WEIGHT
            elif any_tap is None:
                bias[lane] = self._sum_of(fill)
        layer = make_layer(
            self.op,
            operator=operator_of(self.op),
            kind="dense",
            source=tensor,
            shapes=(shape, (len(mine), *piece.size)),
            weight=weight,
            bias=bias,
            strides=piece.strides,
            dilations=(1, 1),
            pads=(top, left, 0, 0),
            input_zero_point=0,
            requant=copy_requant(self.state.mode, len(mine), self.state.log),
            log=self.state.log,
            macs=0,
        )
        return replace(layer, pad_code=self.op.fill, input_channel=first, input_channel_step=step)

    def _sum_of(self, code: int) -> int:
        """The sum that a copy makes a code of."""
        log = self.state.log
        if log is None:
            return COPY_WEIGHT * code
        value = COPY_WEIGHT * int(multiples(log)[code])
        if value % (1 << fraction_bits(log.step)):
            raise UnsupportedError(
                f"'{self.op.name}': {operator_of(self.op)} fills channels of a word with code "
                f"{code}, which is no whole sum on an array of shifts",
                help="fill with zeros, or quantize with --log-step 16",
            )
        return value >> fraction_bits(log.step)


def _pads(taps: list[Tap | None]) -> tuple[int, int]:
    """Of a window whose first row and column are those of the first taps."""
    real = [tap for tap in taps if tap]
    if not real:
        return 0, 0
    return -min(tap.row for tap in real), -min(tap.column for tap in real)


def _spans(taps: list[Tap | None]) -> tuple[int, int]:
    """Rows and columns of the window."""
    real = [tap for tap in taps if tap]
    if not real:
        return 1, 1
    top, left = _pads(taps)
    return max(tap.row for tap in real) + top + 1, max(tap.column for tap in real) + left + 1


def _window(taps: list[Tap | None], word: int) -> tuple[int, int, int]:
    """First channel, step for each group, and channels of the narrowest window with all taps."""
    groups = [
        [tap.channel for tap in taps[begin : begin + word] if tap]
        for begin in range(0, len(taps), word)
    ]
    used = [(number, channels) for number, channels in enumerate(groups) if channels]
    if not used:
        return 0, 0, word
    windows = []
    begins = [(number, min(channels) // word) for number, channels in used]
    (number, begin), (last, end) = begins[0], begins[-1]
    steps = {0, (end - begin) // (last - number) if last > number else 0}
    for step in steps:
        first = min(begin - step * number for number, begin in begins)
        depth = max(max(c) // word - first - step * number for number, c in used) + 1
        if first >= 0:
            windows.append((depth, first, step))
    depth, first, step = min(windows)
    return first * word, step * word, depth * word
