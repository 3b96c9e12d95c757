"""row_bands: a chain of layers as bands of rows, none of whose inner tensors exists as a whole.

For a band of rows of the last layer's output, every layer of the chain makes the rows that the
layers behind it read, and no others: rows that two bands need are computed twice. What the chain
reads, and its output, are whole tensors; the others are as high as a band and its neighbourhood.
A band tensor ends at the picture's edge where a window looks beyond it, so that what lies outside
of a band tensor is outside of the picture and reads as the pad code.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qcompile.compiler.layers import Layer, Region, Shape3
from qcompile.compiler.machine import Machine

MARK = ":band"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """Consecutive layers of which only the last one's output tensor is needed as a whole.

    Attributes
    ----------
    layers : tuple of Layer
    shapes : mapping
        Of each tensor that is written and read inside the chain alone, the whole shape.
    """

    layers: tuple[Layer, ...]
    shapes: Mapping[str, Shape3]

    @property
    def output(self) -> str:
        """The tensor that the bands are bands of."""
        return self.layers[-1].output

    @property
    def height(self) -> int:
        """Rows of the output tensor."""
        return self.layers[-1].tensor_shape[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A band of a chain.

    Attributes
    ----------
    rows : tuple of range
        What each layer computes, in rows of its own output; empty: nothing.
    extents : mapping
        Rows that the tensors inside the chain have in this band.
    """

    rows: tuple[range, ...]
    extents: Mapping[str, range]


def chain_of(layers: Sequence[Layer], private: frozenset[str]) -> Chain | None:
    """The layers as a chain; None where they are none.

    `private` are tensors that no other layer and no host touches. Operands of a residual sum have
    the same geometry in memory, so both are inside, or neither; recalled weights are outside.
    """
    output = layers[-1].output
    shapes = {layer.output: layer.tensor_shape for layer in layers if layer.output != output}
    if not shapes or not shapes.keys() <= private or layers[-1].tensor_shape[1] < 2:
        return None
    for layer in layers:
        if layer.input == output or shapes.get(layer.input, layer.input_shape) != layer.input_shape:
            return None
        if layer.weight_source in shapes:
            return None
        if layer.residual is None:
            continue
        if (layer.residual in shapes) != (layer.output in shapes):
            return None
        if shapes.get(layer.residual, layer.tensor_shape)[1:] != layer.tensor_shape[1:]:
            return None
    return Chain(layers=tuple(layers), shapes=shapes)


def split_rows(height: int, count: int) -> list[range]:
    """So many ranges of rows, as equal as they can be."""
    ends = [height * number // count for number in range(count + 1)]
    return [range(begin, end) for begin, end in itertools.pairwise(ends)]


def plan_band(chain: Chain, rows: range) -> Band:
    """What the layers compute for these rows of the chain's output."""
    needed = {chain.output: rows}
    made: list[range] = []
    for layer in reversed(chain.layers):
        part = _rows_of(layer, needed.get(layer.output, range(0)))
        made.insert(0, part)
        if not part:
            continue
        if layer.input in chain.shapes:
            _widen(needed, layer.input, _read_rows(layer, part))
        if layer.residual is not None and layer.residual in chain.shapes:
            _widen(needed, layer.residual, _written_rows(layer, part))
    extents = {name: part for name, part in needed.items() if name in chain.shapes}
    _join_operands(chain, extents)
    return Band(rows=tuple(made), extents=extents)


def band_words(chain: Chain, band: Band, machine: Machine) -> dict[str, int]:
    """Words that each tensor inside the chain takes in a band."""
    return {
        name: machine.words((chain.shapes[name][0], len(rows), chain.shapes[name][2]))
        for name, rows in band.extents.items()
    }


def cut_chain(chain: Chain, parts: Sequence[range], mark: str = MARK) -> tuple[Layer, ...]:
    """The chain's layers for one band of the output's rows after the other; the last completes it.

    `mark` stands between a name and a band's number.
    """
    done = [0] * len(chain.layers)
    numbers = [0] * len(chain.layers)
    result: list[Layer] = []
    for index, rows in enumerate(parts):
        band = plan_band(chain, rows)
        for place, (layer, part) in enumerate(zip(chain.layers, band.rows, strict=True)):
            if not part:
                continue
            known = (
                layer.output_shape[1] if index == len(parts) - 1 else max(done[place], part.stop)
            )
            macs = _share(layer, known) - _share(layer, done[place])
            cut = _band_layer(chain, layer, band, part, f"{mark}{index}")
            result.append(replace(cut, macs=macs, band=numbers[place], inner=True))
            done[place] = known
            numbers[place] += 1
    result[-1] = replace(result[-1], inner=chain.layers[-1].inner)
    return tuple(result)


def _share(layer: Layer, rows: int) -> int:
    """MACs of the first rows; rows that are computed twice count once."""
    return layer.macs * rows // layer.output_shape[1]


def _band_layer(chain: Chain, layer: Layer, band: Band, rows: range, suffix: str) -> Layer:
    """The layer that computes the rows, reading and writing band tensors or whole ones."""

    def called(tensor: str) -> str:
        return f"{tensor}{suffix}" if tensor in chain.shapes else tensor

    channels, height, width = layer.input_shape
    first = 0
    if layer.input in chain.shapes:
        first, height = band.extents[layer.input].start, len(band.extents[layer.input])
    top = layer.pads[0] - rows.start * layer.strides[0] + first
    span = layer.dilations[0] * (layer.kernel[0] - 1) + 1
    bottom = (len(rows) - 1) * layer.strides[0] + span - height - top
    return replace(
        layer,
        name=f"{layer.name}{suffix}",
        input=called(layer.input),
        output=called(layer.output),
        residual=None if layer.residual is None else called(layer.residual),
        input_shape=(channels, height, width),
        output_shape=(layer.output_shape[0], len(rows), layer.output_shape[2]),
        pads=(top, layer.pads[1], bottom, layer.pads[3]),
        region=_band_region(chain, layer, band, rows),
    )


def _band_region(chain: Chain, layer: Layer, band: Band, rows: range) -> Region | None:
    extent = band.extents.get(layer.output, range(layer.tensor_shape[1]))
    if layer.region is None and len(rows) == len(extent):
        return None
    region = layer.region or Region(shape=layer.output_shape)
    start = region.start[0] + rows.start * region.steps[0] - extent.start
    shape = (region.shape[0], len(extent), region.shape[2])
    return replace(region, shape=shape, start=(start, region.start[1]))


def _rows_of(layer: Layer, wanted: range) -> range:
    """The rows of the layer that lie at wanted rows of its output tensor."""
    if not wanted:
        return range(0)
    region = layer.region or Region(shape=layer.output_shape)
    start, step = region.start[0], region.steps[0]
    begin = max(0, -((start - wanted.start) // step))
    stop = min(layer.output_shape[1], (wanted.stop - 1 - start) // step + 1)
    return range(begin, stop) if begin < stop else range(0)


def _written_rows(layer: Layer, rows: range) -> range:
    """Where the layer's rows lie in its output tensor, with what is between them."""
    region = layer.region or Region(shape=layer.output_shape)
    start, step = region.start[0], region.steps[0]
    return range(start + rows.start * step, start + (rows.stop - 1) * step + 1)


def _read_rows(layer: Layer, rows: range) -> range:
    """The rows of the input tensor that the windows of these rows reach, one at least."""
    ends = (rows.start * layer.strides[0], (rows.stop - 1) * layer.strides[0])
    low = min(ends) - layer.pads[0]
    high = max(ends) - layer.pads[0] + layer.dilations[0] * (layer.kernel[0] - 1)
    last = layer.input_shape[1] - 1
    return range(min(max(low, 0), last), min(max(high, 0), last) + 1)


def _widen(needed: dict[str, range], name: str, rows: range) -> None:
    known = needed.get(name, rows)
    needed[name] = range(min(known.start, rows.start), max(known.stop, rows.stop))


def _join_operands(chain: Chain, extents: dict[str, range]) -> None:
    """The same rows for both operands of every residual sum, whose addresses run side by side."""
    pairs = [
        (layer.output, layer.residual)
        for layer in chain.layers
        if layer.residual in extents and layer.output in extents
    ]
    changed = True
    while changed:
        before = dict(extents)
        for output, residual in pairs:
            assert residual is not None
            _widen(extents, output, extents[residual])
            _widen(extents, residual, extents[output])
        changed = extents != before
