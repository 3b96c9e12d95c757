"""The search for the machine that suits a model best: what the flows of all families share.

A flow enumerates candidates (sizes of an array, of its memories, ways to cut a model into bands),
each with its cycles by the cycle model; how it does so is its own affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """A machine that a model runs on.

    Attributes
    ----------
    total_cycles : int
        Of one inference, by the cycle model or an estimate that orders alike.
    cells : int
        What it takes of the device, in the cells that candidates differ in.
    """

    @property
    def total_cycles(self) -> int: ...

    @property
    def cells(self) -> int: ...


class Named(Protocol):
    """A device."""

    @property
    def name(self) -> str: ...


FAIR_SHARE = 0.3
"""Of the multipliers, in use in depthwise layers."""
FAIR_PRICE = 1.2
"""Times the fewest cycles that a machine with a fair share may take."""

C = TypeVar("C", bound=Candidate)
D = TypeVar("D", bound=Named)


def best(found: Iterable[C]) -> C | None:
    """The candidate with the fewest cycles, then the fewest cells; None where there is none."""
    return min(found, key=lambda candidate: (candidate.total_cycles, candidate.cells), default=None)


def best_used(found: Iterable[C], share: Callable[[C], float | None]) -> C | None:
    """As `best`, but for a machine that uses its multipliers well where others do not.

    `share` is the part of the multipliers that a candidate's depthwise layers use, None without
    such layers. Where the fastest one's is below `FAIR_SHARE`, a smaller array that reaches it is
    preferred if it takes no more than `FAIR_PRICE` times the cycles: the rest of the multipliers
    would idle most of the time, and takes cells, power and slack from the others.
    """
    known = list(found)
    fastest = best(known)
    if fastest is None:
        return None
    reached = share(fastest)
    if reached is None or reached >= FAIR_SHARE:
        return fastest
    fair = [c for c in known if (share(c) or 0) >= FAIR_SHARE]
    other = best(c for c in fair if c.total_cycles <= FAIR_PRICE * fastest.total_cycles)
    return other or fastest


def larger(devices: Iterable[D], fitting: Callable[[D], C | None]) -> dict[str, C]:
    """The best candidate on each device that has one, by the device's name."""
    found = ((device.name, fitting(device)) for device in devices)
    return {name: candidate for name, candidate in found if candidate is not None}


def limit(bounds: Mapping[str, int]) -> str:
    """What a layer waits for: the name of the most cycles that one part of the machine is busy;
    the first of equals."""
    return max(bounds, key=lambda name: bounds[name])
