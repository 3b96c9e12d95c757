"""emit_program: a decoder of its own reads the stream back, from docs/architecture.md section 4."""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from qcompile.compiler import ir
from qcompile.compiler.backend import outputs_of
from qcompile.compiler.layers import Layer
from qcompile.compiler.passes.allocate import Placement, allocate
from qcompile.compiler.passes.emit_program import Program, emit_program
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.passes.tile import tile
from qcompile.compiler.plan import Plan
from qcompile.hw.config import AcceleratorConfig
from sim_tests.compiler.integer_graphs import IntegerGraph

CONFIG = AcceleratorConfig()
LAYER, CONSTANTS, WEIGHTS, TABLE, ADD_A, ADD_B, END = 1, 2, 3, 4, 5, 6, 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """A graph on its way to a program."""

    layers: tuple[Layer, ...]
    plans: tuple[Plan, ...]
    places: dict[str, Placement]
    program: Program

    @property
    def packets(self) -> list[tuple[int, npt.NDArray[np.uint16]]]:
        """Kind and payload of every packet."""
        return list(packets_of(self.program.words))


def packets_of(words: list[int]) -> Iterator[tuple[int, npt.NDArray[np.uint16]]]:
    """Kind and payload of every packet of a stream."""
    position = 0
    while position < len(words):
        kind, size = words[position] >> 12, (words[position] & 0xFFF) + 1
        payload = words[position + 1 : position + 1 + size]
        assert len(payload) == size, "the stream ends within a packet"
        yield kind, np.array(payload, np.uint16)
        position += 1 + size


def emit(graph: ir.Graph) -> Emitted:
    """The graph's program."""
    layers = lower(graph)
    plans = tile(layers, CONFIG)
    places = dict(allocate(layers, graph.inputs, outputs_of(graph), CONFIG.bank_words))
    program = emit_program(layers, plans, places, CONFIG)
    return Emitted(layers=layers, plans=plans, places=places, program=program)


def payloads(emitted: Emitted, kind: int) -> list[npt.NDArray[np.uint16]]:
    """Payloads of one kind in stream order."""
    return [payload for found, payload in emitted.packets if found == kind]


def signed(value: int, bits: int) -> int:
    """The two's complement number in the lowest bits."""
    value &= (1 << bits) - 1
    return value - (value >> (bits - 1) << bits)


@pytest.fixture
def network(rng: np.random.Generator) -> Emitted:
    """Every packet kind, residual operands in both banks, several channel groups."""
    g = IntegerGraph(rng)
    x = g.input(8, 7, 6)
    a = g.conv(x, 8, (3, 3), pads=(1, 0, 1, 2))
    b = g.conv(a, 8)
    total = g.add(b, x)
    c = g.conv(total, 8)
    d = g.lookup(g.add(total, c))
    return emit(g.graph(g.pool(d, (7, 6)), g.conv(d, 9, strides=(2, 2))))


def test_crc_over_the_whole_stream_is_zero_and_the_end_comes_last(network: Emitted) -> None:
    stream = np.array(network.program.words, "<u2").tobytes()
    assert binascii.crc_hqx(stream, 0xFFFF) == 0
    kinds = [kind for kind, _ in network.packets]
    assert kinds.count(END) == 1
    assert kinds[-1] == END
    assert network.packets[-1][1].size == 1


def test_packet_ends_are_those_of_the_packets(network: Emitted) -> None:
    ends = np.cumsum([1 + payload.size for _, payload in network.packets]).tolist()
    kinds = [kind for kind, _ in network.packets]
    assert network.program.packet_ends == list(zip(kinds, ends, strict=True))


def test_weights_and_constants_of_all_groups_come_in_order(network: Emitted) -> None:
    words = np.concatenate(payloads(network, WEIGHTS)).astype("<u2")
    wanted = [plan.weights[:1] if plan.shared_weights else plan.weights for plan in network.plans]
    assert any(plan.shared_weights for plan in network.plans)
    np.testing.assert_array_equal(
        words.view(np.int8).reshape(-1, 4), np.concatenate([w.reshape(-1, 4) for w in wanted])
    )
    groups = iter(payloads(network, CONSTANTS))
    for layer, plan in zip(network.layers, network.plans, strict=True):
        found = np.stack([next(groups) for _ in range(plan.groups)])
        entries = found.astype("<u2").reshape(-1, 4).view("<u8")[:, 0]
        channels = len(layer.bias)
        assert len(entries) == -(-channels // 4) * 4
        live = entries[:channels]
        assert [signed(int(entry), 32) for entry in live] == layer.bias.tolist()
        assert (live >> 32 & 0xFFFFFF).tolist() == layer.mantissa.tolist()
        assert (live >> 56 & 0x3F).tolist() == layer.shift.tolist()
        assert not (live >> 62).any()
        unused = entries[channels:]
        assert not (unused & 0xFFFFFFFFFFFFFF).any(), "bias and mantissa of unused channels"
    assert next(groups, None) is None


def test_tables_stand_in_front_of_their_layer(network: Emitted) -> None:
    found: list[dict[int, npt.NDArray[np.uint16]]] = []
    tables: dict[int, npt.NDArray[np.uint16]] = {}
    for kind, payload in network.packets:
        if kind in (TABLE, ADD_A, ADD_B):
            assert kind not in tables
            tables[kind] = payload
        if kind == LAYER:
            found.append(tables)
            tables = {}
    assert not tables
    for layer, packets in zip(network.layers, found, strict=True):
        assert (TABLE in packets) == (layer.table is not None)
        if layer.table is not None:
            codes = packets[TABLE].astype("<u2").view(np.int8)
            np.testing.assert_array_equal(codes, layer.table)
        assert ({ADD_A, ADD_B} <= packets.keys()) == (layer.add_tables is not None)
        if layer.add_tables is not None:
            for kind, table in ((ADD_A, layer.add_tables.a), (ADD_B, layer.add_tables.b)):
                entries = packets[kind].astype("<u2").view("<u4")
                assert [signed(int(entry), 24) for entry in entries] == table.tolist()
    assert any(layer.add_tables is not None for layer in network.layers)
    assert any(layer.table is not None for layer in network.layers)


def test_descriptors_hold_plan_and_places(network: Emitted) -> None:
    descriptors = payloads(network, LAYER)
    zipped = zip(network.layers, network.plans, descriptors, strict=True)
    residual_banks = set()
    for layer, plan, payload in zipped:
        entry = [int(value) for value in payload.astype("<u2").view("<u4")]
        assert len(entry) == 16
        source, target = network.places[layer.input], network.places[layer.output]
        steps = [(e & 0x3FFF, signed(e >> 14, 9), signed(e >> 23, 9)) for e in entry[:8]]
        wanted = [(step.address % 16384, step.p, step.o) for step in plan.deltas]
        start = plan.start
        assert steps == [*wanted, ((source.offset + start.address) % 16384, start.p, start.o)]
        counts = [entry[8] >> shift & 0xFF for shift in (0, 8, 16, 24)]
        counts += [entry[9] & 0xFFFF, entry[9] >> 16, entry[10] >> 16 & 0xFF]
        assert [count + 1 for count in counts] == list(plan.counts)
        assert signed(entry[10] >> 24, 8) == layer.pad_code
        bounds = entry[11] & 0x1FF, entry[11] >> 9 & 0x1FF, (entry[11] >> 18) + 1
        assert bounds == (plan.p_bound, plan.o_bound, plan.rows_last)
        writes = [word & 0x3FFF for word in entry[12:]]
        moves = plan.write_row, plan.write_position, plan.write_group
        assert writes == [target.offset, *(move % 16384 for move in moves)]
        assert signed(entry[12] >> 16, 8) == layer.zero_point
        assert signed(entry[12] >> 24, 8) == layer.low
        assert signed(entry[13] >> 16, 8) == layer.high
        residual = network.places[layer.residual] if layer.residual else None
        flags = [plan.broadcast, source.bank, target.bank, residual is not None]
        flags += [residual.bank if residual else 0, layer.table is not None]
        flags += [layer.zero_point_inside, plan.shared_weights]
        assert [entry[13] >> (24 + bit) & 1 for bit in range(8)] == [int(flag) for flag in flags]
        if residual:
            residual_banks.add(residual.bank == source.bank)
            assert (target.offset + (entry[10] & 0x3FFF)) % 16384 == residual.offset
    assert residual_banks == {True, False}


def test_weights_beyond_a_packet_are_split_and_follow_their_descriptor(
    rng: np.random.Generator,
) -> None:
    g = IntegerGraph(rng)
    emitted = emit(g.graph(g.conv(g.input(4000), 5)))
    kinds = [kind for kind, _ in emitted.packets]
    # 1,000 channel words of four weight words, 2,048 of those a packet.
    assert kinds == [LAYER, *[CONSTANTS, WEIGHTS, WEIGHTS] * 2, END]
    assert [payload.size for payload in payloads(emitted, WEIGHTS)] == [4096, 3904] * 2
    words = np.concatenate(payloads(emitted, WEIGHTS)).astype("<u2").view(np.int8)
    np.testing.assert_array_equal(words, emitted.plans[0].weights.reshape(-1))
