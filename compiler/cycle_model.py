"""The cycle model: predicts every layer's cycles from its plan and the program stream.

It follows the hardware's events at the grain of tiles (of passes, where weights are still on
their way): the stream delivers a word as fast as the flash's lines bring it, stalls where a FIFO
is full, and the array, the drain path and the sequencer add the constants below, which are those
of `hw/feeder.py`, `hw/array.py`, `hw/drain.py` and `hw/sequencer.py`. Verilator measures the same
cycles (`qcompile sim`); sim_tests hold the two together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qcompile.compiler.layers import Layer
from qcompile.compiler.passes.allocate import Placement
from qcompile.compiler.passes.emit_program import Program
from qcompile.compiler.plan import ROWS, VALUES_PER_ROW, Plan
from qcompile.compiler.residual_model import (
    CAPTURE_CYCLES,
    CONFLICT_CYCLES,
    CONSTANTS_CYCLES,
    MAX_TILES,
    TILE_CYCLES,
    run_residual_layer,
)
from qcompile.compiler.stream_model import Gap, Stream
from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.engine import drain_latency
from qcompile.hw.flash_reader import word_cycles

LOAD_CYCLES = 13
"""From "a descriptor waits and nothing runs" to the layer's first read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCycles:
    """Predicted cycles of a layer: from the end of the layer before to its own end."""

    name: str
    cycles: int
    macs: int
    utilization: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What a program's run looks like: its layers, and the gaps of its stream, in their order."""

    layers: tuple[LayerCycles, ...]
    gaps: tuple[Gap, ...]


def predict(
    layers: Sequence[Layer],
    plans: Sequence[Plan],
    places: Mapping[str, Placement],
    program: Program,
    config: AcceleratorConfig,
    flash_lines: int,
) -> tuple[LayerCycles, ...]:
    """Cycles of every layer; the weight FIFO is empty at the start and the flash awake."""
    return timeline(layers, plans, places, program, config, flash_lines).layers


def timeline(
    layers: Sequence[Layer],
    plans: Sequence[Plan],
    places: Mapping[str, Placement],
    program: Program,
    config: AcceleratorConfig,
    flash_lines: int,
) -> Timeline:
    """Cycles of every layer, and when the stream had to wait."""
    stream = Stream(program, config.weight_depth, word_cycles=word_cycles(flash_lines))
    latency = drain_latency(config)
    time = 0
    taken = 0
    result = []
    for index, (layer, plan) in enumerate(zip(layers, plans, strict=True)):
        begin = max(time, stream.layer(index)) + LOAD_CYCLES
        stream.read_bank = places[layer.input].bank
        stream.tiles, stream.pass_reads = plan.tiles, plan.counts[0]
        stream.wanted = taken + plan.stream_parts
        if layer.residual is None:
            end, taken = _run_layer(plan, stream, begin, taken, latency)
        else:
            conflict = places[layer.residual].bank == places[layer.input].bank
            end, taken = run_residual_layer(
                plan, stream, begin, taken, latency=latency, conflict=conflict
            )
        stream.idle_since.append(end)
        peak = (end - time) * config.macs_per_cycle
        result.append(
            LayerCycles(
                name=layer.name,
                cycles=end - time,
                macs=layer.macs,
                utilization=layer.macs / peak,
            )
        )
        time = end
    return Timeline(layers=tuple(result), gaps=tuple(stream.gaps))


def _run_layer(plan: Plan, stream: Stream, begin: int, taken: int, latency: int) -> tuple[int, int]:
    """End of a layer without a residual operand, and parts of weights taken so far."""
    words, parts = int(plan.weights.shape[1]), plan.group_parts
    time = begin
    drained = begin
    ends: deque[int] = deque()
    last_column = plan.counts[4] - 1
    for group in range(plan.groups):
        last_use = not plan.shared_weights or group == plan.groups - 1
        fresh = not plan.shared_weights or group == 0
        stream.group_end = taken + parts
        for number in range(plan.tiles):
            if len(ends) >= MAX_TILES:
                time = max(time, ends.popleft() + TILE_CYCLES)
            start = time
            last = number == plan.tiles - 1 and last_use
            if number == 0 and fresh and not stream.has_arrived(taken + parts, start):
                time = _arriving_tile(plan, stream, start, taken, release=last)
            else:
                time = start + words
                if last:
                    stream.releases.add(start, taken, parts, plan.word_parts)
            time += CONFLICT_CYCLES * stream.conflicts_until(time)
            if number == 0:
                constants = stream.group(stream.groups_used + group)
                drained = max(drained, constants + CONSTANTS_CYCLES)
            used = plan.rows_last if number % plan.counts[4] == last_column else ROWS
            drained = max(drained, time - 1 + CAPTURE_CYCLES) + used * VALUES_PER_ROW
            drained += ROWS - used
            ends.append(drained)
        if last_use:
            taken += parts
    stream.groups_used += plan.groups
    return drained + latency, taken


def _arriving_tile(plan: Plan, stream: Stream, start: int, taken: int, *, release: bool) -> int:
    """Pass after pass, as their weights arrive; released at once where nobody uses them again."""
    time = start
    parts = plan.counts[0] * plan.word_parts
    for done in range(taken, taken + plan.group_parts, parts):
        time = max(time, stream.weights_until(done + parts) + 1)
        if release:
            stream.releases.add(time, done, parts, plan.word_parts)
        time += plan.counts[0]
    return time
