"""bands: cuts chains of layers into bands of rows where their tensors do not fit the memory.

A chain's inner tensors shrink to a band and its neighbourhood (`row_bands.py`), for rows that are
computed twice and weights that are sent once a band. Which chains, and into how many bands, is the
cheapest way through the layers: a shortest path whose steps are single layers beside which
everything fits, and chains of the fewest bands that fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from qcompile.compiler.errors import CapacityError
from qcompile.compiler.layers import Layer
from qcompile.compiler.machine import Machine
from qcompile.compiler.passes.allocate import Life, allocate, does_not_fit, lives_of
from qcompile.compiler.passes.lowering.cost import SMALL_MACHINE
from qcompile.compiler.passes.row_bands import (
    MARK,
    Band,
    Chain,
    band_words,
    chain_of,
    cut_chain,
    plan_band,
    split_rows,
)

LONGEST_CHAIN = 24
"""Layers; longer ones compute more rows twice than they save."""
SHARES = (1.0, 0.94, 0.88, 0.8, 0.7)
"""Of a bank, counted as available: placing tensors leaves holes between them."""

STORE_GAIN = 0.15
"""Part of the cycles that a larger prefetch store may be hoped to save."""
NO_HELP = f"bands of rows through up to {LONGEST_CHAIN} layers do not fit either"

Cut = tuple[int, int, tuple[Layer, ...]]
"""First layer, layer after the last one, and what stands in their place."""


def cut_bands(
    layers: tuple[Layer, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    room: int,
    machine: Machine = SMALL_MACHINE,
) -> list[tuple[Layer, ...]]:
    """Ways to fit banks of `room` words: the best estimate, and the one with the lowest bands.

    The layers themselves where they fit, otherwise with chains in bands: more bands leave more
    memory for the prefetch store, so that only the cycle model knows which of the two is better.
    CapacityError as `allocate` has it where there is none.
    """
    try:
        allocate(layers, inputs, outputs, room, machine)
        return [layers]
    except CapacityError as error:
        refusal = error
    lives = lives_of(layers, inputs, outputs, machine)
    whole = [life for life in lives if life.name in (*inputs, *outputs)]
    largest = max(whole, key=lambda life: life.words)
    if largest.words > room:
        raise does_not_fit(largest, room, room, machine)
    search = _Search(layers, lives, machine)
    ways: list[tuple[int, tuple[Layer, ...]]] = []
    for share in SHARES:
        way = search.cheapest(int(room * share))
        if way is None:
            break
        if _is_placed(way[1], inputs, outputs, room, machine):
            ways.append(way)
    if not ways:
        raise CapacityError(
            refusal.message,
            context=[*refusal.context, NO_HELP],
            help=refusal.help,
        )
    (added, first), (most, last) = ways[0], ways[-1]
    if most == added or most - added > STORE_GAIN * (machine.estimate(first) or 0):
        return [first]
    return [first, last]


def _is_placed(
    layers: tuple[Layer, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    room: int,
    machine: Machine,
) -> bool:
    try:
        allocate(layers, inputs, outputs, room, machine)
    except CapacityError:
        return False
    return True


@dataclass(slots=True)
class _Search:
    """The layers with the lives of their tensors, and the cuts that were tried already."""

    layers: tuple[Layer, ...]
    lives: list[Life]
    machine: Machine
    cuts: dict[tuple[int, int, int], tuple[int, tuple[Layer, ...]] | None] = field(
        default_factory=dict
    )

    def cheapest(self, room: int) -> tuple[int, tuple[Layer, ...]] | None:
        """The layers in the cheapest cuts that fit `room` words of each bank; None: there are none.

        Before them what the cuts add to the cycles of whole layers.
        """
        total = len(self.layers)
        crowded = [max(self._words(index, index + 1)) > room for index in range(total)]
        best: list[tuple[int, tuple[Cut, ...]] | None] = [(0, ()), *[None] * total]
        for stop in range(1, total + 1):
            found = [] if crowded[stop - 1] else [best[stop - 1]]
            for first in range(max(0, stop - LONGEST_CHAIN), stop - 1):
                before = best[first]
                if before is None or not any(crowded[first:stop]):
                    continue
                step = self._bands(first, stop, room)
                if step is not None:
                    cost, cut = step
                    found.append((before[0] + cost, (*before[1], (first, stop, cut))))
            known = [way for way in found if way is not None]
            best[stop] = min(known, key=lambda way: way[0]) if known else None
        way = best[total]
        return None if way is None else (way[0], self._apply(way[1]))

    def _apply(self, cuts: Sequence[Cut]) -> tuple[Layer, ...]:
        result: list[Layer] = []
        done = 0
        for first, stop, cut in cuts:
            result += (*self.layers[done:first], *cut)
            done = stop
        return (*result, *self.layers[done:])

    def _words(self, first: int, stop: int, without: frozenset[str] = frozenset()) -> list[int]:
        """Words of each bank that tensors take which are kept at some time during the layers."""
        words = [0, 0]
        for life in self.lives:
            if life.first < stop and first <= life.last and life.name not in without:
                words[life.bank] += life.words
        return words

    def _bands(self, first: int, stop: int, room: int) -> tuple[int, tuple[Layer, ...]] | None:
        """What the fewest bands that fit add to the chain's cycles, and their layers."""
        private = frozenset(
            life.name for life in self.lives if first <= life.first and life.last < stop
        )
        chain = chain_of(self.layers[first:stop], private)
        if chain is None:
            return None
        beside = self._words(first, stop, frozenset(chain.shapes))
        free = [room - words for words in beside]
        if min(free) < 0:
            return None
        count = self._fewest(chain, free)
        if count is None:
            return None
        key = (first, stop, count)
        if key not in self.cuts:
            cut = cut_chain(chain, split_rows(chain.height, count), self._mark())
            cost = self.machine.estimate(cut)
            more = None if cost is None else cost - (self.machine.estimate(chain.layers) or 0)
            self.cuts[key] = None if more is None else (more, cut)
        return self.cuts[key]

    def _mark(self) -> str:
        """What no name of a layer or of a tensor has, so that bands have names of their own."""
        names = {layer.name for layer in self.layers} | {life.name for life in self.lives}
        mark = MARK
        while any(mark in name for name in names):
            mark += "_"
        return mark

    def _fewest(self, chain: Chain, free: Sequence[int]) -> int | None:
        """The smallest number of bands with which the chain's inner tensors fit."""
        if not self._fits(chain, chain.height, free):
            return None
        low, high = 1, chain.height  # low does not fit, or is no cut
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._fits(chain, middle, free) else (middle, high)
        return high

    def _fits(self, chain: Chain, count: int, free: Sequence[int]) -> bool:
        bands = (plan_band(chain, rows) for rows in split_rows(chain.height, count))
        return all(self._band_fits(chain, band, free) for band in bands)

    def _band_fits(self, chain: Chain, band: Band, free: Sequence[int]) -> bool:
        words = band_words(chain, band, self.machine)
        bank = {life.name: life.bank for life in self.lives if life.name in words}
        lives = _touched(chain)
        for time in range(len(chain.layers)):
            used: Counter[int] = Counter()
            for name, count in words.items():
                if time in lives[name]:
                    used[bank[name]] += count
            if used[0] > free[0] or used[1] > free[1]:
                return False
        return True


def _touched(chain: Chain) -> dict[str, range]:
    """From which layer of the chain to which a tensor inside it is kept."""
    lives: dict[str, range] = {}
    for time, layer in enumerate(chain.layers):
        for name in (layer.output, layer.input, layer.residual):
            if name is not None and name in chain.shapes:
                lives[name] = range(lives.get(name, range(time, 0)).start, time + 1)
    return lives
