"""The activation table against the codes written into it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.hw.activation import ActivationTable
from qcompile.hw.program import table_packet
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim


def test_table_maps_every_code_and_can_be_rewritten_and_bypassed(
    tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    names = ("i", "valid", "enable", "write", "write_index", "write_data")
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    expected: list[np.ndarray] = []
    for enable in (1, 0, 1):
        table = rng.integers(-128, 128, 256).astype(np.int8)
        table[[0, 1, 127, 128, 255]] = [127, -128, -1, 0, 1]
        codes = np.concatenate([np.arange(-128, 128), rng.integers(-128, 128, 5_000)])
        writing = np.arange(codes.size + 128) < 128
        codes = np.concatenate([rng.integers(-128, 128, 128), codes])
        valid = np.where(writing, 0, rng.integers(0, 4, codes.size) > 0)
        words = np.array(table_packet(table)[1:])
        parts["i"].append(codes)
        parts["valid"].append(valid)
        parts["enable"].append(np.full(codes.size, enable))
        parts["write"].append(writing.astype(np.int64))
        parts["write_index"].append(np.arange(codes.size) % 128)
        parts["write_data"].append(
            np.where(writing, np.resize(words, codes.size), rng.integers(0, 65536, codes.size))
        )
        expected.append(table[codes + 128].astype(np.int64) if enable else codes)
    # An input of the last cycle of a part leaves in the first cycle of the next: nothing valid.
    for valid in parts["valid"]:
        valid[-1] = 0
    inputs = {name: np.concatenate(columns) for name, columns in parts.items()}
    out = cosim.run_vectors(ActivationTable(), inputs, tmp_path, seed=seed)
    latency = ActivationTable.LATENCY
    np.testing.assert_array_equal(out["o_valid"][latency:], inputs["valid"][:-latency])
    valid = np.flatnonzero(inputs["valid"])
    np.testing.assert_array_equal(out["o"][valid + latency], np.concatenate(expected)[valid])
