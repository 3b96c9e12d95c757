"""Where tensors lie in an array of lines, as a build's manifest says it."""

from __future__ import annotations

from typing import Any

from qcompile.compiler.lines.nests import pitch
from qcompile.compiler.passes.allocate import Placement
from qcompile.hw.lines.config import LinesConfig

SET_BIT = 15
"""Of the host's address of an activation word; the bits below are its number in the set."""


def host_place(
    value: str, place: Placement, config: LinesConfig, *, turned: bool = False
) -> dict[str, Any]:
    """A place as `runtime.artifact.Place` is read from it; `turned`: see `LinesConfig.place`."""
    return {
        "value": value,
        "address": place.bank << SET_BIT | place.offset,
        "shape": list(place.shape),
        "words": place.words,
        "word_bytes": config.columns,
        "pitch": pitch(place.shape[2]),
        **({"turned_bit": config.bank_bits} if turned else {}),
    }
