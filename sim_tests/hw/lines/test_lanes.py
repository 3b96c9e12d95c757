"""The lanes of a line against golden's requantization, float rule of Add, and tables."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.add_tables import solve_add_tables
from qcompile.compiler.golden.float_rules import add_table
from qcompile.compiler.ir import Int64Array
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.lanes import LaneSettings, LineLanes, TableWrites
from qcompile.hw.lines.requant import LARGEST_SHIFT
from qcompile.hw.program import FRACTION_BITS
from sim_tests.hw import xc7
from sim_tests.hw.clocked import bits_of
from sim_tests.hw.lines import wide
from sim_tests.hw.requant_values import by_golden
from sim_tests.hw.test_eltwise import OPERANDS, quantization

pytestmark = pytest.mark.cosim

ROWS = 1_500
PARTS = {"sums": 0, "residual": 8, "bias": 32, "shift": 6, "mantissa": 24, "word": 8, "writes": 27}
"""Bits of the parts that wide ports are cut into; those of `sums` are the accumulator's."""
CONFIGS = [
    LinesConfig(),
    LinesConfig(columns=16, lanes=2, acc_width=28),
    LinesConfig(columns=8, lanes=1),
    LinesConfig(columns=4, lanes=4, acc_width=20),
    LinesConfig(columns=8, lanes=4, adder=False),
]
Ports = dict[str, Int64Array]


@cache
def addition(number: int) -> tuple[Int64Array, list[tuple[int, int]]]:
    """Codes of all pairs of codes as the float rule has them, and the adder's entries for them."""
    wanted = add_table(*(quantization(pair) for pair in OPERANDS[number]), dtype="int8")
    tables = solve_add_tables(wanted)
    assert tables.differing.size == 0
    return wanted.astype(np.int64), list(zip(tables.a.tolist(), tables.b.tolist(), strict=True))


class Layer:
    """Constants, tables, and rows of sums, with the codes that they must become."""

    def __init__(
        self, config: LinesConfig, rng: np.random.Generator, *, residual: bool, table: bool
    ) -> None:
        self.config = config
        self.residual, self.table = residual and config.adder, table
        self.fraction = int(rng.integers(0, 2)) * FRACTION_BITS
        shape = (ROWS, config.columns)
        self.shift = rng.integers(20, min(40, LARGEST_SHIFT), shape)
        self.mantissa = rng.integers(2**23, 2**24, shape)
        half = 1 << (config.acc_width - 1)
        wanted = rng.normal(0, 90, shape) * 2.0**self.shift / self.mantissa
        total = np.clip(wanted, -(2**31) + 1, 2**31 - 1).astype(np.int64)
        self.sums = np.clip(total >> self.fraction, -half, half - 1)
        self.sums -= np.sign(self.sums) * rng.integers(0, 1000, shape)
        self.bias = total - (self.sums << self.fraction)
        self.others = rng.integers(-128, 128, shape)
        self.codes_of = rng.integers(-128, 128, 256)
        self.limits = (int(rng.integers(-128, 128)), -120, 125, bool(rng.integers(0, 2)))
        self.sum_of, self.entries = addition(int(rng.integers(len(OPERANDS))))

    def codes(self) -> Int64Array:
        """[rows, V]."""
        total = (self.sums << self.fraction) + self.bias
        flat = [array.reshape(-1) for array in (total, self.mantissa, self.shift)]
        codes = by_golden(flat[0], flat[1], flat[2], self.limits, fraction=self.fraction)
        codes = codes.reshape(total.shape)
        if self.residual:
            codes = self.sum_of[codes + 128, self.others + 128]
        return self.codes_of[codes + 128] if self.table else codes

    def settings(self) -> int:
        zero_point, low, high, inside = self.limits
        fields = {"zero_point": zero_point, "low": low, "high": high, "zero_point_inside": inside}
        flags = {"fraction": self.fraction > 0, "residual": self.residual, "table": self.table}
        return bits_of(LaneSettings, {**fields, **flags})

    def writes(self) -> list[int]:
        """A write a cycle, for all tables."""
        pairs = self.codes_of.reshape(-1, 2) & 255
        codes = [int(low) | int(high) << 8 for low, high in pairs]
        adds = [a & 0xFFFFFF | (b & 0xFFFFFF) << 24 for a, b in self.entries]
        return [
            *(
                bits_of(TableWrites, {"table": 1, "table_index": index, "table_data": word})
                for index, word in enumerate(codes)
            ),
            *(
                bits_of(TableWrites, {"add": 1, "add_index": index, "add_data": word})
                for index, word in enumerate(adds)
            ),
        ]


def drive(layer: Layer, unit: LineLanes, rng: np.random.Generator, chance: float) -> Ports:
    """Port values of every cycle; where nothing counts, anything."""
    config, steps = layer.config, unit.steps
    writing = layer.writes()
    active = rng.random(int(ROWS * steps / chance * 1.3) + 100) < chance
    place = len(writing) + np.flatnonzero(active)[: ROWS * steps]
    cycles = len(writing) + active.size + unit.LATENCY
    row, step = np.divmod(np.arange(ROWS * steps), steps)
    columns = np.arange(config.lanes) * steps + step[:, np.newaxis]

    def anything(bits: int, parts: int) -> Int64Array:
        return rng.integers(0, 1 << bits, (cycles, parts))

    ports: Ports = {}
    by_lane = (("sums", config.acc_width), ("bias", 32), ("shift", 6), ("mantissa", 24))
    for name, bits in by_lane:
        late = unit.MANTISSA_DELAY if name == "mantissa" else 0
        ports[name] = anything(bits, config.lanes)
        ports[name][place + late] = getattr(layer, name)[row[:, np.newaxis], columns]
    ports["residual"] = anything(8, config.columns)
    ports["residual"][place] = layer.others[row] & 255
    ports["valid"] = np.isin(np.arange(cycles), place).astype(np.int64)
    ports["step"] = rng.integers(0, steps, cycles)
    ports["step"][place] = step
    ports["settings"] = np.full(cycles, layer.settings())
    ports["writes"] = np.zeros((cycles, 3), np.int64)
    for cycle, write in enumerate(writing):
        ports["writes"][cycle] = [write >> 27 * part & (1 << 27) - 1 for part in range(3)]
    return ports


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"V{c.columns}-L{c.lanes}-{c.adder:d}")
@pytest.mark.parametrize("chance", [1.0, 0.6])
def test_rows_become_words(
    config: LinesConfig, chance: float, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    unit = LineLanes(config)
    kinds = [(False, False), (True, False), (False, True), (True, True)]
    layers = [Layer(config, rng, residual=r, table=t) for r, t in kinds]
    driven = [drive(layer, unit, rng, chance) for layer in layers]
    inputs = {name: np.concatenate([ports[name] for ports in driven]) for name in driven[0]}
    parts = {**PARTS, "sums": config.acc_width}
    out = wide.run_vectors(unit, inputs, parts, tmp_path, seed=seed)

    ends = inputs["valid"] * (inputs["step"] == unit.steps - 1)
    np.testing.assert_array_equal(out["word_valid"][unit.LATENCY :], ends[: -unit.LATENCY])
    words = out["word"][np.flatnonzero(out["word_valid"])]
    expected = np.concatenate([layer.codes() for layer in layers]) & 255
    np.testing.assert_array_equal(words, expected)
    if chance == 1.0:
        first = np.flatnonzero(out["word_valid"])[:ROWS]
        np.testing.assert_array_equal(np.diff(first), unit.steps)


@pytest.mark.parametrize(
    ("config", "luts", "block_rams"),
    [(LinesConfig(), 2200, 4), (LinesConfig(lanes=2, adder=False), 900, 0)],
    ids=["default", "small"],
)
def test_netlist_shares_memories(config: LinesConfig, luts: int, block_rams: int) -> None:
    netlist = xc7.synthesize(LineLanes(config))
    print("LineLanes:", netlist)
    assert netlist.multipliers == 2 * config.lanes
    assert netlist.block_rams <= block_rams
    assert netlist.luts <= luts
    assert netlist.depth <= 6
