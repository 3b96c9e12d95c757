"""The AXI link: registers, window, streams and rules of the bus, under cocotbext-axi's masters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.runtime.layouts import IMAGE_OFFSET
from sim_tests.hw import axi_board, cosim

pytestmark = pytest.mark.cosim


@pytest.mark.parametrize("bench", ["axi_link_bench", "axi_flash_bench"])
def test_link_in_front_of_the_accelerator(
    bench: str, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    image = tmp_path / "flash.bin"
    image.write_bytes(rng.bytes(4096))
    cosim.run_module(
        axi_board.simulation(),
        f"sim_tests.hw.{bench}",
        tmp_path,
        seed=seed,
        environment={"QCOMPILE_SEED": str(seed), "QCOMPILE_FLASH": str(image)},
        plusargs=axi_board.flash_arguments(image, IMAGE_OFFSET),
    )


@pytest.mark.parametrize(
    ("word_bytes", "address_bits", "queues"), [(4, 15, False), (8, 17, False), (16, 16, True)]
)
def test_memory_words_of_several_beats(
    word_bytes: int, address_bits: int, queues: bool, tmp_path: Path, seed: int
) -> None:
    cosim.run_module(
        axi_board.link_alone(word_bytes=word_bytes, address_bits=address_bits, queues=queues),
        "sim_tests.hw.axi_wide_bench",
        tmp_path,
        seed=seed,
        environment={
            "QCOMPILE_SEED": str(seed),
            "QCOMPILE_WORD_BYTES": str(word_bytes),
            "QCOMPILE_ADDRESS_BITS": str(address_bits),
            "QCOMPILE_QUEUES": str(int(queues)),
        },
    )
