"""prefetch: stores weights in free activation memory while the stream would stand still.

The flash delivers a weight word in 8 cycles or more; layers of few pixels want them faster, and
layers of many pixels leave the stream idle, because the weight FIFO is full. So from some layer on
all weights go through the *store*: STORE packets fill it in the gaps before, and once that layer
has begun, a RECALL sends one chunk to the FIFO while the stream stores a later one. That is a ring
whose turns the compiler has planned: the hardware needs neither pointers nor a rule for the banks.

A gap is used for the bank that the running layer does not read; the store lies above all tensors.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Mapping, Sequence

from qcompile.compiler.cycle_model import Timeline, timeline
from qcompile.compiler.layers import Layer
from qcompile.compiler.passes.allocate import Placement
from qcompile.compiler.passes.emit_program import Program
from qcompile.compiler.passes.store_writer import Room, StoreWriter
from qcompile.compiler.plan import Plan
from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.flash_reader import word_cycles

SMALLEST_STORE = 16
"""Words below which a gap is not worth a packet."""
OVERHEAD_WORDS = 8
"""Of a gap's stores beside their own: headers, addresses, and some slack."""
STALLED = 1.05
"""A layer that takes so many times its plan's cycles waits for its weights."""
MOST_CANDIDATES = 6
WORTH = 0.99
"""A program with a store must take at most this share of the cycles without it."""


def prefetch(
    program: Program,
    layers: Sequence[Layer],
    plans: Sequence[Plan],
    places: Mapping[str, Placement],
    config: AcceleratorConfig,
    flash_lines: int,
) -> Program:
    """The program with a store where that saves cycles, otherwise the program itself."""
    plain = timeline(layers, plans, places, program, config, flash_lines)
    best, fewest = program, WORTH * _total(plain)
    # A ring of recalls would mix a tensor's words with those of the layers around it.
    recalled = [i for i, layer in enumerate(layers) if layer.weight_source is not None]
    for first in _stalled_layers(plain, plans):
        if first <= max(recalled, default=-1):
            continue
        candidate = _with_store(program, plain, first, layers, plans, places, config, flash_lines)
        if candidate is None:
            continue
        cycles = _total(timeline(layers, plans, places, candidate, config, flash_lines))
        if cycles < fewest:
            best, fewest = candidate, cycles
    return best


def _total(line: Timeline) -> int:
    return sum(layer.cycles for layer in line.layers)


def _stalled_layers(line: Timeline, plans: Sequence[Plan]) -> list[int]:
    """Layers that wait for the stream, the worst first."""
    lost = [
        (layer.cycles - plan.cycles_estimate, index)
        for index, (layer, plan) in enumerate(zip(line.layers, plans, strict=True))
        if layer.cycles > STALLED * plan.cycles_estimate
    ]
    return [index for _, index in sorted(lost, reverse=True)[:MOST_CANDIDATES]]


def _with_store(
    program: Program,
    line: Timeline,
    first: int,
    layers: Sequence[Layer],
    plans: Sequence[Plan],
    places: Mapping[str, Placement],
    config: AcceleratorConfig,
    flash_lines: int,
) -> Program | None:
    """The program in which the weights of layers `first` and on are stored; None: no room."""
    counts = [
        plan.stream_parts // 2 if layer.weight_source is None else 0
        for layer, plan in zip(layers, plans, strict=True)
    ]
    banks = [places[layer.input].bank for layer in layers]
    readers = [(count, bank) for count, bank in zip(counts, banks, strict=True)][first:]
    writer = StoreWriter(program, sum(counts[:first]), readers, free_words(places, config))
    start = sum(layer.cycles for layer in line.layers[:first])
    return writer.rewrite(_usable(line, banks, until=start, cycles=2 * word_cycles(flash_lines)))


def free_words(places: Mapping[str, Placement], config: AcceleratorConfig) -> list[range]:
    """For each bank the words above all tensors."""
    ends = [0, 0]
    for place in places.values():
        ends[place.bank] = max(ends[place.bank], place.offset + place.words)
    return [range(end, config.bank_words) for end in ends]


def _usable(
    line: Timeline, read_banks: Sequence[int], *, until: int, cycles: int
) -> dict[int, list[Room]]:
    """What fits the gaps before a time, by the program word behind each.

    It is a room for each layer that runs meanwhile; a stored word takes so many cycles.
    """
    ends = list(itertools.accumulate(layer.cycles for layer in line.layers))
    rooms: dict[int, list[Room]] = {}
    for gap in line.gaps:
        time, stop = gap.time, min(gap.time + gap.cycles, until)
        while time < stop:
            layer = bisect.bisect_right(ends, time)
            part = min(stop, ends[layer]) - time
            words = part // cycles - OVERHEAD_WORDS
            if words >= SMALLEST_STORE:
                room = Room(bank=1 - read_banks[layer], words=words)
                rooms.setdefault(gap.word, []).append(room)
            time += part
    return rooms
