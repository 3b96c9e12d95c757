"""Tensors of many inputs to and from the memory words of a simulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler.ir import Int8Array
from qcompile.runtime.artifact import Place, read_place

Words = npt.NDArray[np.uint32]


def places_of(entries: Sequence[Mapping[str, Any]], key: str) -> tuple[Place, ...]:
    """Places of a build's manifest, with their names at `key`."""
    return tuple(read_place(entry, key) for entry in entries)


def pack_all(codes: Mapping[str, Int8Array], places: Sequence[Place]) -> Words:
    """int8 [N, ...] by name to the beats of all places' words, [N, beats]."""
    parts = [np.stack([place.pack(image) for image in codes[place.name]]) for place in places]
    return np.concatenate(parts, axis=1)


def unpack_all(beats: Words, places: Sequence[Place]) -> dict[str, Int8Array]:
    """The inverse: codes [N, channels, height, width] by name."""
    sizes = [place.words * place.word_bytes // beats.itemsize for place in places]
    parts = np.split(beats, np.cumsum(sizes)[:-1], axis=1)
    return {
        place.name: np.stack([place.unpack(row) for row in part])
        for place, part in zip(places, parts, strict=True)
    }
