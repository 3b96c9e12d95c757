"""Examples worked out elsewhere, to the digits given: M = 2^-n * M0, and codes of scale 2/255."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.golden.interpreter import run_model
from qcompile.compiler.golden.numerics import round_half_even_shift, scale_to_mantissa
from qcompile.compiler.pipeline import load_model
from qcompile.compiler.reference import Reference
from sim_tests.compiler.networks import Network, Parameters

M = 0.0072474273418460
P = 7091
ROWS = [
    *[(n, 0, "0.000000", "+51.391507", 0, "+51.391507", 0) for n in range(1, 7)],
    (7, 1, "55.398438", "-4.006930", 55, "-3.608493", 55),
    (8, 2, "55.398438", "-4.006930", 55, "-3.608493", 55),
    (9, 4, "55.398438", "-4.006930", 55, "-3.608493", 55),
    (10, 7, "48.473633", "+2.917874", 48, "+3.391507", 48),
    (11, 15, "51.936035", "-0.544528", 51, "+0.391507", 52),
    (12, 30, "51.936035", "-0.544528", 51, "+0.391507", 52),
    (13, 59, "51.070435", "+0.321073", 51, "+0.391507", 51),
    (14, 119, "51.503235", "-0.111728", 51, "+0.391507", 52),
    (15, 237, "51.286835", "+0.104673", 51, "+0.391507", 51),
]
"""n, M0, P * M0 / 2^n and its error, (P * M0) >> n and its error, the rounded shift."""


@pytest.mark.parametrize(("n", "m0", "real", "error", "floor", "floor_error", "rounded"), ROWS)
def test_product_by_an_integer_and_a_shift(
    n: int, m0: int, real: str, error: str, floor: int, floor_error: str, rounded: int
) -> None:
    assert round(2**n * M) == m0
    product = np.array([P * m0], np.int64)
    exact = Fraction(P * m0, 2**n)
    assert f"{float(exact):.6f}" == real
    assert f"{P * M - float(exact):+.6f}" == error
    assert (math.floor(exact), f"{P * M - math.floor(exact):+.6f}") == (floor, floor_error)
    assert int(np.right_shift(product, n)[0]) == floor
    assert round_half_even_shift(product, n).tolist() == [rounded]


def test_normalized_forms_of_the_factor() -> None:
    assert f"{P * M:.9f}" == "51.391507281"
    fraction, exponent = math.frexp(M)
    assert (f"{fraction:.8f}", exponent) == ("0.92767070", -7)
    assert round(fraction * 2**31) == 1992157658
    mantissa, shift = scale_to_mantissa(np.array([M], np.float32))
    assert (mantissa.tolist(), shift.tolist()) == ([15563732], [31])


@pytest.mark.parametrize(("operator", "code"), [("Mul", 127), ("Add", 254)])
def test_zero_and_one_through_quantized_operators(tmp_path: Path, operator: str, code: int) -> None:
    unit: Parameters = (2 / 255, 127, "uint8")
    network = Network()
    a, b = (
        network.dequantize(
            network.quantize(network.input(name, "float32", (1, 1, 1, 1)), unit), unit
        )
        for name in "ab"
    )
    codes = network.quantize(network.node(operator, a, b), unit)
    network.output(codes, "uint8")
    network.output(network.dequantize(codes, unit), "float32")
    path = network.save(tmp_path / "unit.onnx")
    inputs = {
        "a": np.zeros((1, 1, 1, 1), np.float32),
        "b": np.ones((1, 1, 1, 1), np.float32),
    }
    expected = Reference(path, ()).run(inputs).outputs
    found = run_model(load_model(path), inputs)
    # The float32 of 2/255 is above it, so that 1.0 is a little less than 127.5 steps: code 254.
    assert {name: value.item() for name, value in found.items()} == {
        name: value.item() for name, value in expected.items()
    }
    values = [value.item() for value in expected.values()]
    assert sorted(values) == pytest.approx(sorted([code, (code - 127) * 2 / 255]))
