"""The lanes of a line: sums of products in, finished memory words out."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.delay import delay
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.requant import RequantDsp
from qcompile.hw.lines.tables import MAX_SHARING, CodeTable, SharedAdd
from qcompile.hw.program import ADD_ENTRY_BITS
from qcompile.hw.requantizer import MANTISSA_BITS, SHIFT_BITS

BIAS_BITS = 32

LaneSettings = data.StructLayout(
    {
        "zero_point": signed(8),
        "low": signed(8),
        "high": signed(8),
        "zero_point_inside": 1,
        "fraction": 1,
        "residual": 1,
        "table": 1,
    }
)
"""What a layer's descriptor says to the lanes; the same for all of them."""

TableWrites = data.StructLayout(
    {
        "table": 1,
        "table_index": 7,
        "table_data": 16,
        "add": 1,
        "add_index": 8,
        "add_data": 2 * ADD_ENTRY_BITS,
    }
)
"""A write to all lanes' tables, as `CodeTable` and `SharedAdd` take it."""


def lanes_latency(config: LinesConfig) -> int:
    """Cycles from a row's last step to its word."""
    adding = SharedAdd.LATENCY if config.adder else 0
    return RequantDsp.LATENCY + adding + CodeTable.LATENCY + 1


class LineLanes(wiring.Component):
    """One line's lanes: requantization, residual addition, table, packing.

    In a *step* lane l takes the sum of column l * V/L + step of a row; the row's steps come in
    order, one a cycle, with any gaps, and rows follow each other in any way. `word_valid` comes
    `LATENCY` cycles after a row's last step, with its word for this cycle; LATENCY + V/L - 1 after
    its first step where steps do not pause. No backpressure. Reset drops the rows that are under
    way.

    Constants are the same for all lines, so what delays them stands outside: those of a step come
    with it, but `mantissa` comes `MANTISSA_DELAY` cycles after it. `settings` and tables stand
    still from a layer's first step to its last word.

    Attributes
    ----------
    LATENCY : int
    MANTISSA_DELAY : int
    valid : 1, in
        The step counts; otherwise nothing else of it does.
    step : log2(V/L), in
    sums : acc_width x lanes, in
        As `TileReader.sums`, lane 0 lowest, signed.
    residual : 8V, in
        The row's residual word, at each of its steps; looked at with `settings.residual`, and only
        where the configuration has an adder.
    bias, shift, mantissa : 32, 6, 24 x lanes, in
    settings : LaneSettings, in
    writes : TableWrites, in
    word : 8V, out
        Byte c is the code of column c.
    word_valid : 1, out
    """

    MANTISSA_DELAY = RequantDsp.MANTISSA_DELAY

    valid: Signal
    step: Signal
    sums: Signal
    residual: Signal
    bias: Signal
    shift: Signal
    mantissa: Signal
    settings: Any
    writes: Any
    word: Signal
    word_valid: Signal

    def __init__(self, config: LinesConfig) -> None:
        self.config = config
        self.steps = config.columns // config.lanes
        self.LATENCY = lanes_latency(config)
        super().__init__(
            {
                "valid": In(1),
                "step": In(max(1, (self.steps - 1).bit_length())),
                "sums": In(config.acc_width * config.lanes),
                "residual": In(config.word_bits),
                "bias": In(BIAS_BITS * config.lanes),
                "shift": In(SHIFT_BITS * config.lanes),
                "mantissa": In(MANTISSA_BITS * config.lanes),
                "settings": In(LaneSettings),
                "writes": In(TableWrites),
                "word": Out(config.word_bits),
                "word_valid": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        travelling = Signal(self.LATENCY)
        ends = self.valid & (self.step == self.steps - 1)
        m.d.sync += travelling.eq(Cat(ends, travelling[:-1]))
        m.d.comb += self.word_valid.eq(travelling[-1])
        codes = self._table(m, self._add(m, self._requantize(m)))
        # Last cycle: the newest codes enter at the top, a row's first ones arrive at the bottom.
        # Between two words that moves on with `valid` alone.
        moves = Signal(self.LATENCY - 1)
        m.d.sync += moves.eq(Cat(self.valid, moves[:-1]))
        for lane in range(self.config.lanes):
            part = self.word.word_select(lane, 8 * self.steps)
            with m.If(moves[-1]):
                m.d.sync += part.eq(Cat(part, codes.word_select(lane, 8))[8:])
        return m

    def _requantize(self, m: Module) -> Value:
        """Codes of all lanes."""
        settings = self.settings
        codes = []
        for lane in range(self.config.lanes):
            unit = RequantDsp(self.config.acc_width, late=True)
            m.submodules[f"requant_{lane}"] = unit
            m.d.comb += [
                unit.valid.eq(self.valid),
                unit.acc.eq(self.sums.word_select(lane, self.config.acc_width)),
                unit.bias.eq(self.bias.word_select(lane, BIAS_BITS)),
                unit.mantissa.eq(self.mantissa.word_select(lane, MANTISSA_BITS)),
                unit.shift.eq(self.shift.word_select(lane, SHIFT_BITS)),
                unit.zero_point.eq(settings.zero_point),
                unit.low.eq(settings.low),
                unit.high.eq(settings.high),
                unit.zero_point_inside.eq(settings.zero_point_inside),
                unit.fraction.eq(settings.fraction),
            ]
            codes.append(unit.code)
        return Cat(codes)

    def _add(self, m: Module, codes: Value) -> Value:
        """Codes with the residual operand's added, which waits for them."""
        if not self.config.adder:
            return codes
        steps = self.steps
        others: Value = Cat(
            self.residual.word_select(lane * steps + self.step, 8)
            if steps > 1
            else self.residual.word_select(lane, 8)
            for lane in range(self.config.lanes)
        )
        others = delay(m, others, RequantDsp.LATENCY, "waiting")
        results = []
        for name, lanes in self._sharing():
            adder = SharedAdd(len(lanes))
            m.submodules[f"add_{name}"] = adder
            m.d.comb += [
                adder.code_a.eq(Cat(codes.word_select(lane, 8) for lane in lanes)),
                adder.code_b.eq(Cat(others.word_select(lane, 8) for lane in lanes)),
                adder.enable.eq(self.settings.residual),
                adder.write.eq(self.writes.add),
                adder.write_index.eq(self.writes.add_index),
                adder.write_data.eq(self.writes.add_data),
            ]
            results.append(adder.code)
        return Cat(results)

    def _table(self, m: Module, codes: Value) -> Value:
        """Codes behind the activation table."""
        results = []
        for lane in range(self.config.lanes):
            table = CodeTable()
            m.submodules[f"table_{lane}"] = table
            m.d.comb += [
                table.i.eq(codes.word_select(lane, 8)),
                table.enable.eq(self.settings.table),
                table.write.eq(self.writes.table),
                table.write_index.eq(self.writes.table_index),
                table.write_data.eq(self.writes.table_data),
            ]
            results.append(table.o)
        return Cat(results)

    def _sharing(self) -> list[tuple[int, range]]:
        """Lanes that share memories, numbered."""
        every = range(self.config.lanes)
        return [
            (number, every[first : first + MAX_SHARING])
            for number, first in enumerate(every[::MAX_SHARING])
        ]
