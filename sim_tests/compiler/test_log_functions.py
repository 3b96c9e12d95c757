"""Softmax in the log domain, Sigmoid, Tanh, Exp: within one step of the correctly rounded result.

Softmax is proved for all inputs and all scales at once: golden's shares depend on two whole numbers
alone, a code's log and the sum of powers, and every pair of them is tried with the errors that both
may have. Exhaustive and random codes then try golden itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler import ir
from qcompile.compiler.golden import log_functions
from qcompile.compiler.golden.float_rules import code_range
from qcompile.compiler.golden.interpreter import run_op
from qcompile.compiler.golden.log_functions import (
    FEW_CLASSES,
    LEVELS,
    LOG_BITS,
    MAX_CLASSES,
    MAX_LOG,
    POWER_BITS,
    REST_BITS,
)
from qcompile.compiler.golden.numerics import round_half_even_shift
from qcompile.compiler.pipeline import load_model
from sim_tests.compiler.log_references import function_codes, shares
from sim_tests.compiler.networks import Parameters
from sim_tests.compiler.test_unary_against_onnxruntime import all_codes, chain_network, table_codes

SCALES = (1 / 2048, 0.01, 1 / 12, 0.17, 0.25, 0.7, 3.0)
CLASSES = (2, 3, 10, 12, FEW_CLASSES, FEW_CLASSES + 1, 100, MAX_CLASSES)


def softmax_of(scale: float, steps: int = 256) -> ir.Softmax:
    powers, logs = log_functions.log_tables(scale)
    return ir.Softmax(
        inputs=("x",),
        outputs=("y",),
        mode="exact",
        axis=1,
        steps=steps,
        powers=powers,
        logs=logs,
    )


def assert_within_one_step(x: ir.Int8Array, scale: float, steps: int = 256) -> None:
    """Golden's shares of x [N, classes] against the correctly rounded ones."""
    found = run_op(softmax_of(scale, steps), [x]).astype(np.int64) + 128
    difference = np.abs(found - shares(x, scale, steps))
    worst = int(np.argmax(difference.max(axis=1)))
    assert difference.max() <= 1, (scale, x[worst], found[worst])


def logs_of_sums(classes: int) -> tuple[ir.Int64Array, ir.Int64Array, ir.Int64Array]:
    """Every log2 that a sum of powers can have, in golden, and the smallest and largest such sum.

    Golden's log rises with the sum and changes where a piece's code does: at half steps.
    """
    one = 1 << POWER_BITS
    ends = [np.array([one, classes * one])]
    for octave in range(log_functions.octaves(classes)):
        step = (one >> 10) << octave
        middle = (one << octave) + np.arange(0, one << octave, step) + step // 2
        ends += [middle - 1, middle, middle + 1]
    sums = np.unique(np.clip(np.concatenate(ends), one, classes * one))
    codes = [
        (piece, octave)
        for piece in log_functions.pieces()
        for octave in range(log_functions.octaves(classes))
    ]
    log = np.zeros_like(sums)
    for piece, octave in codes:
        rest = round_half_even_shift(sums - (piece.begin << octave), piece.shift + octave)
        log += piece.gains[np.clip(rest, 0, LEVELS)] << LOG_BITS - log_functions.GAIN_BITS
    assert np.all(np.diff(log) >= 0)
    found, first = np.unique(log, return_index=True)
    return found, sums[first], sums[np.append(first[1:] - 1, len(sums) - 1)]


def test_logs_of_sums_are_all_that_golden_has() -> None:
    one, classes = 1 << POWER_BITS, 5
    sums = np.arange(one, classes * one + 1)
    # Powers that are no code's, so that every sum is there.
    others = np.stack([(sums - one + number) // 4 for number in range(4)], axis=-1)
    powers = np.concatenate([np.full((len(sums), 1), one), others], axis=1) << REST_BITS
    logs = log_functions.log_of_sum(powers)[:, 0]
    found, first, last = logs_of_sums(classes)
    np.testing.assert_array_equal(np.unique(logs), found)
    np.testing.assert_array_equal(logs[first - one], found)
    np.testing.assert_array_equal(logs[last - one], found)
    assert np.all(last[:-1] + 1 == first[1:])


@pytest.mark.parametrize("classes", CLASSES)
def test_every_sum_and_log_gives_a_share_within_one_step(classes: int) -> None:
    assert worst_difference(classes, 256) == 1


@pytest.mark.full
@pytest.mark.parametrize("steps", [1, 10, 100, 127, 128, 200, 255, 256])
def test_every_number_of_classes_gives_shares_within_one_step(steps: int) -> None:
    for classes in (2, 5, 7, 24, FEW_CLASSES, FEW_CLASSES + 1, 500, MAX_CLASSES):
        assert worst_difference(classes, steps) <= 1, classes


def worst_difference(classes: int, steps: int) -> int:
    """The largest difference in steps over all logs and all sums, whatever the scale.

    A log may be off by half a part; each power but the largest code's by half a part, or by half of
    2**-REST_BITS and the rest's rounding where there are many.
    """
    logs, least, most = logs_of_sums(classes)
    error = (classes - 1) / 2
    if classes > FEW_CLASSES:
        error = error / (1 << REST_BITS) + 0.5
    one = 1 << POWER_BITS
    all_logs = np.arange(MAX_LOG + int(logs[-1]) + 1)
    codes = np.zeros_like(all_logs)
    for window in log_functions.windows(steps):
        rest = round_half_even_shift(all_logs - window.begin, window.shift)
        codes += window.shares[np.clip(rest, 0, LEVELS)]
    log = np.arange(MAX_LOG + 1)
    nearest = steps * np.exp2(-np.maximum(log - 0.5, 0) / (1 << LOG_BITS))
    farthest = steps * np.exp2(-(log + 0.5) / (1 << LOG_BITS))
    farthest[-1] = 0.0  # all codes below have this log too
    worst = 0
    for at, low, high in zip(logs.tolist(), least.tolist(), most.tolist(), strict=True):
        share = np.minimum(codes[at : at + MAX_LOG + 1], 255)
        upper = np.minimum(nearest * (one / max(low - error, one)), steps)
        lower = farthest * (one / (high + error))
        above = np.minimum(np.rint(upper), 255) - share
        below = share - np.minimum(np.rint(lower), 255)
        worst = max(worst, int(above.max()), int(below.max()))
    return worst


@pytest.mark.parametrize("scale", SCALES)
def test_all_pairs_and_triples_of_codes_are_within_one_step(scale: float) -> None:
    pairs = np.stack([np.full(256, 127), np.arange(-128, 128)], axis=1).astype(np.int8)
    assert_within_one_step(pairs, scale)
    # Shares depend on how far codes are apart: the largest code can be 127.
    a, b = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))
    triples = np.stack([a.reshape(-1), b.reshape(-1), np.full(1 << 16, 127)], axis=1)
    assert_within_one_step(triples.astype(np.int8), scale)


def test_shares_depend_on_differences_alone(rng: np.random.Generator) -> None:
    x = rng.integers(-100, 100, (500, 9))
    moved = x + rng.integers(-28, 28, (500, 1))
    op = softmax_of(0.07)
    first, second = (run_op(op, [codes.astype(np.int8)]) for codes in (x, moved))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("classes", CLASSES)
def test_random_and_hostile_codes_are_within_one_step(
    rng: np.random.Generator, classes: int
) -> None:
    count = 200_000 // classes // len(SCALES) + 1
    for scale in SCALES:
        shape = (count, classes)
        alike = np.broadcast_to(rng.integers(-128, 128, (count, 1)), shape).copy()
        alike[:, 0] = 127  # rounding of all powers but one goes the same way
        tops = np.where(np.arange(classes) < rng.integers(1, classes + 1, (count, 1)), 127, alike)
        near = 127 - np.minimum(rng.geometric(0.1, shape), 255)
        uniform = rng.integers(-128, 128, shape)
        for x in (alike, tops, near, uniform):
            assert_within_one_step(x.astype(np.int8), scale)


@pytest.mark.parametrize("steps", [1, 2, 100, 127, 255])
def test_other_scales_of_the_result_are_within_one_step(
    rng: np.random.Generator, steps: int
) -> None:
    assert_within_one_step(rng.integers(-128, 128, (2000, 7)).astype(np.int8), 0.03, steps)


FUNCTIONS: dict[str, tuple[Parameters, ...]] = {
    "Sigmoid": ((1 / 256, -128, "int8"), (1 / 256, 0, "uint8"), (0.0051, 3, "int8")),
    "Tanh": ((1 / 128, 0, "int8"), (1 / 128, 128, "uint8"), (0.0091, -7, "int8")),
    "Exp": ((1 / 256, -128, "int8"), (0.03, 0, "uint8"), (1.7, -50, "int8")),
}


@pytest.mark.parametrize("scale", [0.0023, 0.0471, 0.1833])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_tables_of_functions_are_within_one_step(tmp_path: Path, name: str, scale: float) -> None:
    for after in FUNCTIONS[name]:
        dtype = after[2]
        before = (scale, -9 if dtype == "int8" else 113, dtype)
        path = chain_network([(name, {})], before, after).save(tmp_path / "m.onnx")
        (table,) = [op for op in load_model(path).prologue if op["op"] == "Lookup"]
        reals = float(np.float32(scale)) * (all_codes(dtype) - before[1]).astype(np.float64)
        step = float(np.float32(after[0]))
        wanted = function_codes(name, reals, step, after[1], code_range(dtype))
        assert np.abs(table_codes(table) - wanted).max() <= 1, after
