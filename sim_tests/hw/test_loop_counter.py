"""A nest of loop counters against Python's own loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.hw.loop_counter import LoopCounter
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim

BITS = 3


class RenamedLoopCounter(wiring.Component):  # type: ignore[type-arg]  # generic in its stub only
    """The counter with `start` for `begin`, which is a keyword of the test harness's language."""

    def __init__(self) -> None:
        ports = {"trips": In(BITS), "start": In(1), "step": In(1), "last": Out(1)}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.loop = loop = LoopCounter(BITS)
        this: Any = self
        m.d.comb += [
            loop.trips.eq(this.trips),
            loop.begin.eq(this.start),
            loop.step.eq(this.step),
            this.last.eq(loop.last),
        ]
        return m


def test_last_is_up_in_the_last_trip_whatever_the_pauses(
    tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    columns: dict[str, list[int]] = {"trips": [], "start": [], "step": []}
    expected: list[int | None] = []

    def cycle(trips: int, begin: int, step: int, last: bool | None) -> None:
        for name, value in (("trips", trips), ("start", begin), ("step", step)):
            columns[name].append(value)
        expected.append(last if last is None else int(last))

    for trips in [*range(1, 9), *rng.integers(1, 9, 40).tolist()]:
        cycle(trips - 1, 1, 0, None)
        rounds = int(rng.integers(1, 4))
        stop = int(rng.integers(1, rounds * trips + 1))  # a nest may begin anew at any time
        for number in range(stop):
            last = number % trips == trips - 1
            for _ in range(int(rng.choice([0, 0, 1, 3]))):
                cycle(trips - 1, 0, 0, last)
            cycle(trips - 1, 0, 1, last)
    inputs = {name: np.array(values) for name, values in columns.items()}
    out = cosim.run_vectors(RenamedLoopCounter(), inputs, tmp_path, seed=seed)
    found = [
        None if want is None else int(got) for want, got in zip(expected, out["last"], strict=True)
    ]
    assert found == expected
