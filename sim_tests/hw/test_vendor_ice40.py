"""iCE40's multipliers and memories as Yosys models them, against their plain twins and numpy."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from qcompile.hw.vendor.ice40_dsp import DualMultiplier, Ice40DualMultiplier
from qcompile.hw.vendor.ice40_logic import LogicDualMultiplier
from qcompile.hw.vendor.ice40_spram import Ice40SinglePortMemory, SinglePortMemory
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim


@pytest.mark.parametrize("input_registers", [False, True])
@pytest.mark.parametrize(
    "multiplier_class", [DualMultiplier, Ice40DualMultiplier, LogicDualMultiplier]
)
def test_products_of_all_operand_pairs_come_after_the_latency(
    multiplier_class: type[DualMultiplier],
    input_registers: bool,
    tmp_path: Path,
    rng: np.random.Generator,
    seed: int,
) -> None:
    edges = np.array(list(itertools.product((-128, -127, -1, 0, 1, 127), repeat=4)))
    a0, b0 = (axis.reshape(-1) for axis in np.meshgrid(*[np.arange(-128, 128)] * 2))
    others = rng.permutation(a0.size)
    a0, b0, a1, b1 = (
        np.concatenate([edge, codes])
        for edge, codes in zip(edges.T, (a0, b0, a0[others], b0[others]), strict=True)
    )
    multiplier = multiplier_class(input_registers=input_registers)
    out = cosim.run_vectors(
        multiplier,
        {"a0": a0, "b0": b0, "a1": a1, "b1": b1},
        tmp_path,
        seed=seed,
        sources=[cosim.vendor_models()],
    )
    latency = 2 if input_registers else 1
    assert latency == multiplier.LATENCY
    np.testing.assert_array_equal(out["p0"][latency:], (a0 * b0)[:-latency])
    np.testing.assert_array_equal(out["p1"][latency:], (a1 * b1)[:-latency])


@pytest.mark.parametrize(
    "memory", [SinglePortMemory(), Ice40SinglePortMemory(), SinglePortMemory(512)]
)
def test_memory_keeps_the_bytes_that_were_written(
    memory: SinglePortMemory, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    cycles, words = 20_000, memory.words
    addresses = np.array([0, 1, words - 1, words // 2, *range(words // 3, words // 3 + 12)])
    enable = rng.integers(0, 4, cycles) > 0
    write = np.where(rng.integers(0, 2, cycles), rng.integers(1, 16, cycles), 0)
    address = rng.choice(addresses, cycles)
    data = rng.integers(0, 2**32, cycles)
    enable[:16], write[:16], address[:16] = True, 15, addresses  # all written before any read
    out = cosim.run_vectors(
        memory,
        {"enable": enable, "write": write, "address": address, "write_data": data},
        tmp_path,
        seed=seed,
        sources=[cosim.vendor_models()],
    )["read_data"]

    contents: dict[int, int] = {}
    expected = -1  # undefined
    for cycle in range(cycles):
        if expected >= 0:
            assert out[cycle] == expected, f"cycle {cycle}"
        if not enable[cycle]:
            continue
        where = int(address[cycle])
        mask = sum(0xFF << 8 * byte for byte in range(4) if write[cycle] >> byte & 1)
        contents[where] = contents.get(where, 0) & ~mask | int(data[cycle]) & mask
        expected = -1 if mask else contents[where]


def test_memory_starts_with_random_contents(tmp_path: Path, seed: int) -> None:
    ones, addresses = np.ones(64, np.int64), np.arange(64)
    inputs = {"enable": ones, "write": 0 * ones, "address": addresses, "write_data": 0 * ones}
    out = cosim.run_vectors(SinglePortMemory(), inputs, tmp_path, seed=seed)["read_data"]
    assert np.unique(out[1:]).size > 32
