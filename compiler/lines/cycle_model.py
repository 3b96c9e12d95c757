"""The cycle model of an array of lines: what every layer takes, from the program and its plans.

It follows the hardware's events at the grain of passes: the program stream hands over its words
(`program_stream`), passes follow one another and a tile's last one waits as
`hw/lines/pace.py` and `hw/lines/residual.py` have it, and what lies between is the sum of the
latencies that the components state. Verilator measures the same cycles; sim_tests hold the two
together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from qcompile.compiler.cycle_model import LayerCycles
from qcompile.compiler.layers import Layer
from qcompile.compiler.lines.plan import LinePlan
from qcompile.compiler.lines.program_stream import ProgramStream, packets
from qcompile.compiler.lines.residual_model import ResidualFetch, residual_rows, slots_of
from qcompile.compiler.passes.allocate import Placement
from qcompile.hw.lines.array import LineArray
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.feeder import LinesFeeder
from qcompile.hw.lines.flash_program import FlashTiming
from qcompile.hw.lines.lanes import LineLanes, lanes_latency
from qcompile.hw.lines.pace import TilePace
from qcompile.hw.lines.residual import TILES
from qcompile.hw.lines.tile_drain import slot_cycles
from qcompile.hw.lines.tile_reader import TileReader

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
    stream: ProgramStream
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
    """Latencies of one configuration, and a run of a program on it.

    `flash` is how the program's flash is read; None: it stands in a program memory.
    """

    def __init__(self, config: LinesConfig, flash: FlashTiming | None = None) -> None:
        self.config = config
        self.flash = flash
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
        stream = ProgramStream(self.config.columns, self.flash)
        result: list[LayerCycles] = []
        time = 0
        for layer, plan, part in zip(layers, plans, packets(words), strict=True):
            begin = max(stream.descriptor(part), stream.idle) + BEGIN_CYCLES
            stream.room = begin
            residual = self._residual(layer, plan, places, begin)
            run = self._layer(plan, stream, begin, residual)
            end = run.run() + self.lanes + self._writes(plan) + 2 * DONE_CYCLES
            stream.idle = end
            last = len(result) == len(plans) - 1
            counted = max(end, stream.end()) + END_CYCLES if last else end
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
            pause=int(plan.lines_last == 1 or self.config.lines == 1),
            shared=places[layer.residual].bank == places[layer.input].bank,
            time=begin + 1,
            free=deque([0] * TILES * self.config.rows),
        )

    def _layer(
        self, plan: LinePlan, stream: ProgramStream, begin: int, residual: ResidualFetch | None
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
            gap=max(tile, TilePace.OWN_CYCLES if plan.own else FIRST_TILE),
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
    flash: FlashTiming | None = None,
) -> tuple[LayerCycles, ...]:
    """See `LinesCycleModel.run`."""
    return LinesCycleModel(config, flash).run(layers, plans, places, words)
