"""When a program's packets arrive: the cycle model of the flash stream and the weight FIFO.

The stream delivers a word every `word_cycles` and stands still where its target is full. Weights
are counted in *parts* of 16 bits: a stream word, half a word of the FIFO, a packed weight word or
half a plain one. The FIFO has room by its words, and so has every layer whole ones. A recall
(`hw/prefetch.py`) sends stored words to the weight FIFO beside it; weights of the stream, and
another recall, wait for its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from qcompile.compiler.passes.emit_program import Program
from qcompile.hw.layouts import BANK_ADDRESS_BITS
from qcompile.hw.prefetch import RECALL_CYCLES
from qcompile.hw.program import PacketKind
from qcompile.hw.weight_fifo import BLOCK_WORDS

STREAM_LATENCY = 48
"""From start to the first stream word: command, address and dummy clocks."""
CONFLICT_CYCLES = {1: (4, 4, 4, 3), 2: (4, 5), 3: (5, 5, 6)}
"""As `RECALL_CYCLES`, in turn, where the words lie in the bank that the feeder reads, for layers
whose weights serve so many tiles: measured. The fewer, the longer the feeder waits for weights.
Else a word waits for the end of a pass."""
RECALL_LATENCY = 2
"""From a recall's last payload word to the FIFO's first word, less `RECALL_CYCLES`."""
TABLES = (PacketKind.TABLE, PacketKind.ADD_TABLE_A, PacketKind.ADD_TABLE_B)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """The stream stood still: in front of word `word` of the program, from `time` on."""

    word: int
    time: int
    cycles: int


@dataclass(slots=True)
class Releases:
    """When the weight FIFO's base pointer passed each part: ramps of one or two parts a cycle."""

    ramps: deque[tuple[int, int, int, int]] = field(default_factory=deque)

    def add(self, time: int, first: int, parts: int, pace: int) -> None:
        """`parts` parts from number `first` on, `pace` a cycle from `time` on."""
        self.ramps.append((time, first, parts, pace))

    def time_of(self, count: int) -> int | None:
        """When `count` parts in all had been released (0 for none); None: not known yet."""
        if count <= 0:
            return 0
        while self.ramps and self.ramps[0][1] + self.ramps[0][2] < count:
            self.ramps.popleft()
        if not self.ramps:
            return None
        time, first, _, pace = self.ramps[0]
        return time + max(0, -(-(count - first) // pace))


@dataclass(slots=True, kw_only=True)
class _Arrival:
    """Parts `first` to `end` of the weights, so many `together` every `spacing` cycles."""

    first: int
    time: int
    spacing: int
    together: int
    end: int = -1

    def __post_init__(self) -> None:
        self.end = self.first

    def goes_on(self, time: int, spacing: int, together: int) -> bool:
        """Whether parts that come at `time` are the next of these."""
        alike = self.spacing == spacing and self.together == together
        return alike and time == self.time + (self.end - self.first) // together * spacing

    def time_of(self, count: int) -> int:
        """When the first `count` parts had arrived."""
        return self.time + max(0, count - 1 - self.first) // self.together * self.spacing


class Stream:
    """Arrival times of the program's packets, computed as far as they are asked for.

    Attributes
    ----------
    releases : Releases
        The layers' part: which weights are not needed any more.
    idle_since : list of int
        The layers' part: when each layer ended, after a first 0.
    read_bank, tiles, pass_reads : int
        The layers' part: the bank that the running layer reads, its tiles, and reads of a pass.
    wanted, group_end : int
        The layers' part: parts of weights up to the end of the running layer, and of its group.
    gaps : list of Gap

    Parameters
    ----------
    program : Program
    depth : int
        Words of the weight FIFO.
    word_cycles : int
        Cycles in which the flash brings a 16-bit word.
    """

    def __init__(self, program: Program, depth: int, *, word_cycles: int) -> None:
        self.releases = Releases()
        self.idle_since: list[int] = [0]
        self.gaps: list[Gap] = []
        self.groups_used = 0
        self.read_bank = -1  # none, before the first layer
        self.tiles = 0
        self.pass_reads = 0
        self.wanted = 0
        self.group_end = 0
        self._words = program.words
        self._ends = program.packet_ends
        self._packet = 0
        self._depth = depth
        self._word_cycles = word_cycles
        self._time = STREAM_LATENCY
        self._weights = 0
        self._weights_left = 0
        self._recall_left = 0
        self._recall_time = 0
        self._recall_bank = 0
        self._arrived: deque[_Arrival] = deque()
        self._conflicts: deque[int] = deque()  # times of accesses to the feeder's bank
        self._layers: list[int] = []
        self._constants: list[int] = []

    def weights_until(self, count: int) -> int:
        """When the first `count` parts of weights had all arrived."""
        self._advance(lambda: self._weights >= count)
        while self._arrived and self._arrived[0].end < count:
            self._arrived.popleft()
        return self._arrived[0].time_of(count)

    def has_arrived(self, count: int, time: int) -> bool:
        """Whether the first `count` parts of weights are there at `time`; looks no further."""
        while self._weights < count and self._clock <= time and self._next():
            pass
        return self._weights >= count and self.weights_until(count) <= time

    def layer(self, index: int) -> int:
        """When the descriptor of layer `index` was complete."""
        self._advance(lambda: len(self._layers) > index)
        return self._layers[index]

    def group(self, index: int) -> int:
        """When the constants of channel group `index`, counted over all layers, had arrived."""
        self._advance(lambda: len(self._constants) > index)
        return self._constants[index]

    def conflicts_until(self, time: int) -> int:
        """Accesses to the feeder's bank since the last call, as far as known.

        Recalls that come while the feeder waits for them are not counted: those for the running
        group; and for the running layer, where a group's tiles take less time than its recalls.
        """
        while self._clock <= time and self._next():
            pass
        count = 0
        while self._conflicts and self._conflicts[0] <= time:
            self._conflicts.popleft()
            count += 1
        return count

    @property
    def _clock(self) -> int:
        """How far weights were computed."""
        return self._recall_time if self._recall_left else self._time

    def _advance(self, reached: Callable[[], bool]) -> None:
        while not reached():
            if not self._next():
                raise ValueError("the program needs more weight words at once than the FIFO holds")

    def _next(self) -> bool:
        """One packet, or one word of weights; False where all waits for the layers."""
        if self._recall_left and self._recalled_word():
            return True
        if self._weights_left:
            return self._weight()
        if self._packet == len(self._ends):
            return False
        begin = self._ends[self._packet - 1][1] if self._packet else 0
        kind, end = self._ends[self._packet]
        if self._recall_left and kind in (PacketKind.WEIGHTS, PacketKind.RECALL):
            return False
        if kind in TABLES and len(self._layers) >= len(self.idle_since):
            return False
        self._packet += 1
        self._read_packet(kind, begin, end)
        return True

    def _read_packet(self, kind: PacketKind, begin: int, end: int) -> None:
        words = end - begin - 1
        self._time += self._word_cycles  # header
        if kind in (PacketKind.WEIGHTS, PacketKind.RECALL):
            self._wait(self._recall_time, begin + 1)
        if kind == PacketKind.WEIGHTS:
            self._weights_left = words
            return
        if kind in TABLES:
            self._wait(self.idle_since[len(self._layers)], begin + 1)
        self._time += words * self._word_cycles
        if kind == PacketKind.STORE:
            self._stored(self._words[begin + 1], (words - 1) // 2)
        if kind == PacketKind.CONSTANTS:
            self._constants.append(self._time)
        if kind == PacketKind.LAYER:
            self._layers.append(self._time)
        if kind == PacketKind.RECALL:
            self._recall_left = self._words[end - 1] + 1
            self._recall_bank = self._words[end - 2] >> BANK_ADDRESS_BITS
            self._recall_time = self._time + RECALL_LATENCY

    def _stored(self, address: int, count: int) -> None:
        """The last `count` words were written to memory."""
        if address >> BANK_ADDRESS_BITS != self.read_bank:
            return
        spacing = max(2 * self._word_cycles, self.pass_reads + self._word_cycles)
        self._time += count * (spacing - 2 * self._word_cycles)
        self._conflicts += [self._time - spacing * index for index in reversed(range(count))]

    def _wait(self, until: int, word: int) -> None:
        """The stream stands in front of a word."""
        if until > self._time:
            self.gaps.append(Gap(word=word, time=self._time, cycles=until - self._time))
            self._time = until

    def _room(self) -> int | None:
        """When the FIFO has room for its next word; None: not known yet."""
        block = (self._weights // 2 - self._depth) // BLOCK_WORDS + 1
        return self.releases.time_of(2 * block * BLOCK_WORDS)

    def _recalled_word(self) -> bool:
        released = self._room()
        if released is None:
            return False
        cycles = RECALL_CYCLES
        if self._recall_bank == self.read_bank:
            pass_cycles = self.pass_reads + 2
            turns = CONFLICT_CYCLES.get(self.tiles, (pass_cycles,))
            cycles = turns[self._recall_left % len(turns)]
            needed = self.wanted if self.tiles < pass_cycles else self.group_end
            if self._weights >= needed:
                self._conflicts.append(max(self._recall_time, released) + cycles)
        self._recall_time = max(self._recall_time, released) + cycles
        self._recall_left -= 1
        self._arrive(self._recall_time, cycles, together=2)
        return True

    def _weight(self) -> bool:
        released = self._room()
        if released is None:
            return False
        word = self._ends[self._packet - 1][1] - self._weights_left
        self._time += self._word_cycles
        self._wait(released + 1, word)
        self._arrive(self._time, self._word_cycles)
        self._time += self._word_cycles
        self._arrive(self._time, self._word_cycles)
        self._weights_left -= 2
        return True

    def _arrive(self, time: int, spacing: int, together: int = 1) -> None:
        last = self._arrived[-1] if self._arrived else None
        if last is None or not last.goes_on(time, spacing, together):
            last = _Arrival(first=self._weights, time=time, spacing=spacing, together=together)
            self._arrived.append(last)
        last.end += together
        self._weights += together
