"""The systolic array against sums of products, in both modes, tile after tile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.compiler.ir import Int8Array, Int64Array
from qcompile.hw.array import SystolicArray
from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.feeder import FeedTags
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim

ROWS = 4
ACC_WIDTH = 24
VALID, FIRST, LAST = 1, 2, 4
TILES = 30


class ArrayWithColumns(wiring.Component):  # type: ignore[type-arg]  # generic in its stub only
    """The array with its wide output as one port a column."""

    def __init__(self, vendor: Any) -> None:
        self.array = SystolicArray(AcceleratorConfig(acc_width=ACC_WIDTH, vendor=vendor))
        super().__init__(
            {
                "word": In(32),
                "load": In(4),
                "tags": In(FeedTags),
                "weights": In(32),
                "o_valid": Out(1),
                **{f"o{c}": Out(ACC_WIDTH) for c in range(4)},
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
            *(getattr(this, f"o{c}").eq(array.o.word_select(c, ACC_WIDTH)) for c in range(4)),
        ]
        return m


class Stimulus:
    """Port values of every cycle; between passes words and weights are random."""

    def __init__(self, rng: np.random.Generator, cycles: int) -> None:
        self.rng = rng
        self.now = 1
        self.ports = {
            "word": rng.integers(0, 1 << 32, cycles),
            "weights": rng.integers(0, 1 << 32, cycles),
            "load": np.zeros(cycles, np.int64),
            "tags": np.zeros(cycles, np.int64),
        }
        self.sums: list[Int64Array] = []
        self.ends: list[int] = []

    def codes(self, count: int) -> Int8Array:
        """Words of four codes; extremes are frequent."""
        codes = self.rng.integers(-128, 128, (count, 4))
        extreme = self.rng.choice([-128, 127], codes.shape)
        return np.where(self.rng.random(codes.shape) < 0.2, extreme, codes).astype(np.int8)

    def tile(self, *, broadcast: bool) -> None:
        """One tile of some passes."""
        sums = np.zeros((ROWS, 4), np.int64)
        passes = int(self.rng.integers(1, 5))
        reads = int(self.rng.integers(4, 9)) if broadcast else ROWS
        for number in range(passes):
            words, weights = self.codes(reads), self.codes(reads)
            if broadcast:
                weights[reads - ROWS + 1 :] = 0
                for row in range(ROWS):
                    taps = reads - ROWS + 1
                    products = words[row : row + taps].astype(np.int64) * weights[:taps]
                    sums[row] += products.sum(axis=0)
            else:
                for row, step, column in np.ndindex(ROWS, ROWS, 4):
                    code = int(words[row, (column + step) % 4])
                    sums[row, column] += code * int(weights[step, column])
            now = slice(self.now, self.now + reads)
            # A weight comes one cycle after its tags and the load of its word.
            self.ports["word"][now] = words.view("<u4")[:, 0]
            self.ports["load"][now] = 0b1111 if broadcast else 1 << np.arange(ROWS)
            self.ports["tags"][now] = VALID
            self.ports["weights"][self.now + 1 : self.now + 1 + reads] = weights.view("<u4")[:, 0]
            if number == 0:
                self.ports["tags"][self.now] |= FIRST
            self.now += reads
            if number == passes - 1:
                self.ports["tags"][self.now - 1] |= LAST
                self.ends.append(self.now)  # the cycle of the last weight
            # A pause lets a broadcast pass's rows see unrelated words: their weights are zero.
            self.now += int(self.rng.choice([0, 0, 0, 1, 4]))
        self.sums.append(sums)


@pytest.mark.parametrize("vendor", ["plain", "ice40", "ice40hx"])
def test_rows_leave_in_order_with_the_sums_of_their_products(
    vendor: str, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    stimulus = Stimulus(rng, 4000)
    for _ in range(TILES):
        broadcast = bool(rng.integers(0, 2))
        stimulus.tile(broadcast=broadcast)
        stimulus.tile(broadcast=broadcast)
        stimulus.now += ROWS  # modes change between layers only: the array is empty then
    sources = [cosim.vendor_models()] if vendor == "ice40" else []
    out = cosim.run_vectors(
        ArrayWithColumns(vendor), stimulus.ports, tmp_path, seed=seed, sources=sources
    )
    # The rows of a tile leave two to five cycles after its last weight.
    cycles = [end + 2 + row for end in stimulus.ends for row in range(ROWS)]
    assert np.flatnonzero(out["o_valid"]).tolist() == cycles
    found = np.stack([out[f"o{c}"][cycles] for c in range(4)], axis=1)
    found -= found >> (ACC_WIDTH - 1) << ACC_WIDTH
    np.testing.assert_array_equal(found, np.concatenate(stimulus.sums))
