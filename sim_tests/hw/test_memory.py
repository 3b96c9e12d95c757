"""The two banks against arrays: feeder first, the other client where the feeder is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.memory import ActivationMemory
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim

CYCLES = 6000
PLACES = 24
"""Addresses in use in each bank, its ends among them."""


@pytest.mark.parametrize(
    "config",
    [
        AcceleratorConfig(vendor="plain"),
        AcceleratorConfig(vendor="ice40"),
        AcceleratorConfig(vendor="ice40hx", bank_words=512),
        AcceleratorConfig(vendor="ice40", pe="log"),
        AcceleratorConfig(vendor="ice40hx", bank_words=512, pe="log"),
    ],
)
def test_words_come_back_and_the_feeder_never_waits(
    config: AcceleratorConfig, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    end = config.bank_words - 1
    offsets = np.array([0, end, *rng.choice(np.arange(1, end), PLACES - 2, replace=False)])
    inputs = {
        "feed": rng.integers(0, 2, CYCLES),
        "feed_bank": np.repeat(rng.integers(0, 2, CYCLES // 50), 50),  # a layer's
        "feed_address": rng.choice(offsets, CYCLES),
        "other": rng.integers(0, 4, CYCLES) > 0,
        "other_write": rng.integers(0, 2, CYCLES),
        "other_address": rng.choice(offsets, CYCLES) | rng.integers(0, 2, CYCLES) << 14,
        "other_data": rng.integers(0, 1 << config.word_bits, CYCLES),
    }
    # The feeder's bank is chosen by the layer: the cycle after its last read is still its own.
    last = np.arange(CYCLES) % 50 == 49
    inputs["feed"][last] = 0
    memory = ActivationMemory(config)
    sources = [cosim.vendor_models()] if config.vendor == "ice40" else []
    out = cosim.run_vectors(memory, inputs, tmp_path, seed=seed, sources=sources)

    words: dict[int, int] = {}
    compared = {"feed_data": 0, "other_read": 0}
    for cycle in range(CYCLES - 1):
        feed, bank, feed_address, other, write, address, data = (
            int(column[cycle]) for column in inputs.values()
        )
        busy = bool(feed) and bank == address >> 14
        assert bool(out["other_ready"][cycle]) == (not busy), f"cycle {cycle}"
        reads = {"feed_data": bank << 14 | feed_address} if feed else {}
        if other and not busy and not write:
            reads["other_read"] = address
        for port, place in reads.items():
            if place in words:
                assert out[port][cycle + 1] == words[place], f"cycle {cycle}: {port} of {place}"
                compared[port] += 1
        if other and not busy and write:
            words[address] = data
    assert min(compared.values()) > 500
