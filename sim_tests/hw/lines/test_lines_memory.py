"""The activation memory of the array of lines against arrays: every port at once, every step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler.ir import Int64Array
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.memory import LinesMemory
from sim_tests.hw.lines import wide

pytestmark = pytest.mark.cosim

CYCLES = 4000
LAYER = 50
"""Cycles with one step from line to line."""
PART = 32
CONFIGS = [
    LinesConfig(lines=2, columns=4, lanes=1, bank_words=16),
    LinesConfig(lines=3, columns=4, lanes=1, bank_words=16),
    LinesConfig(lines=1, columns=4, lanes=1, bank_words=32),
    LinesConfig(lines=8, columns=16, bank_words=16),
    LinesConfig(lines=2, columns=4, lanes=1, bank_words=21),
    LinesConfig(lines=1, columns=4, lanes=1, bank_words=512 + 16),
]
Columns = dict[str, Int64Array]


def lying(config: LinesConfig, addresses: Any, turned: Any) -> Any:
    """Where words lie. Turned, with four or more banks: neighbours change places in every other row
    of the banks; with eight, the even ones of four words then stand before the odd ones."""
    if config.banks < 4:
        return addresses
    changed = addresses ^ addresses // config.banks % 2
    if config.banks == 8:
        changed = changed // 4 * 4 + changed % 2 * 2 + changed // 2 % 2
    return np.where(turned, changed, addresses)


def meets(addresses: Int64Array, banks: int) -> bool:
    """Whether two different addresses lie in one bank."""
    wanted = set(addresses.tolist())
    return len({address % banks for address in wanted}) < len(wanted)


def fitting_lines(lines: Int64Array, addresses: Int64Array, banks: int) -> Int64Array:
    """The lines asked for, without those that meet one before them in a bank."""
    kept = np.zeros_like(lines)
    for line in np.flatnonzero(lines):
        kept[line] = 1
        if meets(addresses[kept == 1], banks):
            kept[line] = 0
    return kept


def feeder_inputs(config: LinesConfig, rng: np.random.Generator) -> Columns:
    """Random reads; steps are odd in half of the layers, zero in some, anything in the rest, but
    even where words lie turned."""
    words = config.banks * config.bank_words
    step = np.repeat(rng.integers(0, words, CYCLES // LAYER), LAYER)
    kind = np.repeat(rng.integers(0, 6, CYCLES // LAYER), LAYER)
    step = np.select([kind < 2, kind == 2, kind == 3], [step | 1, (step | 3) ^ 1, 0 * step], step)
    feed = rng.integers(0, 3, CYCLES) > 0
    feed[::LAYER] = False  # the step counts one cycle later
    address = rng.integers(0, words, CYCLES)
    turned = np.repeat(rng.integers(0, 2, CYCLES // LAYER), LAYER)
    if config.banks >= 4:
        step -= step % 2 * turned
    mask = np.zeros(CYCLES, np.int64)
    for cycle in range(CYCLES):
        asked = (rng.integers(0, 4, config.lines) > 0).astype(np.int64)
        own = (address[cycle] + np.arange(config.lines) * step[cycle]) % (1 << config.address_bits)
        own = lying(config, own, turned[cycle])
        mask[cycle] = fitting_lines(asked, own, config.banks) @ (1 << np.arange(config.lines))
    return {
        "feed": feed.astype(np.int64),
        "feed_set": np.repeat(rng.integers(0, 2, CYCLES // 10), 10),
        "feed_address": address,
        "feed_step": step,
        "feed_lines": mask,
        "feed_turned": turned,
    }


def other_inputs(config: LinesConfig, rng: np.random.Generator) -> Columns:
    """Random requests of everybody else."""
    words = config.banks * config.bank_words
    parts = config.word_bits // PART
    inputs: Columns = {}
    for name, data, chance in (
        ("write", "write_word", 0.3),
        ("upper_write", "upper_word", 0.3),
        ("residual", "", 0.4),
        ("host", "host_data", 0.5),
    ):
        request = "host_valid" if name == "host" else name
        inputs[request] = (rng.random(CYCLES) < chance).astype(np.int64)
        port = "upper" if name == "upper_write" else name
        if port == name:
            inputs[f"{name}_set"] = rng.integers(0, 2, CYCLES)
        inputs[f"{port}_address"] = rng.integers(0, words, CYCLES)
        if data:
            inputs[data] = rng.integers(0, 1 << PART, (CYCLES, parts))
    inputs["host_write"] = rng.integers(0, 2, CYCLES)
    inputs["write_turned"] = rng.integers(0, 2, CYCLES)
    # Two words of a cycle lie in different halves of the banks.
    same = (inputs["write_address"] ^ inputs["upper_address"]) % config.banks < config.banks // 2
    inputs["upper_write"] &= ~((inputs["write"] == 1) & same)
    if config.banks == 1:
        inputs["upper_write"][:] = 0
    return inputs


def handshakes(inputs: Columns) -> Columns:
    """Every 1-bit output and `words_valid`, from the rules of who waits for whom."""
    writes = inputs["write"] | inputs["upper_write"]
    wrote = writes | inputs["host_valid"] & inputs["host_write"]
    grant, free = inputs["residual"] & 1, 1 - inputs["residual"]
    for name in ("residual", "host"):
        taken = inputs["feed"] & (inputs["feed_set"] == inputs[f"{name}_set"])
        if name == "residual":
            grant = grant & ~taken
        else:
            free = free & ~taken & ~np.concatenate([[0], wrote[:-1]])
    ready = np.where(inputs["host_write"], 1 - writes, free)
    later = {
        "words_valid": inputs["feed_lines"] * inputs["feed"],
        "residual_valid": grant,
        "host_word_valid": inputs["host_valid"] & ~inputs["host_write"] & ready,
    }
    delayed = {
        name: np.concatenate([np.zeros(LinesMemory.LATENCY, np.int64), column])[: len(column)]
        for name, column in later.items()
    }
    return {"residual_grant": grant, "host_ready": ready, **delayed}


def write_of(config: LinesConfig, inputs: Columns, cycle: int) -> dict[tuple[int, int], Int64Array]:
    """The words that the writer, or else the host, writes in a cycle, by set and address."""
    now = {name: column[cycle] for name, column in inputs.items()}
    found = {}
    for request, port in (("write", "write"), ("upper_write", "upper")):
        if now[request]:
            at = lying(config, now[f"{port}_address"], now["write_turned"])
            found[int(now["write_set"]), int(at)] = now[f"{port}_word"]
    if not found and now["host_valid"] and now["host_write"]:
        found[int(now["host_set"]), int(now["host_address"])] = now["host_data"]
    return found


def reads_of(
    config: LinesConfig, inputs: Columns, out: Columns, cycle: int
) -> Iterator[tuple[str, tuple[int, int], Int64Array]]:
    """Port, set and address, and the found word of every read that a cycle began."""
    then = cycle + LinesMemory.LATENCY
    now = {name: column[cycle] for name, column in inputs.items()}
    lines = out["words"][then].reshape(config.lines, -1)
    for line in np.flatnonzero(out["words_valid"][then] >> np.arange(config.lines) & 1):
        address = (now["feed_address"] + line * now["feed_step"]) % (1 << config.address_bits)
        place = (int(now["feed_set"]), int(lying(config, address, now["feed_turned"])))
        yield "lines", place, lines[line]
    for name in ("residual", "host"):
        valid = out["residual_valid" if name == "residual" else "host_word_valid"]
        if valid[then]:
            place = (int(now[f"{name}_set"]), int(now[f"{name}_address"]))
            yield name, place, out[f"{name}_word"][then]


def run(config: LinesConfig, inputs: Columns, folder: Path, seed: int) -> Columns:
    """The memory's outputs, words in parts."""
    wide_ports = ("words", "write_word", "upper_word", "residual_word", "host_data", "host_word")
    parts = {port: PART for port in wide_ports}
    return wide.run_vectors(LinesMemory(config), inputs, parts, folder, seed=seed)


@pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda config: f"P{config.lines}-{config.bank_words}"
)
def test_every_port_reads_what_was_written_two_cycles_before(
    config: LinesConfig, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    inputs = feeder_inputs(config, rng) | other_inputs(config, rng)
    out = run(config, inputs, tmp_path, seed)
    assert not out["error"].any()
    for name, column in handshakes(inputs).items():
        np.testing.assert_array_equal(out[name], column, name)
    known: dict[tuple[int, int], Int64Array] = {}
    compared = {"lines": 0, "residual": 0, "host": 0}
    for cycle in range(2, CYCLES - LinesMemory.LATENCY):
        known |= write_of(config, inputs, cycle - 2)
        for port, place, found in reads_of(config, inputs, out, cycle):
            if place in known:
                told = f"cycle {cycle}: {port} of {place}"
                np.testing.assert_array_equal(found, known[place], told)
                compared[port] += 1
    assert min(compared.values()) > 100, compared


@pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda config: f"P{config.lines}-{config.bank_words}"
)
def test_lines_that_meet_in_a_bank_are_an_error_and_no_others(
    config: LinesConfig, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    inputs = feeder_inputs(config, rng) | other_inputs(config, rng)
    inputs["feed_lines"] = rng.integers(0, 1 << config.lines, CYCLES)
    step = inputs["feed_step"].reshape(-1, LAYER)
    inputs["feed_step"] = (step ^ rng.integers(0, 2, (len(step), 1))).reshape(-1)  # odd if turned
    out = run(config, inputs, tmp_path, seed)
    words = 1 << config.address_bits
    line = np.arange(config.lines)
    expected = np.zeros(CYCLES, np.int64)
    for cycle in np.flatnonzero(inputs["feed"]):
        own = (inputs["feed_address"][cycle] + line * inputs["feed_step"][cycle]) % words
        own = lying(config, own, inputs["feed_turned"][cycle])
        asked = inputs["feed_lines"][cycle] >> line & 1 == 1
        groups = config.line_groups
        apart = [set(own[asked & (line % groups == n)] % groups) for n in range(groups)]
        expected[cycle] = meets(own[asked], config.banks) or max(map(len, apart)) > 1
    np.testing.assert_array_equal(out["error"][1:], expected[:-1])
    assert (config.lines == 1) == (expected.sum() == 0)
