"""The operands of a line: what each column of each row meets, pass after pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.ir import Int64Array
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.operands import LineOperands
from sim_tests.hw.lines import wide

pytestmark = pytest.mark.cosim

ROWS = 4
CYCLES = 3000


def run(columns: int, inputs: dict[str, Int64Array], folder: Path, seed: int) -> Int64Array:
    """Operands of each cycle as unsigned bytes [cycles, rows, columns]."""
    component = LineOperands(LinesConfig(columns=columns, lanes=1))
    parts = {"word": 8, "operands": 8}
    out = wide.run_vectors(component, inputs, parts, folder, seed=seed)["operands"]
    return out.reshape(-1, ROWS, columns)


@pytest.mark.parametrize("columns", [4, 16])
def test_rotate_passes_show_column_c_channel_c_plus_j(
    columns: int, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    words = rng.integers(0, 256, (CYCLES, columns))
    shift = np.zeros(CYCLES, np.int64)
    load = np.zeros(CYCLES, np.int64)
    starts = []
    start = 0
    while start + 2 * columns + 4 < CYCLES:
        # A pass's words come in while the one before rotates, from the cycle of its load on.
        reads = start + np.sort(rng.permutation(columns)[:ROWS])
        start += columns + int(rng.choice([0, 0, 1, 3]))
        shift[reads] = 1
        load[start] = 1
        starts.append((start, reads))
    apart = np.zeros(CYCLES, np.int64)
    in_picture, pad = np.ones(CYCLES, np.int64), np.zeros(CYCLES, np.int64)
    inputs = {"word": words, "in_picture": in_picture, "pad": pad}
    inputs |= {"shift": shift, "load": load, "apart": apart}
    found = run(columns, inputs, tmp_path, seed)
    assert len(starts) > CYCLES // (columns + 3)
    for start, reads in starts:
        for j in range(columns):
            channels = (np.arange(columns) + j) % columns
            np.testing.assert_array_equal(found[start + 1 + j], words[reads][:, channels])


@pytest.mark.parametrize("columns", [4, 16])
@pytest.mark.parametrize("apart", [0, 1])
def test_window_passes_show_each_row_its_own_window(
    columns: int, apart: int, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    words = rng.integers(0, 256, (CYCLES, columns))
    shift = rng.integers(0, 4, CYCLES) > 0
    load = np.concatenate([[False], shift[:-1]])
    inputs = {
        "word": words,
        "in_picture": np.ones(CYCLES, np.int64),
        "pad": np.zeros(CYCLES, np.int64),
        "shift": shift.astype(np.int64),
        "load": load.astype(np.int64),
        "apart": np.full(CYCLES, apart),
    }
    found = run(columns, inputs, tmp_path, seed)
    pixels = words[shift]
    step, fill = (2, 6) if apart else (1, 3)
    checked = 0
    for cycle in np.flatnonzero(load[:-1]):
        last_pixel = int(shift[:cycle].sum()) - 1
        tap = last_pixel - fill  # a window that begins at pixel 0
        if tap < 0 or last_pixel < 6:
            continue  # with words of before the first pass in the chain
        np.testing.assert_array_equal(found[cycle + 1], pixels[tap + step * np.arange(ROWS)])
        checked += 1
    assert checked > CYCLES // 2


def test_registers_follow_the_rules_under_any_controls(
    tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    columns = 16
    inputs = {
        "word": rng.integers(0, 256, (CYCLES, columns)),
        "pad": rng.integers(0, 256, CYCLES),
        **{name: rng.integers(0, 2, CYCLES) for name in ("in_picture", "shift", "load", "apart")},
    }
    inputs["shift"][:8] = 1
    inputs["load"][7] = 1
    found = run(columns, inputs, tmp_path, seed)
    chain = np.zeros((7, columns), np.int64)
    in_picture = np.zeros(7, np.int64)
    rows = np.zeros((ROWS, columns), np.int64)
    for cycle in range(CYCLES):
        if cycle > 7:
            np.testing.assert_array_equal(found[cycle], rows)
        if inputs["load"][cycle]:
            places = [0, 2, 4, 6] if inputs["apart"][cycle] else [3, 4, 5, 6]
            rows = np.where(in_picture[places, None], chain[places], inputs["pad"][cycle])
        else:
            rows = np.roll(rows, -1, axis=1)
        if inputs["shift"][cycle]:
            chain = np.concatenate([chain[1:], inputs["word"][cycle][None]])
            in_picture = np.append(in_picture[1:], inputs["in_picture"][cycle])
