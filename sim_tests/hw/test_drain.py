"""The parts of the drain path, each against Python lists and loops."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.drain import AccumulatorFifo, ConstantsFifo, DrainBack, DrainFront
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim


def test_accumulator_fifo_keeps_order_and_room(tmp_path: Path, seed: int) -> None:
    fifo = AccumulatorFifo(AcceleratorConfig())
    cosim.run_bench(fifo, "accumulator_fifo_bench", tmp_path, seed=seed)


@pytest.mark.parametrize(("words", "late"), [(4, 0), (9, 4)])
def test_constants_fifo_shows_the_oldest_group(
    words: int, late: int, tmp_path: Path, seed: int
) -> None:
    cosim.run_bench(
        ConstantsFifo(words, late),
        "constants_fifo_bench",
        tmp_path,
        seed=seed,
        environment={"QCOMPILE_LATE": str(late)},
    )


def test_drain_front_hands_out_rows_in_loop_order(tmp_path: Path, seed: int) -> None:
    cosim.run_bench(DrainFront(), "drain_front_bench", tmp_path, seed=seed)


@pytest.mark.parametrize("code_bits", [4, 8])
def test_drain_back_packs_words_and_steps_addresses(
    code_bits: int, tmp_path: Path, seed: int
) -> None:
    cosim.run_bench(DrainBack(code_bits), "drain_back_bench", tmp_path, seed=seed)
