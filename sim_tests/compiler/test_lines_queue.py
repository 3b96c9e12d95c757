"""When inputs that queue may be written, and where they queue at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qcompile.compiler.layers import Layer
from qcompile.compiler.lines.backend import compile_graph, with_queue
from qcompile.compiler.lines.input_queue import queue_of
from qcompile.compiler.lines.machine import LinesMachine
from qcompile.compiler.lines.throughput import period, throughput
from qcompile.compiler.passes.allocate import words_needed
from qcompile.hw.lines.config import LinesConfig
from qcompile.runtime.input_queue import InputQueue
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.compiler.made_layers import make_layer

CONFIG = LinesConfig(lines=2, columns=4, lanes=2, acc_width=28, bank_words=512, weight_rows=4096)


def layer(
    source: str, output: str, *, residual: str | None = None, weights: str | None = None
) -> Layer:
    """A layer between tensors of these names."""
    plain = make_layer(kind="dense", channels=4, out=4, size=(1, 1))
    return replace(plain, input=source, output=output, residual=residual, weight_source=weights)


def test_inputs_are_free_behind_their_last_reader_outputs_begin_with_their_first_writer() -> None:
    chain = [layer("x", "a"), layer("a", "b"), layer("b", "c"), layer("c", "d")]
    assert queue_of(chain, ["x"], ["d"]) == InputQueue(inputs_free=1, outputs_from=3)
    assert queue_of(chain, ["x"], ["b", "d"]) == InputQueue(inputs_free=1, outputs_from=1)
    chain[2] = layer("b", "c", residual="x")
    assert queue_of(chain, ["x"], ["d"]) == InputQueue(inputs_free=3, outputs_from=3)
    chain[2] = layer("b", "c", weights="y")
    assert queue_of(chain, ["x", "y"], ["d"]) == InputQueue(inputs_free=3, outputs_from=3)


def test_inputs_do_not_queue_where_the_host_reads_what_it_has_written() -> None:
    chain = [layer("x", "a"), layer("a", "b")]
    assert queue_of(chain, ["x"], ["x", "b"]) is None
    assert queue_of([], ["x"], ["x"]) is None


@pytest.mark.parametrize("missing", [0, 1])
def test_inputs_queue_where_the_sets_have_room(rng: np.random.Generator, missing: int) -> None:
    g = IntegerGraph(rng)
    a = g.conv(g.input(4, 8, 7), 4, (3, 3), pads=(1, 1, 1, 1))
    held = g.constant(rng.integers(-128, 128, (1, 4, 8, 7)).astype(np.int8))
    graph = g.graph(g.conv(g.add(a, held), 3))
    layers, machine = compile_graph(graph, CONFIG).layers, LinesMachine(CONFIG)
    least = words_needed(layers, graph.inputs, graph.outputs, machine)
    need = words_needed(layers, graph.inputs, graph.outputs, machine, queued=True)
    banks = -(-need // CONFIG.banks) - missing
    config = replace(CONFIG, bank_words=banks)
    assert least <= config.set_words
    plain = compile_graph(graph, config)
    found = with_queue(plain)
    if missing:
        assert found is None
        return
    assert found is not None and found.queue == queue_of(layers, graph.inputs, graph.outputs)
    assert found.cycles() == plain.cycles()


@pytest.mark.parametrize(
    ("free", "before", "beats_in", "beats_out", "expected"),
    [
        (1, 2, 400, 100, 600),
        (1, 2, 700, 0, 800),
        (1, 2, 0, 400, 700),
        (3, 2, 50, 400, 750),
        (1, 2, 300, 200, 600),
        (1, 1, 800, 300, 1000),
    ],
    ids=["hidden", "in", "out", "in behind out", "both early", "both at a time"],
)
def test_a_period_is_as_long_as_what_does_not_overlap(
    free: int, before: int, beats_in: int, beats_out: int, expected: int
) -> None:
    queue = InputQueue(inputs_free=free, outputs_from=before)
    assert period(queue, [100, 200, 300], beats_in, beats_out) == expected


def test_reports_say_what_overlaps_or_why_nothing_does(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    graph = g.graph(g.conv(g.conv(g.input(3, 9, 7), 4, (3, 3)), 4, (3, 3)))
    config = replace(CONFIG, columns=8, bank_words=80)
    apart = compile_graph(graph, config)
    queued = with_queue(apart)
    assert queued is not None
    cycles = sum(layer.cycles for layer in queued.cycles())
    found = throughput(queued, "axi")
    assert (found.beats_in, found.beats_out) == (2 * 9 * 7, 2 * 5 * 3)
    assert found.cycles == cycles
    assert "126 beats of 4 bytes and its outputs' 30 move while the array computes" in found.note
    found = throughput(apart, "axi")
    assert found.cycles == cycles + 126 + 30
    assert "move between the runs" in found.note
    found = throughput(queued, "uart")
    assert found.cycles is None and "the serial line sets the pace" in found.note
    small = replace(config, bank_words=(9 * 7 + 1) // 2)
    note = throughput(compile_graph(graph, small), "axi").note
    need = words_needed(
        apart.layers, graph.inputs, graph.outputs, LinesMachine(config), queued=True
    )
    assert note.endswith(f"would take {need} words of a set of 64")
