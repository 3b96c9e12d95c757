"""A mux of many words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from amaranth.hdl import Mux, Value


def select(choices: Sequence[Value], index: Value) -> Value:
    """choices[index] as a tree of muxes of two; an index beyond the last choice gives any."""
    level = list(choices)
    for bit in index:
        pairs = zip_longest(level[::2], level[1::2])
        level = [even if odd is None else Mux(bit, odd, even) for even, odd in pairs]
    return level[0]
