"""emit_program: layers, plans and placements -> the program stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.ir import Int8Array
from qcompile.compiler.layers import Layer, stored_tensors
from qcompile.compiler.passes.allocate import Placement
from qcompile.compiler.passes.codebooks import Codebooks
from qcompile.compiler.passes.tile import room_parts
from qcompile.compiler.plan import Plan
from qcompile.hw import program
from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.layouts import BANK_ADDRESS_BITS, WORD_CHANNELS, pack_tensor
from qcompile.hw.program import Flag, LayerDescriptor, PacketKind, Step

COLUMNS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The stream's words, and for the cycle model the index after each of its packets."""

    words: list[int]
    packet_ends: list[tuple[PacketKind, int]]

    def packets(self) -> Iterator[tuple[PacketKind, int, int]]:
        """Kind of every packet, index of its header, index after it."""
        begin = 0
        for kind, end in self.packet_ends:
            yield kind, begin, end
            begin = end


class ProgramStream:
    """A program that grows packet by packet."""

    def __init__(self) -> None:
        self.words: list[int] = []
        self.packet_ends: list[tuple[PacketKind, int]] = []

    def add(self, packet: Sequence[int]) -> None:
        """One packet, header and payload."""
        self.words += packet
        self.packet_ends.append((PacketKind(packet[0] >> 12), len(self.words)))

    def program(self) -> Program:
        """What was added."""
        return Program(words=self.words, packet_ends=self.packet_ends)


def emit_program(
    layers: Sequence[Layer],
    plans: Sequence[Plan],
    places: Mapping[str, Placement],
    config: AcceleratorConfig,
) -> Program:
    """Constant tensors; then descriptor, constants and weights group by group, layer after layer.

    Tables wait until the layer before has ended, so the first group goes in front of them where
    the weight FIFO holds it. A table or codebook that the hardware holds is not sent again.
    """
    stream = ProgramStream()
    codebooks = Codebooks()
    for name, codes in stored_tensors(layers).items():
        _store(stream, places[name].address, codes)
    loaded: dict[int, list[int]] = {}  # by header: what each table of the hardware holds
    for layer, plan in zip(layers, plans, strict=True):
        tables = [table for table in _tables(layer) if loaded.get(table[0]) != table]
        loaded |= {table[0]: table for table in tables}
        early = 1 if tables and plan.group_parts <= room_parts(config) else 0
        if layer.weight_source is not None:
            early = 0
        number = None
        if plan.codebook is not None:
            number, codebook = codebooks.use(plan.codebook)
            if codebook:
                stream.add(codebook)
        for group in range(early):
            _group(stream, layer, plan, group, config)
        for table in tables:
            stream.add(table)
        if layer.weight_source is not None:
            source = places[layer.weight_source]
            stream.add(_pause(loaded))
            stream.add(program.recall_packet(source.address, source.words))
        layer_packet = descriptor(layer, plan, places, number).words()
        stream.add(program.packet(PacketKind.LAYER, layer_packet))
        for group in range(early, plan.groups):
            _group(stream, layer, plan, group, config)
    stream.add(program.end_packet(stream.words))
    return stream.program()


def _store(stream: ProgramStream, address: int, codes: Int8Array) -> None:
    words = pack_tensor(codes).view(np.int8).reshape(-1, COLUMNS)
    for begin in range(0, len(words), program.MAX_STORE_WORDS):
        part = words[begin : begin + program.MAX_STORE_WORDS]
        stream.add(program.store_packet(address + begin, part))


def _pause(loaded: Mapping[int, Sequence[int]]) -> list[int]:
    """The first word of the table once more: like all tables it waits until no layer runs."""
    table = next((words for words in loaded.values() if words[0] >> 12 == PacketKind.TABLE), None)
    return program.packet(PacketKind.TABLE, [table[1] if table else 0])


def _tables(layer: Layer) -> list[list[int]]:
    tables = []
    if layer.add_tables is not None:
        tables.append(program.add_table_packet(PacketKind.ADD_TABLE_A, layer.add_tables.a))
        tables.append(program.add_table_packet(PacketKind.ADD_TABLE_B, layer.add_tables.b))
    if layer.pairs is not None:
        tables.append(program.pair_table_packet(layer.pairs))
    if layer.table is not None:
        tables.append(program.table_packet(layer.table))
    return tables


def _group(
    stream: ProgramStream, layer: Layer, plan: Plan, group: int, config: AcceleratorConfig
) -> None:
    channels = slice(group * COLUMNS, (group + 1) * COLUMNS)

    def padded(values: ir.Int64Array, fill: int) -> list[int]:
        part: list[int] = values[channels].tolist()
        return part + [fill] * (COLUMNS - len(part))

    stream.add(_constants(layer, config, padded))
    if layer.weight_source is not None or (plan.shared_weights and group > 0):
        return
    words = plan.weights[group]
    limit = program.MAX_PAYLOAD_WORDS // plan.word_parts
    for begin in range(0, len(words), limit):
        part = words[begin : begin + limit]
        if plan.codebook is None:
            stream.add(program.weight_packets(part))
        else:
            stream.add(program.packed_weight_packets(part, plan.codebook))


def _constants(
    layer: Layer, config: AcceleratorConfig, padded: Callable[[ir.Int64Array, int], list[int]]
) -> list[int]:
    """The packet of a channel group's constants; `padded` takes the group's and fills it up."""
    halves = (0, 1) * (COLUMNS // 2) if layer.halves else (0,) * COLUMNS
    bias, words = padded(layer.bias, 0), config.constant_words
    if layer.limits is None:
        mantissa, shift = padded(layer.mantissa, 0), padded(layer.shift, int(layer.shift.min()))
        return program.constants_packet(bias, mantissa, shift, words=words, halves=halves)
    limits = [padded(-of_class, -(1 << 62)) for of_class in layer.limits]
    each = list(zip(*limits, strict=True))
    return program.log_constants_packet(
        bias, each, limit_bits=config.log.limit_bits, words=words, halves=halves
    )


def descriptor(
    layer: Layer, plan: Plan, places: Mapping[str, Placement], codebook: int | None
) -> LayerDescriptor:
    """The layer's descriptor with absolute addresses, and the number of its codebook."""
    source, target = places[layer.input], places[layer.output]
    flags = set()
    if plan.broadcast:
        flags.add(Flag.BROADCAST)
    if plan.shared_weights:
        flags.add(Flag.SHARED_WEIGHTS)
    if source.bank:
        flags.add(Flag.READ_BANK)
    if target.bank:
        flags.add(Flag.WRITE_BANK)
    if layer.table is not None:
        flags.add(Flag.TABLE)
    if layer.zero_point_inside:
        flags.add(Flag.ZERO_POINT_INSIDE)
    if layer.fraction:
        flags.add(Flag.FRACTION)
    residual_offset = 0
    if layer.residual is not None:
        flags.add(Flag.RESIDUAL)
        residual = places[layer.residual]
        if residual.bank:
            flags.add(Flag.RESIDUAL_BANK)
        height, width = residual.shape[1:]
        first = residual.offset + layer.residual_channel // WORD_CHANNELS * height * width
        residual_offset = (first - target.offset) % (1 << BANK_ADDRESS_BITS)
    start = plan.start
    return LayerDescriptor(
        counts=plan.counts,
        deltas=plan.deltas,
        start=Step(address=source.offset + start.address, p=start.p, o=start.o),
        p_bound=plan.p_bound,
        o_bound=plan.o_bound,
        pad_code=layer.pad_code,
        rows_last=plan.rows_last,
        write_start=target.offset + plan.write_start,
        write_row=plan.write_row,
        write_position=plan.write_position,
        write_group=plan.write_group,
        residual_offset=residual_offset,
        zero_point=layer.zero_point,
        low=layer.low,
        high=layer.high,
        flags=frozenset(flags),
        codebook=codebook,
    )
