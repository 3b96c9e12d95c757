"""Parts of one operator's result that their layers write where they belong, without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qcompile.compiler import ir
from qcompile.compiler.layers import Layer, Region, Shape3
from qcompile.compiler.passes.lowering.piece import Piece
from qcompile.compiler.passes.lowering.state import Lowering


def place_parts(
    state: Lowering, op: ir.Select, pieces: Sequence[Piece], shapes: list[Shape3], out: Shape3
) -> bool:
    """Let the layers of all parts write the joined tensor; False where one of them cannot.

    Every piece must be a whole part that nothing else reads; all layers must read one bank.
    """
    places: dict[int, Piece] = {}
    banks = set()
    for piece in pieces:
        part = piece.sources[0] if len(piece.sources) == 1 else None
        if part is None or not _is_whole(piece, shapes[part]) or state.uses[op.inputs[part]] != 1:
            return False
        makers = [i for i, layer in enumerate(state.layers) if layer.output == op.inputs[part]]
        if not makers or any(state.layers[index].residual is not None for index in makers):
            return False
        banks |= {state.bank(state.layers[index].input) for index in makers}
        places.update(dict.fromkeys(makers, piece))
    if len(banks) != 1:
        return False
    for index, piece in places.items():
        state.layers[index] = _placed(state.layers[index], op.name, piece, out)
    last = max(places)
    state.layers[last] = replace(state.layers[last], name=op.name, inner=False)
    return True


def _is_whole(piece: Piece, shape: Shape3) -> bool:
    first = piece.taps[0]
    return (
        piece.shift is not None
        and first is not None
        and (first.channel, first.row, first.column) == (0, 0, 0)
        and (len(piece.taps), *piece.size) == shape
        and piece.strides == (1, 1)
    )


def _placed(layer: Layer, output: str, piece: Piece, out: Shape3) -> Layer:
    """The layer, whose region is one of the part, with that of the joined tensor."""
    part = layer.region or Region(shape=layer.output_shape)
    down, across = (
        (begin + step * start, step * steps)
        for begin, step, start, steps in zip(
            piece.start, piece.steps, part.start, part.steps, strict=True
        )
    )
    region = replace(
        part,
        shape=out,
        channel=piece.channel + part.channel,
        start=(down[0], across[0]),
        steps=(down[1], across[1]),
    )
    return replace(layer, output=output, region=region, inner=True)
