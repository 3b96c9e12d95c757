"""Layers, line plans and placements -> program words and the weight memory's contents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from qcompile.compiler.ir import Int8Array
from qcompile.compiler.layers import Layer
from qcompile.compiler.lines.nests import pitch
from qcompile.compiler.lines.plan import LinePlan
from qcompile.compiler.lines.resident import ResidentWeights, weight_packets
from qcompile.compiler.lines.weight_ring import WeightRing
from qcompile.compiler.passes.allocate import Placement
from qcompile.hw.lines import program
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.program import Flag, LayerDescriptor, PacketKind
from qcompile.hw.program import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesProgram:
    """What the memories of an array of lines hold when it starts.

    Attributes
    ----------
    words : list of int
        64-bit words of the program memory.
    weights : int8 [words, V]
        The weight memory, from its first word on; none where weights come with the program.
    load : list of int
        Of a program that runs once before: it brings weights that stay; empty where none do.
    """

    words: list[int]
    weights: Int8Array
    load: list[int] = field(default_factory=list)


def emit_program(
    layers: Sequence[Layer],
    plans: Sequence[LinePlan],
    places: Mapping[str, Placement],
    config: LinesConfig,
    *,
    first_weight: int = 0,
    resident_rows: int = 0,
) -> LinesProgram:
    """Per layer: its weights where they come with the program, the tables that change, the
    descriptor, the constants of all its channels.

    `first_weight`: the number of the first word of weights that stand in the memory; it begins a
    row. `resident_rows`: of the memory, for weights that stay though the others come with the
    program.
    """
    words: list[int] = []
    loaded: dict[PacketKind, list[int]] = {}
    memory: _Streamed | _Standing = _Standing(config, first_weight)
    if config.streams:
        memory = _Streamed(config, plans, resident_rows)
    for layer, plan in zip(layers, plans, strict=True):
        first, packets = memory.place(layer, plan)
        words += packets
        for kind, packet in _tables(layer):
            if loaded.get(kind) != packet:
                loaded[kind] = packet
                words += packet
        fields = descriptor(layer, plan, places, config, first).words()
        words += program.packet(PacketKind.LAYER, fields)
        words += _constants(layer, config)
    words += program.packet(PacketKind.END, [0])
    return LinesProgram(words=words, weights=memory.contents, load=memory.load)


def _kept(plan: LinePlan, config: LinesConfig) -> Int8Array:
    """The words of a layer's weights in their order."""
    kept = plan.weights[:1] if plan.shared_weights else plan.weights
    return kept.reshape(-1, config.columns)


class _Standing:
    """Weights that stand in the memory from the start, one layer's after the other's; where lines
    have weights of their own, from a row on."""

    def __init__(self, config: LinesConfig, first: int) -> None:
        self.config = config
        self.first = first
        self.contents = np.zeros((0, config.columns), np.int8)
        self.load: list[int] = []

    def place(self, layer: Layer, plan: LinePlan) -> tuple[int, list[int]]:
        """A layer's first word, and no packets."""
        gap = -len(self.contents) % self.config.lines if plan.own else 0
        between = np.zeros((gap, self.config.columns), np.int8)
        first = len(self.contents) + gap
        self.contents = np.concatenate([self.contents, between, _kept(plan, self.config)])
        return self.first + first, []


class _Streamed:
    """Weights that come with the program, but for those that stay."""

    def __init__(self, config: LinesConfig, plans: Sequence[LinePlan], resident_rows: int) -> None:
        self.config = config
        self.ring = WeightRing(replace(config, weight_rows=config.weight_rows - resident_rows))
        kept = [_kept(plan, config) for plan in plans]
        self.residents = ResidentWeights(config, kept, resident_rows)
        self.contents = np.zeros((0, config.columns), np.int8)
        self.load = self.residents.load

    def place(self, layer: Layer, plan: LinePlan) -> tuple[int, list[int]]:
        """A layer's first word, and the packets that bring it and what follows."""
        kept = _kept(plan, self.config)
        first = self.residents.first(kept)
        if first is not None:
            self.ring.skip()
            return first, []
        found = self.ring.place(kept, layer.name)
        if not found.comes:
            return found.first, []
        return found.first, [*weight_packets(self.config, found.first, kept, waits=found.waits)]


def _tables(layer: Layer) -> list[tuple[PacketKind, list[int]]]:
    found = []
    if layer.add_tables is not None:
        a, b = layer.add_tables.a.tolist(), layer.add_tables.b.tolist()
        found.append((PacketKind.ADD_TABLES, program.add_tables_packet(a, b)))
    if layer.table is not None:
        found.append((PacketKind.TABLE, program.table_packet(layer.table)))
    return found


def _constants(layer: Layer, config: LinesConfig) -> list[int]:
    """Packets of V channels each; channels behind the last one are never written."""
    words: list[int] = []
    padding = -len(layer.bias) % config.columns
    bias, mantissa = (np.pad(x, (0, padding)) for x in (layer.bias, layer.mantissa))
    shift = np.pad(layer.shift, (0, padding), constant_values=int(layer.shift.min()))
    for begin in range(0, len(bias), config.columns):
        part = slice(begin, begin + config.columns)
        words += program.constants_packet(
            bias[part].tolist(), mantissa[part].tolist(), shift[part].tolist()
        )
    return words


def descriptor(
    layer: Layer,
    plan: LinePlan,
    places: Mapping[str, Placement],
    config: LinesConfig,
    weights: int,
) -> LayerDescriptor:
    """The layer's descriptor with absolute addresses; `weights` is its first weight word."""
    source, target = places[layer.input], places[layer.output]
    residual_offset = 0
    if layer.residual is not None:
        residual = places[layer.residual]
        size = residual.shape[1] * pitch(residual.shape[2])
        first = residual.offset + layer.residual_channel // config.columns * size
        residual_offset = first - target.offset
    start = plan.start
    return LayerDescriptor(
        counts=plan.counts,
        deltas=plan.deltas,
        start=Step(address=source.offset + start.address, p=start.p, o=start.o),
        line_address=plan.line_address,
        line_o=plan.line_o,
        p_bound=plan.p_bound,
        o_bound=plan.o_bound,
        pad_code=layer.pad_code,
        products=plan.products,
        turns=plan.turns,
        pass_cycles=plan.pass_cycles,
        tile_rows=plan.tile_rows,
        rows_last=plan.rows_last,
        lines_last=plan.lines_last,
        weights=config.weight_address(weights),
        write_start=target.offset + plan.write_start,
        write_line=plan.write_line,
        write_row=plan.write_row,
        write_position=plan.write_position,
        write_group=plan.write_group,
        residual_offset=residual_offset,
        zero_point=layer.zero_point,
        low=layer.low,
        high=layer.high,
        flags=_flags(layer, plan, places),
    )


def _flags(layer: Layer, plan: LinePlan, places: Mapping[str, Placement]) -> frozenset[Flag]:
    """Those that are up."""
    flags = {
        Flag.WINDOW: plan.kind == "window",
        Flag.OWN: plan.own,
        Flag.APART: plan.apart,
        Flag.FLAT: plan.flat,
        Flag.READ_SET: places[layer.input].bank == 1,
        Flag.WRITE_SET: places[layer.output].bank == 1,
        Flag.RESIDUAL: layer.residual is not None,
        Flag.RESIDUAL_SET: layer.residual is not None and places[layer.residual].bank == 1,
        Flag.TABLE: layer.table is not None,
        Flag.ZERO_POINT_INSIDE: layer.zero_point_inside,
        Flag.SHARED_WEIGHTS: plan.shared_weights,
        Flag.FRACTION: layer.fraction,
        Flag.SINGLE_WRITES: plan.single_writes,
        Flag.READ_TURNED: plan.read_turned,
        Flag.WRITE_TURNED: plan.write_turned,
    }
    return frozenset(flag for flag, up in flags.items() if up)
