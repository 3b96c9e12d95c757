"""The residual adder's constants: solved, and compared with the float rule for all pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qcompile.compiler.add_tables import LARGEST, add_codes, solve_add_tables, sum_tables
from qcompile.compiler.golden.float_rules import add_table
from qcompile.compiler.ir import Quantization

Pair = tuple[float, int]


def quantization(scale: float, zero_point: int) -> Quantization:
    return Quantization(scale=float(np.float32(scale)), zero_point=zero_point)


def assert_solved(a: Quantization, b: Quantization, output: Quantization) -> None:
    wanted = add_table(a, b, output, dtype="int8")
    tables = solve_add_tables(wanted)
    assert tables.differing.size == 0, f"{len(tables.differing)} pairs of {a}, {b}, {output}"
    assert max(np.abs(tables.a).max(), np.abs(tables.b).max()) <= LARGEST
    np.testing.assert_array_equal(add_codes(tables.a, tables.b), wanted)


def test_sum_rounds_ties_to_the_even_code_as_worked_by_hand() -> None:
    # The half is in a's entry: 1.5 + 0.5 of rounding, 2.5 + 0.5, -0.5 + 0.5, and 200 + 0.5.
    halves = np.zeros(256, np.int32)
    halves[:4] = np.array([4, 6, 0, 401]) << 13
    codes = add_codes(halves, np.zeros(256, np.int32))
    np.testing.assert_array_equal(codes[:4, 0], [2, 2, 0, 127])


def test_random_scales_are_solved_for_every_pair(rng: np.random.Generator) -> None:
    for _ in range(25):
        output = np.exp(rng.uniform(-5, 0))
        a, b = output * np.exp(rng.uniform(-3, 1.0, 2))
        zero_points = rng.integers(-128, 128, 3).tolist()
        assert_solved(
            quantization(a, zero_points[0]),
            quantization(b, zero_points[1]),
            quantization(output, zero_points[2]),
        )


@pytest.mark.parametrize("zero_point", [-128, -1, 0, 1, 127])
def test_power_of_two_scales_with_their_exact_ties_are_solved(zero_point: int) -> None:
    assert_solved(quantization(0.25, 3), quantization(0.125, -8), quantization(0.25, zero_point))
    assert_solved(quantization(0.5, -128), quantization(0.5, 0), quantization(1.0, zero_point))


def test_clamped_sums_need_no_more_than_their_limit() -> None:
    a, b, output = quantization(0.04, -100), quantization(0.07, 9), quantization(0.09, -20)
    wanted = add_table(a, b, output, dtype="int8", low=-20, high=46)
    tables = solve_add_tables(wanted, low=-20, high=46)
    assert tables.differing.size == 0
    np.testing.assert_array_equal(add_codes(tables.a, tables.b, low=-20, high=46), wanted)


def test_pairs_without_a_solution_are_named() -> None:
    wanted = add_table(*[quantization(0.1, 0)] * 3, dtype="int8").copy()
    wanted[128 + 10, 128 - 20] = 50  # is -10
    tables = solve_add_tables(wanted)
    assert [10, -20] in tables.differing.tolist()
    differing = add_codes(tables.a, tables.b) != wanted
    assert tables.differing.shape == (differing.sum(), 2)


def test_real_residual_additions_are_solved(shared: Path) -> None:
    operands = real_additions(shared / "models" / "mlpt_ic_resnet8.onnx")
    assert len(operands) == 3
    for a, b, output in operands:
        assert_solved(a, b, output)


def real_additions(path: Path) -> list[list[Quantization]]:
    """Quantizations of both operands and the sum of every quantized Add of a QDQ model."""
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}

    def follow(name: str) -> onnx.NodeProto:
        users = [node for node in graph.node if name in node.input]
        return users[0] if users[0].op_type == "QuantizeLinear" else follow(users[0].output[0])

    found = []
    for node in graph.node:
        sources = [makers.get(name) for name in node.input]
        if node.op_type != "Add" or not all(
            source is not None and source.op_type == "DequantizeLinear" for source in sources
        ):
            continue
        quantizers = [*(source for source in sources if source), follow(node.output[0])]
        if any(maker.input[1] not in constants for maker in quantizers):
            continue
        found.append(
            [
                quantization(float(constants[maker.input[1]]), int(constants[maker.input[2]]))
                for maker in quantizers
            ]
        )
    return found


@pytest.mark.parametrize("offset", [-127, 0, 128])
def test_sums_with_an_offset_are_exact_for_all_pairs(offset: int) -> None:
    codes = np.arange(-128, 128)
    wanted = np.clip(codes[:, np.newaxis] + codes + offset, -128, 127)
    tables = sum_tables(offset)
    np.testing.assert_array_equal(add_codes(tables.a, tables.b), wanted)
    assert not solve_add_tables(wanted.astype(np.int8)).differing.size
    assert max(np.abs(tables.a).max(), np.abs(tables.b).max()) < 1 << 23
