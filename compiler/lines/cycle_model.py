"""The cycle model of an array of lines: what every layer takes, from the program and its plans.

It follows the hardware's events at the grain of passes: the program stream hands over a word a
cycle and waits where its target is full, passes follow one another and a tile's last one waits as
`hw/lines/pace.py` and `hw/lines/residual.py` have it, and what lies between is the sum of the
latencies that the components state. Verilator measures the same cycles; sim_tests hold the two
together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from qcompile.compiler.cycle_model import LayerCycles
from qcompile.compiler.layers import Layer
from qcompile.compiler.lines.plan import LinePlan
from qcompile.compiler.lines.residual_model import ResidualFetch, residual_rows, slots_of
from qcompile.compiler.passes.allocate import Placement
from qcompile.hw.lines.array import LineArray
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.constants import SLOTS
from qcompile.hw.lines.feeder import LinesFeeder
from qcompile.hw.lines.lanes import LineLanes, lanes_latency
from qcompile.hw.lines.program import LAYER_WORDS, MAX_PAYLOAD_WORDS, WEIGHTS_WAIT_AT, PacketKind
from qcompile.hw.lines.residual import TILES
from qcompile.hw.lines.tile_drain import slot_cycles
from qcompile.hw.lines.tile_reader import TileReader
from qcompile.hw.lines.unpacker import CODES_A_WORD

FIRST_WORD = 1
"""Cycle in which the program's first word stands at the unpacker."""
BEGIN_CYCLES = 1
"""From "a descriptor waits and nothing runs" to `begin`."""
FIRST_PASS = 2
"""From `begin` to the first pass."""
FIRST_TILE = 3
"""From `begin`, and from a tile's last pass, to the next tile's last pass at the earliest."""
GROUP_CYCLES = 2
"""From a group's last constant to the last pass of the first tile that needs it."""
RELEASE_CYCLES = 3 + LineLanes.MANTISSA_DELAY
"""From the drain's last step of a group to the first constant that takes its place."""
RESIDUAL_CYCLES = 1
"""From the grant of a tile's last residual word to its last pass; from a row's end to its room."""
DONE_CYCLES = 1
"""From a layer's last write to `layer_done`, and from there to "nothing runs"."""
END_CYCLES = 1
"""From the last layer's end to the run's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packets:
    """A layer's part of the program.

    Attributes
    ----------
    before : tuple of (int, bool)
        Cycles of the payload of each packet in front of the descriptor; True: it waits until
        nothing runs.
    groups : int
        Of constants.
    """

    before: tuple[tuple[int, bool], ...]
    groups: int


def packets(words: Sequence[int]) -> list[_Packets]:
    """The program, layer by layer."""
    layers: list[tuple[list[tuple[int, bool]], list[int]]] = []
    before: list[tuple[int, bool]] = []
    at = 0
    while at < len(words):
        header = words[at]
        kind, count = PacketKind(header >> 60), header % MAX_PAYLOAD_WORDS + 1
        at += 1 + count
        if kind == PacketKind.TABLE:
            before.append((count * CODES_A_WORD, True))
        elif kind == PacketKind.ADD_TABLES:
            before.append((count, True))
        elif kind == PacketKind.WEIGHTS:
            before.append((count, bool(header >> WEIGHTS_WAIT_AT & 1)))
        elif kind == PacketKind.LAYER:
            layers.append((before, []))
            before = []
        elif kind == PacketKind.CONSTANTS:
            layers[-1][1].append(count)
    return [_Packets(before=tuple(first), groups=len(groups)) for first, groups in layers]


@dataclass(slots=True, kw_only=True)
class _Stream:
    """The program's words on their way; `time` is when the next one may be taken."""

    columns: int
    time: int = FIRST_WORD
    room: int = 0
    """When the next descriptor may come: in the cycle of the last one's `begin`."""
    idle: int = 0
    """When tables may come."""
    releases: deque[int] = field(default_factory=lambda: deque([0] * SLOTS))
    """When the constants' FIFO has room for the next groups."""

    def descriptor(self, packets: _Packets) -> int:
        """Take what precedes a layer, and its descriptor; from which cycle on it may begin."""
        for cycles, waits in packets.before:
            self.time = max(self.time + 1, self.idle if waits else 0) + cycles
        self.time = max(self.time + 1, self.room) + LAYER_WORDS
        return self.time

    def group(self) -> int:
        """Take a group of constants; the cycle of its last word."""
        self.time = max(self.time + 1, self.releases.popleft()) + self.columns
        return self.time - 1


@dataclass(slots=True, kw_only=True)
class _Layer:
    """A layer while it runs.

    Attributes
    ----------
    slot, gap : int
        Cycles of a slot of the drain; least cycles from a tile's last pass to the next tile's.
    reads, capture : int
        Cycles of a pass's reads, and from a tile's last pass to its sums.
    time, earliest : int
        When the next pass may start, and when a tile's last one may.
    drained : int
        The drain's last step so far.
    """

    plan: LinePlan
    config: LinesConfig
    stream: _Stream
    residual: ResidualFetch | None
    slot: int
    gap: int
    reads: int
    capture: int
    time: int
    earliest: int
    drained: int = 0

    def run(self) -> int:
        """All tiles; the cycle of the drain's last step."""
        for group, tile in product(range(self.plan.groups), range(self.plan.tiles)):
            for _ in range(self.plan.passes - 1):
                self._fetch(self.time, self.reads)
                self.time += self.plan.pass_cycles
            slots = slots_of(self.plan, group, tile, self.config)
            if tile == 0:
                for _ in range(slots if self.plan.own else 1):
                    self.earliest = max(self.earliest, self.stream.group() + GROUP_CYCLES)
            self._tile(slots)
            if tile == self.plan.tiles - 1 and not self.plan.own:
                self.stream.releases.append(self.drained + RELEASE_CYCLES)
        return self.drained

    def _fetch(self, until: int, reads: int = 0) -> None:
        if self.residual is not None:
            self.residual.advance(until, reads)

    def _tile(self, slots: int) -> None:
        """A tile's last pass and its way through the drain."""
        steps = self.config.columns // self.config.lanes
        self._fetch(self.time)
        issue = max(self.time, self.earliest)
        if self.residual is not None:
            issue = max(issue, self.residual.tile() + RESIDUAL_CYCLES)
        self._fetch(issue, self.reads)
        self.time = issue + self.plan.pass_cycles
        self.earliest = issue + self.gap
        ends = [issue + self.capture + n * self.slot + steps - 1 for n in range(slots)]
        self.drained = ends[-1]
        if self.plan.own:
            self.stream.releases.extend(end + RELEASE_CYCLES for end in ends)
        if self.residual is not None:
            taken = ends[-1:] if self.plan.own else ends
            self.residual.free.extend(t + TileReader.LATENCY + RESIDUAL_CYCLES for t in taken)


class LinesCycleModel:
    """Latencies of one configuration, and a run of a program on it."""

    def __init__(self, config: LinesConfig) -> None:
        self.config = config
        self.capture = LinesFeeder.TAKE_DELAY + LineArray.LATENCY
        self.lanes = TileReader.LATENCY + lanes_latency(config)

    def run(
        self,
        layers: Sequence[Layer],
        plans: Sequence[LinePlan],
        places: Mapping[str, Placement],
        words: Sequence[int],
    ) -> tuple[LayerCycles, ...]:
        """Cycles of every layer of a program; the last one's include the end of the run."""
        stream = _Stream(columns=self.config.columns)
        result: list[LayerCycles] = []
        time = 0
        for layer, plan, part in zip(layers, plans, packets(words), strict=True):
            begin = max(stream.descriptor(part), stream.idle) + BEGIN_CYCLES
            stream.room = begin
            residual = self._residual(layer, plan, places, begin)
            run = self._layer(plan, stream, begin, residual)
            end = run.run() + self.lanes + self._writes(plan) + 2 * DONE_CYCLES
            stream.idle = end
            counted = end if len(result) < len(plans) - 1 else end + END_CYCLES
            result.append(_layer_cycles(layer, counted - time, self.config))
            time = counted
        return tuple(result)

    def _writes(self, plan: LinePlan) -> int:
        """Cycles of the writes of a layer's last row."""
        if plan.own:
            return 1
        return (
            plan.lines_last if plan.single_writes else min(plan.lines_last, self.config.lower_lines)
        )

    def _residual(
        self, layer: Layer, plan: LinePlan, places: Mapping[str, Placement], begin: int
    ) -> ResidualFetch | None:
        if layer.residual is None:
            return None
        return ResidualFetch(
            rows=residual_rows(plan, self.config),
            shared=places[layer.residual].bank == places[layer.input].bank,
            time=begin + 1,
            free=deque([0] * TILES * self.config.rows),
        )

    def _layer(
        self, plan: LinePlan, stream: _Stream, begin: int, residual: ResidualFetch | None
    ) -> _Layer:
        config = self.config
        steps = config.columns // config.lanes
        rows = plan.rows_last if plan.counts[4] == 1 else plan.tile_rows
        slot = steps if plan.own else slot_cycles(config, single=plan.single_writes)
        tile = config.lines * steps if plan.own else rows * slot
        reads = plan.counts[0] * plan.turns
        products = plan.products if plan.kind == "rotate" else 1
        return _Layer(
            plan=plan,
            config=config,
            stream=stream,
            residual=residual,
            slot=slot,
            gap=max(tile, FIRST_TILE),
            reads=reads,
            capture=reads - 1 + products + self.capture,
            time=begin + FIRST_PASS,
            earliest=begin + FIRST_TILE,
        )


def _layer_cycles(layer: Layer, cycles: int, config: LinesConfig) -> LayerCycles:
    return LayerCycles(
        name=layer.name,
        cycles=cycles,
        macs=layer.macs,
        utilization=layer.macs / (cycles * config.macs_per_cycle),
    )


def predict(
    layers: Sequence[Layer],
    plans: Sequence[LinePlan],
    places: Mapping[str, Placement],
    words: Sequence[int],
    config: LinesConfig,
) -> tuple[LayerCycles, ...]:
    """See `LinesCycleModel.run`."""
    return LinesCycleModel(config).run(layers, plans, places, words)
