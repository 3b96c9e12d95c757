# amaranth: UnusedElaboratable=no
"""Drain and writer of the array of lines against rows walked in Python, cycle by cycle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.registers import LayerRegisters
from qcompile.hw.lines.tile_drain import LinesWriter, TileDrain
from sim_tests.hw import cosim
from sim_tests.hw.lines.residual_bench import Shape
from sim_tests.hw.lines.tile_drain_bench import tiles_of

DRAINED = ("active", "row", "step", "lines", "group_done", "row_done", "tile_done", "tile_cycles")
WRITTEN = (
    *("write", "address", "word", "upper_write", "upper_address", "upper_word"),
    "layer_done",
)


class DrainAndWriter(wiring.Component):  # type: ignore[type-arg]  # generic in its stub only
    """Both, with lanes between them that delay a row's slot by `latency` cycles."""

    def __init__(self, config: LinesConfig, latency: int) -> None:
        self.drain, self.writer = TileDrain(config), LinesWriter(config)
        self.latency = latency
        members = {
            name: part.signature.members[name]
            for part, names in ((self.drain, DRAINED), (self.writer, WRITTEN))
            for name in names
        }
        inputs = {"registers": In(LayerRegisters), "begin": In(1), "captured": In(1)}
        words = {"words": In(config.word_bits * config.lines)}
        super().__init__(
            {**inputs, **words, **{name: Out(members[name].shape) for name in members}}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        own: Any = self
        m.submodules.drain, m.submodules.writer = self.drain, self.writer
        slot = self.drain.slot.as_value()
        for cycle in range(self.latency):
            later = Signal(len(slot), name=f"slot_{cycle}")
            m.d.sync += later.eq(slot)
            slot = later
        for part, names in ((self.drain, DRAINED), (self.writer, WRITTEN)):
            m.d.comb += [part.registers.eq(own.registers), part.begin.eq(own.begin)]
            m.d.comb += [getattr(self, name).eq(getattr(part, name)) for name in names]
        m.d.comb += [
            self.drain.captured.eq(own.captured),
            self.writer.slot.as_value().eq(slot),
            self.writer.words.eq(own.words),
        ]
        return m


@pytest.mark.cosim
@pytest.mark.parametrize(
    ("config", "latency"),
    [
        (LinesConfig(lines=8, columns=16, lanes=4), 5),
        (LinesConfig(lines=3, columns=8, lanes=2), 3),
        (LinesConfig(lines=2, columns=4, lanes=4), 1),
        (LinesConfig(lines=1, columns=4, lanes=1), 2),
    ],
    ids=["8 lines", "3 lines", "2 lines", "1 line"],
)
def test_rows_are_drained_and_written(
    config: LinesConfig, latency: int, tmp_path: Path, seed: int
) -> None:
    steps = config.columns // config.lanes
    sizes = {"LINES": config.lines, "BITS": config.word_bits, "STEPS": steps, "LATENCY": latency}
    environment = {f"QCOMPILE_{name}": str(value) for name, value in sizes.items()}
    both = DrainAndWriter(config, latency)
    cosim.run_bench(both, "lines.tile_drain_bench", tmp_path, seed=seed, environment=environment)


def test_walk_of_the_bench_on_a_table_worked_by_hand() -> None:
    """Two lines: tiles of 4 rows and 1, whose row has one line; then lines with own channels."""
    counts = {
        "tile_rows": 4,
        "tiles": 2,
        "positions": 1,
        "groups": 1,
        "rows_last": 1,
        "lines_last": 1,
    }
    steps = {"first": 10, "offset": 0, "line": 1, "row": 2, "position": 0, "group": 2}
    flat = Shape(own=False, flat=True, **counts, **steps)
    found = [[slot.addresses for slot in slots] for slots in tiles_of(flat, 2)]
    assert found == [[(10, 11), (12, 13), (14, 15), (16, 17)], [(18,)]]
    own = Shape(own=True, flat=False, **counts | {"tiles": 1, "groups": 2}, **steps)
    found = [[slot.addresses for slot in slots] for slots in tiles_of(own, 2)]
    assert found == [[(10,), (11,)], [(12,)]]
