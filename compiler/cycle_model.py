"""The cycle model: predicts every layer's cycles from its plan and the program stream.

It follows the hardware's events at the grain of tiles (of passes, where weights are still on
their way): the stream delivers a word every `WORD_CYCLES`, stalls where a FIFO is full, and
the array, the drain path and the sequencer add the constants below, which are those of
`hw/feeder.py`, `hw/array.py`, `hw/drain.py` and `hw/sequencer.py`. Verilator measures the same
cycles (`qcompile sim`); sim_tests hold the two together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from qcompile.compiler.layers import Layer
from qcompile.compiler.passes.allocate import Placement
from qcompile.compiler.passes.emit_program import Program
from qcompile.compiler.plan import ROWS, VALUES_PER_ROW, Plan
from qcompile.hw.activation import ActivationTable
from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.eltwise import EltwiseAdd
from qcompile.hw.program import PacketKind
from qcompile.hw.requant import requant_latency
from qcompile.hw.weight_fifo import BLOCK_WORDS

WORD_CYCLES = 4
"""Flash clocks of a 16-bit stream word over four lines."""
STREAM_LATENCY = 48
"""From start to the first stream word: command, address and dummy clocks."""
LOAD_CYCLES = 13
"""From "a descriptor waits and nothing runs" to the layer's first read."""
CAPTURE_CYCLES = 5
"""From a tile's last read to the cycle in which its first row may leave the FIFO."""
CONSTANTS_CYCLES = 2
"""From a group's last constant to the first value that may use them."""
DONE_CYCLES = 0
"""From the last value's way out of requantization to "nothing runs"."""
RESIDUAL_CYCLES = 8
"""A row with a residual operand takes the drain latency and these cycles."""
CONFLICT_CYCLES = 2
"""A residual word that lies in the feeder's bank stops the feeder for so long."""
MAX_TILES = 60
"""Tiles in the array and the accumulator FIFO together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCycles:
    """Predicted cycles of a layer: from the end of the layer before to its own end."""

    name: str
    cycles: int
    macs: int
    utilization: float


@dataclass(slots=True)
class _Releases:
    """When the weight FIFO's base pointer passed each word: ramps of one word a cycle."""

    ramps: deque[tuple[int, int, int]] = field(default_factory=deque)

    def add(self, time: int, first: int, words: int) -> None:
        self.ramps.append((time, first, words))

    def time_of(self, count: int) -> int | None:
        """When `count` words in all had been released (0 for none); None: not known yet."""
        if count <= 0:
            return 0
        while self.ramps and self.ramps[0][1] + self.ramps[0][2] < count:
            self.ramps.popleft()
        if not self.ramps:
            return None
        time, first, _ = self.ramps[0]
        return time + max(0, count - first)


class _Stream:
    """Arrival times of the program's packets, computed as far as they are asked for."""

    def __init__(self, program: Program, depth: int) -> None:
        self.packets = iter(_sizes(program))
        self.depth = depth
        self.time = STREAM_LATENCY
        self.weights = 0
        self.weights_left = 0
        self.arrived: deque[tuple[int, int, int]] = deque()  # first word, time of it, words
        self.releases = _Releases()
        self.idle_since: list[int] = [0]
        self.layers: list[int] = []
        self.constants: list[int] = []
        self.groups_used = 0

    def weights_until(self, count: int) -> int:
        """When the first `count` weight words had all arrived."""
        self._advance(lambda: self.weights >= count)
        while self.arrived and self.arrived[0][0] + self.arrived[0][2] < count:
            self.arrived.popleft()
        first, time, _ = self.arrived[0]
        return time + max(0, count - 1 - first) * 2 * WORD_CYCLES

    def has_arrived(self, count: int, time: int) -> bool:
        """Whether the first `count` weight words are there at `time`; looks no further."""
        while self.weights < count and self.time <= time and self._next():
            pass
        return self.weights >= count and self.weights_until(count) <= time

    def layer(self, index: int) -> int:
        """When the descriptor of layer `index` was complete."""
        self._advance(lambda: len(self.layers) > index)
        return self.layers[index]

    def group(self, index: int) -> int:
        """When the constants of channel group `index`, counted over all layers, had arrived."""
        self._advance(lambda: len(self.constants) > index)
        return self.constants[index]

    def _advance(self, reached: Callable[[], bool]) -> None:
        while not reached():
            if not self._next():
                raise ValueError("the program needs more weight words at once than the FIFO holds")

    def _next(self) -> bool:
        """One packet, or one word of weights; False where the FIFO waits for a release."""
        if self.weights_left:
            return self._weight()
        kind, words = next(self.packets)
        self.time += WORD_CYCLES  # header
        if kind == PacketKind.WEIGHTS:
            self.weights_left = words // 2
            return True
        if kind in (PacketKind.TABLE, PacketKind.ADD_TABLE_A, PacketKind.ADD_TABLE_B):
            self.time = max(self.time, self.idle_since[len(self.layers)])
        self.time += words * WORD_CYCLES
        if kind == PacketKind.CONSTANTS:
            self.constants.append(self.time)
        if kind == PacketKind.LAYER:
            self.layers.append(self.time)
        return True

    def _weight(self) -> bool:
        block = (self.weights - self.depth) // BLOCK_WORDS + 1
        released = self.releases.time_of(block * BLOCK_WORDS)
        if released is None:
            return False
        self.time = max(self.time + WORD_CYCLES, released + 1) + WORD_CYCLES
        last = self.arrived[-1] if self.arrived else None
        if last and self.time == last[1] + last[2] * 2 * WORD_CYCLES:
            self.arrived[-1] = (last[0], last[1], last[2] + 1)
        else:
            self.arrived.append((self.weights, self.time, 1))
        self.weights += 1
        self.weights_left -= 1
        return True


def _sizes(program: Program) -> list[tuple[PacketKind, int]]:
    sizes = []
    begin = 0
    for kind, end in program.packet_ends:
        sizes.append((kind, end - begin - 1))
        begin = end
    return sizes


def predict(
    layers: Sequence[Layer],
    plans: Sequence[Plan],
    places: Mapping[str, Placement],
    program: Program,
    config: AcceleratorConfig,
) -> tuple[LayerCycles, ...]:
    """Cycles of every layer; the weight FIFO is empty at the start and the flash awake."""
    stream = _Stream(program, config.weight_depth)
    drain_latency = requant_latency(config) + EltwiseAdd.LATENCY + ActivationTable.LATENCY
    time = 0
    taken = 0
    result = []
    for index, (layer, plan) in enumerate(zip(layers, plans, strict=True)):
        begin = max(time, stream.layer(index)) + LOAD_CYCLES
        drain = _Drain(
            latency=drain_latency,
            residual=layer.residual is not None,
            conflict=layer.residual is not None
            and places[layer.residual].bank == places[layer.input].bank,
        )
        end, taken = _run_layer(plan, stream, begin, taken, drain)
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
    return tuple(result)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drain:
    """How a layer's rows leave: cycles of one value, a residual operand, where that lies."""

    latency: int
    residual: bool
    conflict: bool

    @property
    def row_cycles(self) -> int:
        return self.latency + RESIDUAL_CYCLES if self.residual else VALUES_PER_ROW

    @property
    def stall_cycles(self) -> int:
        """Cycles that a row costs the feeder."""
        return CONFLICT_CYCLES if self.conflict else 0


def _run_layer(
    plan: Plan, stream: _Stream, begin: int, taken: int, drain: _Drain
) -> tuple[int, int]:
    """End of the layer and weight words taken so far."""
    words = int(plan.weights.shape[1])
    time = begin
    drained = begin
    ends: deque[int] = deque()
    pass_reads = plan.counts[0]
    last_column = plan.counts[4] - 1
    for group in range(plan.groups):
        last_use = not plan.shared_weights or group == plan.groups - 1
        fresh = not plan.shared_weights or group == 0
        if not fresh:
            drained = max(drained, stream.group(stream.groups_used + group) + CONSTANTS_CYCLES)
        for number in range(plan.tiles):
            if len(ends) >= MAX_TILES:
                time = max(time, ends.popleft() + 2)
            start = time
            last = number == plan.tiles - 1 and last_use
            if number == 0 and fresh and not stream.has_arrived(taken + words, start):
                time = _arriving_tile(stream, start, taken, words, pass_reads, release=last)
            else:
                time = start + words
                if last:
                    stream.releases.add(start, taken, words)
            used = plan.rows_last if number % plan.counts[4] == last_column else ROWS
            drained = max(drained, time - 1 + CAPTURE_CYCLES) + used * drain.row_cycles
            time += used * drain.stall_cycles
            drained += ROWS - used
            ends.append(drained)
        if last_use:
            taken += words
    stream.groups_used += plan.groups
    if not drain.residual:
        drained += drain.latency
    return drained + DONE_CYCLES, taken


def _arriving_tile(
    stream: _Stream, start: int, taken: int, words: int, pass_reads: int, *, release: bool
) -> int:
    """Pass after pass, as their weights arrive; released at once where nobody uses them again."""
    time = start
    for done in range(taken, taken + words, pass_reads):
        time = max(time, stream.weights_until(done + pass_reads) + 1)
        if release:
            stream.releases.add(time, done, pass_reads)
        time += pass_reads
    return time
