"""Where tensors lie in an array of lines, as a build's manifest says it."""

from __future__ import annotations

from typing import Any

from qcompile.compiler.lines.nests import pitch
from qcompile.compiler.passes.allocate import Placement
from qcompile.hw.lines.config import LinesConfig

SET_BIT = 15
"""Of the host's address of an activation word; the bits below are its number in the set."""


def host_form(place: Placement, config: LinesConfig, *, turned: bool = False) -> dict[str, Any]:
    """All of a `runtime.artifact.Place` but its name; `turned`: see `LinesConfig.place`."""
    return {
        "address": place.bank << SET_BIT | place.offset,
        "shape": list(place.shape),
        "words": place.words,
        "word_bytes": config.columns,
        "pitch": pitch(place.shape[2]),
        **({"turned_bit": config.bank_bits} if turned else {}),
    }


def host_place(value: str, place: Placement, config: LinesConfig) -> dict[str, Any]:
    """Of an input, an output or a constant, as `runtime.artifact.Place` is read from it."""
    return {"value": value, **host_form(place, config)}
