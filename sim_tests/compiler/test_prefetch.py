"""prefetch: a decoder that replays stores and recalls finds every weight where it was."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from qcompile.compiler.backend import Compiled, compile_model, outputs_of
from qcompile.compiler.cycle_model import predict
from qcompile.compiler.passes.allocate import allocate
from qcompile.compiler.passes.emit_program import Program, emit_program
from qcompile.compiler.passes.prefetch import free_words
from qcompile.hw.boards.icebreaker import ICEBREAKER
from qcompile.hw.program import crc16
from sim_tests.compiler.integer_graphs import IntegerGraph, model_of

WEIGHTS, STORE, RECALL, END = 3, 7, 8, 15
Packet = tuple[int, list[int]]


def packets_of(program: Program) -> Iterator[Packet]:
    """Kind and payload of every packet, as docs/architecture.md section 4 has them."""
    position = 0
    while position < len(program.words):
        kind, size = program.words[position] >> 12, (program.words[position] & 0xFFF) + 1
        yield kind, program.words[position + 1 : position + 1 + size]
        position += 1 + size


def pairs(halves: list[int]) -> list[tuple[int, int]]:
    """Weight words of stream words."""
    return list(zip(halves[::2], halves[1::2], strict=True))


def weights_of(program: Program, allowed: set[int]) -> list[tuple[int, int]]:
    """The weights in the order in which the array gets them.

    A recall's words are read as late as the hardware may read them: when the next one, or weights
    of the stream, come.
    """
    memory: dict[int, tuple[int, int]] = {}
    weights: list[tuple[int, int]] = []
    waiting: range = range(0)
    for kind, payload in packets_of(program):
        if kind in (WEIGHTS, RECALL, END):
            weights += [memory[address] for address in waiting]
            waiting = range(0)
        if kind == WEIGHTS:
            weights += pairs(payload)
        elif kind == RECALL:
            waiting = range(payload[0], payload[0] + payload[1] + 1)
        elif kind == STORE:
            for address, word in enumerate(pairs(payload[1:]), payload[0]):
                assert address in allowed, "the store lies where tensors are"
                memory[address] = word
    return weights


def others_of(program: Program) -> list[Packet]:
    """Packets that prefetching leaves as they are."""
    return [packet for packet in packets_of(program) if packet[0] not in (WEIGHTS, STORE, RECALL)]


def plain_program(compiled: Compiled) -> Program:
    """The program without a store."""
    return emit_program(compiled.layers, compiled.plans, compiled.places, compiled.config)


def network(rng: np.random.Generator, pixels: int, late: int) -> Compiled:
    """A convolution over many pixels, then layers of one pixel with many weights."""
    g = IntegerGraph(rng)
    x = g.conv(g.input(8, pixels, pixels), 16, (3, 3), pads=(1, 1, 1, 1))
    x = g.pool(g.conv(x, 16, (3, 3), pads=(1, 1, 1, 1)), (pixels, pixels))
    graph = g.graph(g.conv(g.conv(x, late), late))
    return compile_model(model_of(graph), board=ICEBREAKER, requant="exact")


def test_every_weight_comes_back_in_its_order(rng: np.random.Generator) -> None:
    used = 0
    for pixels, late in itertools.product((12, 24), (96, 200)):
        compiled = network(rng, pixels, late)
        plain = plain_program(compiled)
        rooms = free_words(compiled.places, compiled.config)
        allowed = {bank << 14 | word for bank, room in enumerate(rooms) for word in room}
        assert weights_of(compiled.program, allowed) == weights_of(plain, set())
        assert others_of(compiled.program)[:-1] == others_of(plain)[:-1]
        assert crc16(compiled.program.words) == 0
        used += any(kind == STORE for kind, _ in packets_of(compiled.program))
    assert used == 4


def test_a_store_saves_cycles_and_none_is_made_where_it_would_not(
    rng: np.random.Generator,
) -> None:
    compiled = network(rng, 24, 200)
    parts = (compiled.layers, compiled.plans, compiled.places)
    plain = predict(*parts, plain_program(compiled), compiled.config, 4)
    saved = sum(layer.cycles for layer in plain) - compiled.total_cycles
    weights = 8 * sum(plan.weights[:, :, 0].size for plan in compiled.plans)
    assert 0.05 * weights < saved < weights, "a stored word saves at most its time in the stream"
    g = IntegerGraph(rng)
    still = compile_model(
        model_of(g.graph(g.conv(g.input(64), 64))), board=ICEBREAKER, requant="exact"
    )
    assert still.program.words == plain_program(still).words, "no layer before leaves a gap"


def test_free_words_lie_above_all_tensors(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    graph = g.graph(g.conv(g.input(4, 10, 10), 8))
    compiled = compile_model(model_of(graph), board=ICEBREAKER, requant="exact")
    places = allocate(compiled.layers, graph.inputs, outputs_of(graph), compiled.config.bank_words)
    assert free_words(places, compiled.config) == [range(100, 16384), range(200, 16384)]
