# amaranth: UnusedElaboratable=no
"""The weight memory against an array, and its reader against the words that tiles take."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.ir import Int64Array
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.weights import WeightMemory, WeightReader
from sim_tests.hw import cosim
from sim_tests.hw.lines import wide

CYCLES = 3000
PART = 32
CONFIGS = [
    LinesConfig(lines=2, columns=4, lanes=1, weight_rows=16),
    LinesConfig(lines=3, columns=4, lanes=1, weight_rows=16),
    LinesConfig(lines=1, columns=4, lanes=1, weight_rows=16),
    LinesConfig(lines=8, columns=16, weight_rows=16),
    LinesConfig(lines=3, columns=4, lanes=1, weight_rows=512 + 31),
]


def test_addresses_number_words_by_hand() -> None:
    three = LinesConfig(lines=3)
    assert [three.weight_address(word) for word in range(8)] == [0, 1, 2, 4, 5, 6, 8, 9]
    assert [LinesConfig(lines=8).weight_address(word) for word in (0, 7, 8, 99)] == [0, 7, 8, 99]


@pytest.mark.cosim
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"P{config.lines}")
def test_lines_get_one_word_or_each_its_own(
    config: LinesConfig, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    words, filled = config.lines * config.weight_rows, config.lines * 9 + 1
    init = rng.integers(-128, 128, (filled, config.columns), np.int8)
    init[3] = 0
    # Half of the words are never written.
    places = rng.choice(words, words // 2, replace=False)
    address = np.array([config.weight_address(word) for word in range(words)])
    read, written = rng.integers(0, words, CYCLES), rng.choice(places, CYCLES)
    own = np.repeat(rng.integers(0, 2, CYCLES // 20), 20)
    read -= own * (read % config.lines)
    inputs = {
        "enable": rng.integers(0, 4, CYCLES) > 0,
        "address": address[read],
        "own": own,
        "write": rng.integers(0, 4, CYCLES) == 0,
        "write_address": address[written],
        "write_word": rng.integers(0, 1 << PART, (CYCLES, config.word_bits // PART)),
    }
    parts = {"o": PART, "write_word": PART}
    memory = WeightMemory(config, init=init)
    found = wide.run_vectors(memory, inputs, parts, tmp_path, seed=seed)["o"]

    contents: dict[int, Int64Array] = dict(enumerate(init.view("<u4").astype(np.int64)))
    line = np.arange(config.lines)
    shown: list[Int64Array | None] = [None] * config.lines
    compared = np.zeros(2, np.int64)
    for cycle in range(CYCLES - memory.LATENCY + 1):
        if inputs["enable"][cycle]:
            shown = [contents.get(word) for word in read[cycle] + own[cycle] * line]
        if inputs["write"][cycle]:
            contents[int(written[cycle])] = inputs["write_word"][cycle]
        if cycle + memory.LATENCY == CYCLES:
            break
        for word, out in zip(
            shown, found[cycle + memory.LATENCY].reshape(config.lines, -1), strict=True
        ):
            if word is not None:
                np.testing.assert_array_equal(out, word, f"cycle {cycle}")
                compared[own[cycle]] += 1
    assert compared.min() > 500


Cycle = dict[str, int]


def layer_takes(config: LinesConfig, rng: np.random.Generator) -> tuple[int, list[Cycle]]:
    """A layer's first word and its takes; `word` is the word that each should take."""
    own = int(rng.integers(0, 2))
    step = config.lines if own else 1
    groups, words, tiles = (int(count) for count in rng.integers(1, 5, 3))
    last_start = config.lines * config.weight_rows - groups * words * step
    base = int(rng.integers(0, last_start + 1)) // step * step
    return base, [
        {
            "take": 1,
            "tile_end": int(index == words - 1),
            "last_tile": int(tile == tiles - 1),
            "own": own,
            "word": base + (group * words + index) * step,
        }
        for group, tile, index in product(range(groups), range(tiles), range(words))
    ]


def cycles_of_layers(config: LinesConfig, rng: np.random.Generator) -> Iterator[Cycle]:
    """Random layers with pauses; a layer's load comes with the last take before it, or later."""
    rest: Cycle = {"take": 0, "tile_end": 1, "last_tile": 1, "own": 1, "load": 0, "base": 0}
    last: Cycle = {**rest, "word": -1}
    for _ in range(60):
        base, layer = layer_takes(config, rng)
        load = {"load": 1, "base": config.weight_address(base)}
        if rng.integers(0, 2):
            yield {**last, **load}
        else:
            yield last
            yield {**rest, **load, "word": -1}
        for take in layer[:-1]:
            yield {**rest, **take}
            while rng.integers(0, 3) == 0:
                yield {**rest, "word": -1}
        last = {**rest, **layer[-1]}


@pytest.mark.cosim
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"P{config.lines}")
def test_reader_replays_a_group_for_every_tile(
    config: LinesConfig, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    cycles = list(cycles_of_layers(config, rng))
    names = ("take", "tile_end", "last_tile", "own", "load", "base")
    inputs = {name: np.array([cycle[name] for cycle in cycles]) for name in names}
    out = cosim.run_vectors(WeightReader(config), inputs, tmp_path, seed=seed)["address"]
    taken = [cycle for cycle, row in enumerate(cycles) if row["word"] >= 0]
    assert len(taken) > 500
    expected = [config.weight_address(cycles[cycle]["word"]) for cycle in taken]
    np.testing.assert_array_equal(out[taken], expected)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((3, 8), "a weight word has 4 weights, not 8"),
        ((33, 4), "the weight memory has 32 words, not 33"),
    ],
)
def test_contents_that_do_not_fit_are_refused(shape: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        WeightMemory(CONFIGS[0], init=np.zeros(shape, np.int8))
