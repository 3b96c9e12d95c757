"""backend: the configuration that a model gets, and what is handed on to flash and manifest."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest

from qcompile.compiler import ir
from qcompile.compiler.backend import (
    accelerator_map,
    compile_model,
    flash_image,
    memory_usage,
)
from qcompile.compiler.errors import CapacityError, UnsupportedError
from qcompile.hw.boards.icebreaker import ICEBREAKER
from qcompile.hw.config import AcceleratorConfig
from sim_tests.compiler.integer_graphs import IntegerGraph, model_of


def single(
    rng: np.random.Generator, channels: int, weight: int, *, mode: ir.Requant | None = None
) -> ir.Model:
    """A fully connected layer, all of whose weights are `weight`."""
    g = IntegerGraph(rng)
    graph = g.graph(g.conv(g.input(channels), 4))
    (op,) = graph.ops
    assert isinstance(op, ir.Conv)
    changed = replace(
        op, weight=np.full_like(op.weight, weight), requant=mode or op.requant, input_zero_point=0
    )
    return model_of(replace(graph, ops=(changed,)))


def scaled(shifts: list[int]) -> ir.Requant:
    """Requantization of four channels by powers of two."""
    return ir.Requant(
        mode="exact", mantissa=np.full(4, 1 << 23), shift=np.array(shifts), zero_point=0
    )


@pytest.mark.parametrize(
    ("channels", "weight", "width"),
    [
        # The sum of products of raw codes reaches 128 * |weight| * channels.
        (31, 127, 20),  # 503,936 < 2**19
        (33, 127, 24),  # 536,448
        (516, 127, 24),  # 8,388,096 < 2**23
        (517, 127, 28),
    ],
)
def test_accumulators_are_the_narrowest_that_hold_every_sum(
    channels: int, weight: int, width: int, rng: np.random.Generator
) -> None:
    compiled = compile_model(single(rng, channels, weight), board=ICEBREAKER, requant="exact")
    assert compiled.config.acc_width == width


@pytest.mark.parametrize(("shifts", "limit"), [([39, 8, 20, 30], 39), ([40, 16, 30, 20], 47)])
def test_requantization_unit_is_the_smallest_that_does_every_shift(
    shifts: list[int], limit: int, rng: np.random.Generator
) -> None:
    # Sums of 127 * 127 * 300 and scales from 2**-17 on: no channel is constant.
    compiled = compile_model(
        single(rng, 300, 127, mode=scaled(shifts)), board=ICEBREAKER, requant="exact"
    )
    assert compiled.config.max_shift == limit


def test_shifts_that_no_unit_does_together_are_refused(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    graph = g.graph(g.conv(g.conv(g.input(300), 4), 4))
    ops = [
        replace(op, requant=scaled(shifts), weight=np.full_like(op.weight, 127), input_zero_point=0)
        for op, shifts in zip(graph.ops, ([40] * 4, [15] * 4), strict=True)
        if isinstance(op, ir.Conv)
    ]
    message = (
        "'y1' and 'y2': their requantization shifts, 40 and 15, are too far apart for one unit\n"
        "  a unit for 47 does 16 to 47\n"
        "  help: choose scales of the two layers nearer to each other"
    )
    with pytest.raises(UnsupportedError, match=rf"^{re.escape(message)}$"):
        compile_model(model_of(replace(graph, ops=tuple(ops))), board=ICEBREAKER, requant="exact")


def test_sums_beyond_the_widest_accumulator_are_refused(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng, requant="shift")
    graph = g.graph(g.conv(g.input(140_000), 1))
    (op,) = graph.ops
    assert isinstance(op, ir.Conv)
    weight = np.full_like(op.weight, 127)
    model = model_of(replace(graph, ops=(replace(op, weight=weight, input_zero_point=0),)))
    message = (
        "'y1': its sums may need 33 bits\n"
        "  the widest accumulator has 32\n"
        "  help: split the layer into layers with fewer inputs"
    )
    with pytest.raises(CapacityError, match=rf"^{re.escape(message)}$"):
        compile_model(model, board=ICEBREAKER, requant="shift")


def test_mode_shift_compiles_with_any_right_shift(rng: np.random.Generator) -> None:
    requant = replace(scaled([0, 3, 9, 20]), mode="shift", mantissa=np.ones(4, np.int64))
    compiled = compile_model(single(rng, 300, 127, mode=requant), board=ICEBREAKER, requant="shift")
    assert compiled.config.requant == "shift"


def test_flash_image_is_a_header_of_256_bytes_and_the_program(rng: np.random.Generator) -> None:
    compiled = compile_model(single(rng, 9, 5), board=ICEBREAKER, requant="exact")
    image = flash_image(compiled)
    program = np.array(compiled.program.words, "<u2").tobytes()
    assert image[256:] == program
    magic, version, zero, configuration, size, crc = struct.unpack_from("<4sHHIII", image)
    assert (magic, version, zero, size) == (b"QCIM", 1, 0, len(program))
    assert configuration == compiled.config.id
    assert crc == zlib.crc32(program)
    assert image[20:32] == bytes(12)
    assert image[32:64] == bytes.fromhex(compiled.model.sha256)
    assert image[64:256] == bytes(192)


def test_configuration_id_changes_with_what_the_program_depends_on_and_nothing_else() -> None:
    plain = AcceleratorConfig()
    assert replace(plain, vendor="plain").id == plain.id
    others = [
        replace(plain, acc_width=28),
        replace(plain, bank_words=8192),
        replace(plain, weight_depth=512),
        replace(plain, adder=False),
        replace(plain, requant="shift"),
        replace(plain, max_shift=47),
    ]
    assert len({config.id for config in (plain, *others)}) == 1 + len(others)


def test_an_input_is_not_sent_as_columns_that_no_bank_holds(rng: np.random.Generator) -> None:
    # 5 columns are two words: 2 * 100 * 96 for 100 * 100 words, and a bank has 16,384.
    g = IntegerGraph(rng)
    graph = g.graph(g.conv(g.input(1, 100, 100), 4, (5, 5)))
    assert compile_model(model_of(graph), board=ICEBREAKER, requant="exact").places["x0"]
    smaller = IntegerGraph(rng)
    graph = smaller.graph(smaller.conv(smaller.input(1, 80, 80), 4, (5, 5)))
    places = compile_model(model_of(graph), board=ICEBREAKER, requant="exact").places
    assert places["x0/columns"].shape == (5, 80, 76)


def test_map_and_usage_name_every_tensor_where_it_lies(rng: np.random.Generator) -> None:
    g = IntegerGraph(rng)
    a = g.conv(g.input(5, 4, 2), 6, (3, 1))
    b = g.pool(a, (2, 2))
    flat = g.reshape(b, (1, 6))
    compiled = compile_model(model_of(g.graph(flat, a)), board=ICEBREAKER, requant="exact")
    found = accelerator_map(compiled)
    x_bank = compiled.places["x0"].bank
    low, high = x_bank << 14, (1 - x_bank) << 14
    assert found == {
        "inputs": [{"value": "x0", "address": low, "shape": [5, 4, 2], "words": 16}],
        "outputs": [
            {"value": flat, "address": low, "shape": [6, 1, 1], "words": 2},
            {"value": a, "address": high, "shape": [6, 2, 2], "words": 8},
        ],
        "layers": [
            {"op": "Conv", "done": 1, "name": a, "address": high, "shape": [6, 2, 2], "words": 8},
            {
                **{"op": "AveragePool", "done": 2, "name": b},
                **{"address": low, "shape": [6, 1, 1], "words": 2},
            },
        ],
        "program_layers": [a, b],
    }
    usage = memory_usage(compiled)
    assert usage["bank_0_bytes"] + usage["bank_1_bytes"] == 4 * (16 + 8)
    assert usage["flash_program_bytes"] == 2 * len(compiled.program.words)
    assert usage["weight_words_of_largest_group"] == 2 * 3 * 4
