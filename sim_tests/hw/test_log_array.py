"""The shift element for every weight and code, and the log-domain array, against golden's sums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.compiler.golden.log_domain import class_sums
from qcompile.compiler.ir import Int64Array
from qcompile.hw.feeder import FeedTags
from qcompile.hw.log.array import LogArray
from qcompile.hw.log.config import LogArrayConfig
from qcompile.hw.log.shift_pe import ShiftPe
from sim_tests.hw import cosim

full = pytest.mark.full
CONFIGS = [
    LogArrayConfig(rows=4, levels=8, step=16, acc_width=24),
    LogArrayConfig(rows=4, levels=16, step=8, acc_width=24),
    pytest.param(LogArrayConfig(rows=6, levels=16, step=16, acc_width=32), marks=full),
    pytest.param(LogArrayConfig(rows=5, levels=32, step=8, acc_width=31), marks=full),
]
NAMES = ["8-16-4", "16-8-4", "16-16-6", "32-8-5"]
VALID, FIRST, LAST = 1, 2, 4
TILES = 20


def split(packed: Int64Array, config: LogArrayConfig) -> Int64Array:
    """Sums of a port of all classes: [classes, cycles]."""
    width = config.acc_width
    parts: Int64Array = np.stack([packed >> width * index for index in range(config.classes)])
    parts &= (1 << width) - 1
    parts -= parts >> (width - 1) << width
    return parts


@pytest.mark.cosim
@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_element_shifts_every_weight_by_every_code(
    config: LogArrayConfig, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    weights, codes = (
        part.ravel()
        for part in np.meshgrid(np.arange(-128, 128), np.arange(config.levels), indexing="ij")
    )
    order = rng.permutation(len(weights))
    # Every pair alone, then every pair in tiles with pauses.
    weights = np.concatenate([weights, weights[order]])
    codes = np.concatenate([codes, codes[order]])
    count = len(weights)
    valid = np.where(np.arange(count) < count // 2, 1, rng.integers(0, 2, count))
    first = np.where(np.arange(count) < count // 2, 1, rng.random(count) < 0.1).astype(np.int64)
    first[count // 2] = valid[count // 2] = 1
    inputs = {
        "weight": np.append(weights, [0, 0]),
        "code": np.append(codes, [0, 0]),
        "valid": np.concatenate([[0], valid, [0]]),
        "first": np.concatenate([[0], first, [0]]),
    }
    out = cosim.run_vectors(ShiftPe(config), inputs, tmp_path, seed=seed)
    products = class_sums(weights[:, None], codes[:, None], config.step)
    expected = np.zeros_like(products)
    held = np.zeros(config.classes, np.int64)
    for i in range(count):
        if valid[i]:
            held = products[:, i] + (0 if first[i] else held)
        expected[:, i] = held
    assert np.any(expected != products)
    np.testing.assert_array_equal(split(out["sums"][2:], config), expected)


class ArrayWithColumns(wiring.Component):  # type: ignore[type-arg]  # generic in its stub only
    """The array with its wide output as one port a column."""

    def __init__(self, config: LogArrayConfig) -> None:
        self.array = LogArray(config)
        self.config = config
        super().__init__(
            {
                "word": In(config.code_bits * config.columns),
                "load": In(config.rows),
                "tags": In(FeedTags),
                "weights": In(8 * config.columns),
                "o_valid": Out(1),
                **{f"o{c}": Out(config.sum_bits) for c in range(config.columns)},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.array = array = self.array
        this: Any = self
        m.d.comb += [
            *(getattr(array, name).eq(getattr(this, name)) for name in ("word", "load", "weights")),
            array.tags.eq(this.tags),
            this.o_valid.eq(array.o_valid),
            *(
                getattr(this, f"o{c}").eq(array.o.word_select(c, self.config.sum_bits))
                for c in range(self.config.columns)
            ),
        ]
        return m


class Stimulus:
    """Port values of every cycle; between passes words and weights are random."""

    def __init__(self, config: LogArrayConfig, rng: np.random.Generator, cycles: int) -> None:
        self.config = config
        self.rng = rng
        self.now = 1
        self.ports = {
            "word": rng.integers(0, 1 << config.code_bits * config.columns, cycles),
            "weights": rng.integers(0, 1 << 8 * config.columns, cycles),
            "load": np.zeros(cycles, np.int64),
            "tags": np.zeros(cycles, np.int64),
        }
        self.sums: list[Int64Array] = []
        self.ends: list[int] = []

    def tile(self, *, broadcast: bool) -> None:
        """One tile of some passes: `rows` reads for one row each, or more for all rows."""
        rows, columns = self.config.rows, self.config.columns
        sums = np.zeros((rows, self.config.classes, columns), np.int64)
        passes = int(self.rng.integers(1, 5))
        reads = int(self.rng.integers(rows, 2 * rows)) if broadcast else rows
        for number in range(passes):
            words = self.rng.integers(0, self.config.levels, (reads, columns))
            weights = self.rng.choice([-128, -127, -1, 0, 1, 127, *range(-50, 50)], words.shape)
            if broadcast:
                weights[reads - rows + 1 :] = 0
            for row, step, column in np.ndindex(rows, reads, columns):
                if broadcast and row + step >= reads:
                    continue
                read, channel = (row + step, column) if broadcast else (row, column + step)
                code = words[read, channel % columns]
                pair = (np.array([weights[step, column]]), np.array([code]))
                sums[row, :, column] += class_sums(*pair, self.config.step)
            now = slice(self.now, self.now + reads)
            # A weight comes one cycle after its tags and the load of its word.
            self.ports["word"][now] = words @ (1 << self.config.code_bits * np.arange(columns))
            self.ports["load"][now] = (1 << rows) - 1 if broadcast else 1 << np.arange(rows)
            self.ports["tags"][now] = VALID
            later = slice(self.now + 1, self.now + 1 + reads)
            self.ports["weights"][later] = (weights & 255) @ (1 << 8 * np.arange(columns))
            if number == 0:
                self.ports["tags"][self.now] |= FIRST
            self.now += reads
            if number == passes - 1:
                self.ports["tags"][self.now - 1] |= LAST
                self.ends.append(self.now)  # the cycle of the last weight
            self.now += int(self.rng.choice([0, 0, 0, 1, 4]))
        self.sums.append(sums)


@pytest.mark.cosim
@pytest.mark.parametrize("config", CONFIGS, ids=NAMES)
def test_rows_leave_in_order_with_the_sums_of_their_products(
    config: LogArrayConfig, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    stimulus = Stimulus(config, rng, 3000)
    for _ in range(TILES):
        broadcast = bool(rng.integers(0, 2))
        stimulus.tile(broadcast=broadcast)
        stimulus.tile(broadcast=broadcast)
        stimulus.now += config.rows  # modes change between layers only: the array is empty then
    out = cosim.run_vectors(ArrayWithColumns(config), stimulus.ports, tmp_path, seed=seed)
    cycles = [end + 2 + row for end in stimulus.ends for row in range(config.rows)]
    assert np.flatnonzero(out["o_valid"]).tolist() == cycles
    found = np.stack(
        [split(out[f"o{c}"][cycles], config) for c in range(config.columns)], axis=-1
    ).swapaxes(0, 1)
    np.testing.assert_array_equal(found, np.concatenate(stimulus.sums))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rows": 1}, r"^rows and columns must be at least 2 and 1, not 1 and 4$"),
        ({"levels": 12}, r"^levels must be one of \(8, 16, 32\), not 12$"),
        ({"step": 4}, r"^step must be one of \(8, 16\), not 4$"),
        ({"acc_width": 14}, r"^acc_width must be more than a product's 14 bits, not 14$"),
    ],
)
def test_sizes_that_no_array_has_are_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogArrayConfig(**fields)
