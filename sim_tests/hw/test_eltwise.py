"""The residual adder against the float rule of golden, for every pair of codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.add_tables import solve_add_tables
from qcompile.compiler.golden.float_rules import add_table
from qcompile.compiler.ir import Quantization
from qcompile.hw.eltwise import EltwiseAdd
from qcompile.hw.program import PacketKind, add_table_packet
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim

TABLE_WORDS = 512
OPERANDS = [
    # scales and zero points of a, b and the sum
    ((0.0473, -128), (0.0312, 5), (0.0618, -128)),
    ((0.25, 3), (0.125, -7), (0.25, 1)),  # powers of two: exact ties
    ((0.9, 127), (0.0007, -128), (0.4, 127)),
    ((0.011, 0), (0.011, 0), (0.7, -1)),
]


def quantization(pair: tuple[float, int]) -> Quantization:
    return Quantization(scale=float(np.float32(pair[0])), zero_point=pair[1])


@pytest.mark.parametrize("operands", OPERANDS)
def test_adder_gives_the_float_rules_code_for_every_pair(
    operands: tuple[tuple[float, int], ...], tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    wanted = add_table(*(quantization(pair) for pair in operands), dtype="int8")
    tables = solve_add_tables(wanted)
    assert tables.differing.size == 0
    pairs = rng.permutation(256 * 256)
    valid = rng.integers(0, 8, 3 * pairs.size // 2) > 1
    place = np.flatnonzero(valid)[: pairs.size]
    assert place.size == pairs.size
    cycles = 2 * TABLE_WORDS + valid.size + EltwiseAdd.LATENCY
    names = ("code_a", "code_b", "valid", "enable", "write_a", "write_b")
    inputs = {name: np.zeros(cycles, np.int64) for name in names}
    # Between values anything may stand at the ports.
    inputs["code_a"][:], inputs["code_b"][:] = rng.integers(-128, 128, (2, cycles))
    inputs["write_index"], inputs["write_data"] = rng.integers(0, [[512], [65536]], (2, cycles))
    for number, (kind, table) in enumerate(
        ((PacketKind.ADD_TABLE_A, tables.a), (PacketKind.ADD_TABLE_B, tables.b))
    ):
        begin = number * TABLE_WORDS
        words = slice(begin, begin + TABLE_WORDS)
        inputs["write_a" if number == 0 else "write_b"][words] = 1
        inputs["write_index"][words] = np.arange(TABLE_WORDS)
        inputs["write_data"][words] = add_table_packet(kind, table.tolist())[1:]
    inputs["enable"][:] = 1
    place = place + 2 * TABLE_WORDS
    a, b = pairs // 256 - 128, pairs % 256 - 128
    inputs["code_a"][place], inputs["code_b"][place], inputs["valid"][place] = a, b, 1

    out = cosim.run_vectors(EltwiseAdd(), inputs, tmp_path, seed=seed)
    latency = EltwiseAdd.LATENCY
    np.testing.assert_array_equal(out["code_valid"][latency:], inputs["valid"][:-latency])
    np.testing.assert_array_equal(out["code"][latency:][place], wanted[a + 128, b + 128])


@pytest.mark.parametrize("tables", [True, False])
def test_disabled_adder_hands_codes_through(
    tables: bool, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    cycles, latency = 2_000, EltwiseAdd.LATENCY
    inputs = {
        name: np.zeros(cycles, np.int64)
        for name in ("enable", "write_a", "write_b", "write_index", "write_data")
    }
    for name in ("code_a", "code_b"):
        inputs[name] = rng.integers(-128, 128, cycles)
    inputs["valid"] = rng.integers(0, 2, cycles)
    out = cosim.run_vectors(EltwiseAdd(tables=tables), inputs, tmp_path, seed=seed)
    np.testing.assert_array_equal(out["code"][latency:], inputs["code_a"][:-latency])
    np.testing.assert_array_equal(out["code_valid"][latency:], inputs["valid"][:-latency])
