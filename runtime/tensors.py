"""Tensors to and from a board's memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.runtime.artifact import Place
from qcompile.runtime.link import Link

RUN_SECONDS = 10.0
"""Longest time of one run before it counts as hung."""


def write_tensors(
    link: Link, places: Sequence[Place], codes: Mapping[str, npt.NDArray[Any]]
) -> None:
    """int8 codes by name, in any shape of the right size, each to its place."""
    link.write_all([(place.address, place.pack(codes[place.name])) for place in places])


def read_tensor(link: Link, place: Place) -> npt.NDArray[np.int8]:
    """Codes [channels, height, width] that stand at a place."""
    return place.unpack(link.read_memory(place.address, place.words))
