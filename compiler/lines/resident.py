"""Weights that stay in the memory of an array that takes the others from a flash with every run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

from qcompile.compiler.ir import Int8Array
from qcompile.hw.lines import program
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.program import PacketKind


def digest(words: Int8Array) -> bytes:
    """Of weight words; layers with the same ones share them."""
    return hashlib.sha256(np.ascontiguousarray(words).tobytes()).digest()


def weight_packets(
    config: LinesConfig, first: int, words: Int8Array, *, waits: bool
) -> Iterator[int]:
    """Packets that bring words int8 [n, V] to the weight memory, from word `first` on."""
    most = program.MAX_PAYLOAD_WORDS * 8 // config.columns
    for begin in range(0, len(words), most):
        address = config.weight_address(first + begin)
        yield from program.weights_packet(address, words[begin : begin + most], waits=waits)


class ResidentWeights:
    """The last rows of the weight memory, filled with the largest layers' weights that fit.

    Parameters
    ----------
    config : LinesConfig
    layers : sequence of int8 [words, V]
        Of each layer.
    rows : int
        Of the weight memory, its last ones.

    Attributes
    ----------
    load : list of int
        The program that brings them, once; empty where there are none.
    """

    def __init__(self, config: LinesConfig, layers: Sequence[Int8Array], rows: int) -> None:
        self._places: dict[bytes, int] = {}
        self.load: list[int] = []
        at, end = (config.lines * n for n in (config.weight_rows - rows, config.weight_rows))
        for words in sorted(layers, key=len, reverse=True):
            key = digest(words)
            if key in self._places or at + len(words) > end:
                continue
            self._places[key] = at
            self.load += weight_packets(config, at, words, waits=False)
            at = -(-(at + len(words)) // config.lines) * config.lines  # a layer begins a row
        if self.load:
            self.load += program.packet(PacketKind.END, [0])

    def first(self, words: Int8Array) -> int | None:
        """The number of a layer's first word; None where they do not stay."""
        return self._places.get(digest(words))
