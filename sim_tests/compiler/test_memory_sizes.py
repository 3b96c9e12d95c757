"""memory_sizes: block RAMs of a configuration, sizes of a device, and who would hold a model."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.backend import Compiled, compile_model
from qcompile.compiler.errors import CapacityError
from qcompile.compiler.flow import Options
from qcompile.compiler.memory_sizes import block_rams, check_cells, fits, sizes
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.small_flow import SmallFlow
from qcompile.hw.boards.ice40_hx8k_b_evn import ICE40_HX8K_B_EVN
from qcompile.hw.boards.icebreaker import ICEBREAKER
from qcompile.hw.config import ACC_WIDTHS
from qcompile.hw.devices import HX8K, UP5K, Device
from sim_tests.compiler.integer_graphs import IntegerGraph, model_of
from sim_tests.compiler.log_networks import log_network


def compiled_for_hx8k(g: IntegerGraph, *outputs: str) -> Compiled:
    return compile_model(model_of(g.graph(*outputs)), board=ICE40_HX8K_B_EVN, requant="exact")


def test_block_rams_are_those_that_place_and_route_counted() -> None:
    # The placed design of digits (docs/budget.md); sim_tests/cosim/test_netlist.py counts others.
    assert block_rams(replace(HX8K.config, acc_width=24)) == 31


@pytest.mark.parametrize(
    ("words", "depth", "adder", "expected"),
    [
        # Accumulators of 24 bits 6, constants 4, descriptors 3, table 1, and the adder 5.
        (256, 256, True, 19 + 4 + 2),
        (512, 256, True, 19 + 8 + 2),
        (1024, 256, True, 19 + 16 + 2),
        (256, 256, False, 14 + 4 + 2),
        (2048, 512, False, 14 + 32 + 4),
        (4096, 2048, False, 14 + 64 + 16),
        (256, 4096, False, 14 + 4 + 32),
    ],
)
def test_block_rams_grow_with_banks_and_weight_fifo(
    words: int, depth: int, adder: bool, expected: int
) -> None:
    config = replace(HX8K.config, bank_words=words, weight_depth=depth, adder=adder)
    assert block_rams(config) == expected


@pytest.mark.parametrize("acc_width", ACC_WIDTHS)
@pytest.mark.parametrize("adder", [True, False])
def test_sizes_fit_the_device_and_none_holds_another(acc_width: int, adder: bool) -> None:
    wanted = replace(HX8K.config, acc_width=acc_width, adder=adder)
    found = sizes(HX8K, wanted)
    assert found and all(block_rams(config) <= HX8K.block_rams for config in found)
    for a, b in permutations(found, 2):
        assert a.bank_words > b.bank_words or a.weight_depth > b.weight_depth
    # Twice of anything would be too much.
    largest = found[0]
    assert block_rams(replace(largest, bank_words=2 * largest.bank_words)) > HX8K.block_rams
    for config in found:
        assert replace(config, bank_words=512, weight_depth=512) == replace(
            wanted, bank_words=512, weight_depth=512
        )


def test_spram_has_one_size_and_the_adder_always() -> None:
    wanted = replace(UP5K.config, adder=False, acc_width=28)
    assert sizes(UP5K, wanted) == (replace(UP5K.config, acc_width=28),)


def test_large_tensors_get_banks_and_long_groups_get_the_weight_fifo(
    rng: np.random.Generator,
) -> None:
    g = IntegerGraph(rng)
    x = g.input(4, 30, 30)
    wide = compiled_for_hx8k(g, g.conv(x, 4))
    assert (wide.config.bank_words, wide.config.adder) == (1024, False)
    g = IntegerGraph(rng)
    x = g.input(64, 2, 2)
    long = compiled_for_hx8k(g, g.conv(x, 4, (3, 3), pads=(1, 1, 1, 1)))  # 576 words a group
    assert (long.config.bank_words, long.config.weight_depth) == (512, 1024)
    g = IntegerGraph(rng)
    x = g.input(4, 5, 5)
    assert compiled_for_hx8k(g, g.add(g.conv(x, 4), x)).config.adder


def test_a_weight_fifo_that_is_too_short_names_who_has_a_longer_one(
    rng: np.random.Generator,
) -> None:
    g = IntegerGraph(rng)
    x = g.input(64, 6, 6)  # 576 words, so banks of 1,024 that leave 256 weight words are needed
    y = g.conv(x, 4, (3, 3), pads=(1, 1, 1, 1))
    message = (
        "'y1': 576 weight words of a channel group do not fit the weight FIFO\n"
        "  'y1': input [64, 6, 6], output [4, 6, 6], kernel [3, 3]\n"
        "  available: 253 words\n"
        "  hx8k has 4,096 bytes a bank with 256 or 2,048 bytes a bank with 1,024 words of weight "
        "FIFO\n"
        "  the smallest device that would do: up5k (iCE40UP5K)\n"
        "  help: use fewer input channels or a smaller kernel in this layer"
    )
    with pytest.raises(CapacityError, match=rf"^{re.escape(message)}$"):
        compiled_for_hx8k(g, y)


def test_nobody_holds_what_is_larger_than_every_bank(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    y = g.conv(g.input(4, 129, 128), 4)
    graph = g.graph(y)
    with pytest.raises(CapacityError) as raised:
        compile_model(model_of(graph), board=ICEBREAKER, requant="exact")
    assert "no device that qcompile knows would do (up5k, hx8k)" in raised.value.context


@pytest.mark.parametrize(("levels", "step", "named"), [(8, 16, {"up5k"}), (16, 8, set())])
def test_only_devices_with_the_cells_are_named_as_larger(
    levels: int,
    step: int,
    named: set[str],
    tmp_path: Path,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = load_model(log_network(tmp_path, rng, levels, step))
    checked = SmallFlow(ICE40_HX8K_B_EVN).check(model, Options())
    assert set(checked.figures.larger) == named
    monkeypatch.setattr("qcompile.compiler.memory_sizes.DEVICES", {"up5k": UP5K})
    smaller = replace(ICE40_HX8K_B_EVN, device=replace(HX8K, block_rams=12))
    with pytest.raises(CapacityError) as raised:
        compile_model(model, board=smaller, requant="exact")
    would = "the smallest device that would do: up5k (iCE40UP5K)"
    assert (would in raised.value.context) == bool(named)


@pytest.mark.parametrize(
    ("device", "form", "pairs", "advice"),
    [
        (HX8K, (8, 8), False, "--log-step 16"),
        (HX8K, (16, 8), True, "--log-step 16"),
        (HX8K, (32, 8), False, "--activations log:16 --log-step 16"),
        (UP5K, (16, 8), False, "--activations log:8 --log-step 16"),
        (UP5K, (8, 8), False, "--log-step 16"),
        (replace(HX8K, block_rams=16), (16, 16), False, "--activations log:8"),
        (replace(HX8K, block_rams=12), (8, 16), False, "int8 activations"),
    ],
)
def test_too_many_block_rams_advise_codes_that_take_fewer(
    device: Device,
    form: tuple[int, int],
    pairs: bool,
    advice: str,
    tmp_path: Path,
    rng: np.random.Generator,
) -> None:
    levels, step = form
    layers = lower(load_model(log_network(tmp_path, rng, residual=pairs)).graph)
    layers = tuple(replace(layer, pairs=layer.pairs if pairs else None) for layer in layers)
    wanted = replace(device.config, pe="log", levels=levels, step=step, acc_width=32)
    with pytest.raises(CapacityError) as raised:
        fits(layers, (layers[0].input,), (layers[-1].output,), device, wanted)
    assert raised.value.message == f"the machine needs more block RAMs than the {device.name} has"
    told = "sums and products of two tensors take 4 of them"
    assert (told in raised.value.context) == pairs
    assert raised.value.help == f"quantize with {advice}"


def test_the_smallest_array_of_shifts_is_not_advised_to_itself() -> None:
    config = replace(UP5K.config, pe="log", acc_width=32)
    with pytest.raises(CapacityError) as raised:
        check_cells(config, UP5K)
    assert raised.value.help == "take --device hx8k, or simulate it with --no-bitstream"
