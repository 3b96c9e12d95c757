"""Where weights stand that come with the program: a ring; running layers keep their part of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from qcompile.compiler.errors import CapacityError
from qcompile.compiler.ir import Int8Array
from qcompile.compiler.lines.resident import digest
from qcompile.hw.lines.config import LinesConfig

KEPT = 2
"""Layers whose weights may be in use while the next one's come: one runs, one waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """How a layer's weights get to where they stand.

    Attributes
    ----------
    first, stop : int
        Words of the weight memory.
    comes : bool
        They have to be sent; they stand there already otherwise.
    waits : bool
        Not before no layer runs or waits.
    """

    first: int
    stop: int
    comes: bool
    waits: bool

    def meets(self, other: Arrival) -> bool:
        """Whether two have words in common."""
        return self.first < other.stop and other.first < self.stop


@dataclass(slots=True)
class WeightRing:
    """The weight memory of a configuration with `streams`, layer after layer of a program.

    Weights follow one another and begin again at the first word. Those of a layer that stand
    there from before (the layer's other bands of rows) are not sent again.
    """

    config: LinesConfig
    _next: int = 0
    _used: deque[Arrival] = field(default_factory=lambda: deque(maxlen=KEPT))
    _standing: dict[bytes, Arrival] = field(default_factory=dict)

    def place(self, words: Int8Array, name: str) -> Arrival:
        """The place of a layer's words int8 [n, V], which begins with a row of the memory."""
        lines = self.config.lines
        capacity = lines * self.config.weight_rows
        if len(words) > capacity:
            needed, room = (n * self.config.columns for n in (len(words), capacity))
            raise CapacityError(
                f"'{name}': its weights do not fit the weight memory",
                context=[f"they take {needed:,} bytes of {room:,}"],
                help="use a device with more block RAM",
            )
        key = digest(words)
        found = self._standing.get(key)
        if found is None:
            found = self._put(key, len(words), capacity)
        self._used.append(found)
        return found

    def skip(self) -> None:
        """A layer whose weights stand elsewhere takes its turn."""
        self._used.append(Arrival(first=0, stop=0, comes=False, waits=False))

    def _put(self, key: bytes, count: int, capacity: int) -> Arrival:
        first = -(-self._next // self.config.lines) * self.config.lines
        if first + count > capacity:
            first = 0
        place = Arrival(first=first, stop=first + count, comes=True, waits=False)
        waits = any(place.meets(other) for other in self._used)
        place = Arrival(first=first, stop=first + count, comes=True, waits=waits)
        kept = {k: other for k, other in self._standing.items() if not place.meets(other)}
        stands = Arrival(first=first, stop=first + count, comes=False, waits=False)
        self._standing = {**kept, key: stands}
        self._next = place.stop
        return place
