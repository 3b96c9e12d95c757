"""Inferences one after the other: cycles from one start to the next, transfers included."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from qcompile.compiler.backend import outputs_of
from qcompile.compiler.lines.backend import LinesCompiled
from qcompile.compiler.lines.machine import LinesMachine
from qcompile.compiler.passes.allocate import words_needed
from qcompile.compiler.throughput import Queued
from qcompile.runtime import protocol
from qcompile.runtime.input_queue import InputQueue

ON_A_SERIAL_LINE = "the serial line sets the pace; nothing moves while the array computes"
OVERLAPS = (
    "an input's {beats_in:,} beats of 4 bytes and its outputs' {beats_out:,} move while the array"
    " computes, one a cycle at best, through the streams; through registers the processor sets the"
    " pace"
)
APART = (
    "an input's {beats_in:,} beats of 4 bytes and its outputs' {beats_out:,} move between the runs,"
    " one a cycle at best, through the streams: {why}"
)
NO_ROOM = "kept apart from other tensors they would take {needed:,} words of a set of {words:,}"
NO_PLACES = "kept apart from other tensors they would cost cycles, or an output is an input"


def period(queue: InputQueue, cycles: Sequence[int], beats_in: int, beats_out: int) -> int:
    """Cycles from one start to the next where a beat moves each cycle and the host loses none.

    `cycles` are the layers'. A run waits in front of the first layer that writes outputs until the
    last ones are read; the next inputs come behind the last layer that reads inputs. Where both
    move at a time they share the memory's port: two beats of each in three cycles.
    """
    ends = [0, *accumulate(cycles)]
    before, free = ends[queue.outputs_from], ends[queue.inputs_free]
    if queue.inputs_free > queue.outputs_from:
        free += max(0, beats_out - before)
    slower = max(0, min(beats_out - free, beats_in)) // 2
    pause = max(0, beats_out + slower - before)
    return max(ends[-1] + pause, free + beats_in + slower)


def throughput(compiled: LinesCompiled, link: str) -> Queued:
    """What the report says of many inputs behind one another."""
    graph, queue = compiled.graph, compiled.queue
    cycles = [layer.cycles for layer in compiled.cycles()]
    beats_in = _beats(compiled, compiled.sent)
    beats_out = _beats(compiled, tuple(dict.fromkeys(outputs_of(graph))))
    beats = {"beats_in": beats_in, "beats_out": beats_out}
    if link == "uart":
        return Queued(**beats, cycles=None, note=ON_A_SERIAL_LINE)
    if queue is not None:
        taken = period(queue, cycles, beats_in, beats_out)
        return Queued(**beats, cycles=taken, note=OVERLAPS.format(**beats))
    note = APART.format(**beats, why=_why_not(compiled))
    return Queued(**beats, cycles=sum(cycles) + beats_in + beats_out, note=note)


def _why_not(compiled: LinesCompiled) -> str:
    graph, config = compiled.graph, compiled.config
    machine, outputs = LinesMachine(config), outputs_of(graph)
    needed = words_needed(compiled.layers, graph.inputs, outputs, machine, queued=True)
    if needed > config.set_words:
        return NO_ROOM.format(needed=needed, words=config.set_words)
    return NO_PLACES


def _beats(compiled: LinesCompiled, names: Sequence[str]) -> int:
    beats = compiled.config.word_bits // protocol.BEAT_BITS
    return beats * sum(compiled.places[name].words for name in names)
