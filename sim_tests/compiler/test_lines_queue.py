"""When inputs that queue may be written, and where they queue at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qcompile.compiler.layers import Layer
from qcompile.compiler.lines.backend import compile_graph, with_queue
from qcompile.compiler.lines.input_queue import queue_of
from qcompile.compiler.lines.machine import LinesMachine
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
