"""Values for requantization units, simulation over them, and the codes that they must give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from qcompile.compiler.golden import numerics
from qcompile.compiler.ir import Requant
from qcompile.hw.requantizer import RequantConfig, Requantizer
from sim_tests.hw import cosim, xc7

Int64Array = npt.NDArray[np.int64]
Columns = tuple[Int64Array, Int64Array, Int64Array]
"""Accumulator + bias, mantissa and shift of every value."""

RANDOM_VECTORS = 60_000
LAYERS = [
    # zero point, low, high, zero point inside the rounding
    (0, -128, 127, False),
    (-128, -128, 127, False),
    (127, -128, 127, True),
    (-3, -3, 95, False),
    (5, -128, 127, True),
    (17, 20, 21, False),
]
"""Layer constants; random vectors are dealt out among them."""


def near_halves(rng: np.random.Generator, count: int, shifts: range) -> Columns:
    """Magnitudes, mantissas and shifts whose product is a whole number and a half, nearly.

    The mantissa is the nearest one for a random magnitude and result, up to two steps away.
    """
    found: list[Int64Array] = []
    while sum(part.shape[1] for part in found) < count:
        shift = rng.integers(shifts.start, shifts.stop, 8 * count)
        half = 2 * rng.integers(0, 256, shift.size) + 1  # in halves
        bits = np.minimum(24, shift - 23 + np.ceil(np.log2(half)).astype(np.int64))
        magnitude = np.maximum(1, (rng.uniform(0.25, 1.0, shift.size) * 2.0**bits).astype(np.int64))
        mantissa = np.rint(half * 2.0 ** (shift - 1) / magnitude).astype(np.int64)
        mantissa += rng.integers(-2, 3, shift.size)
        fits = (mantissa >= 2**23) & (mantissa < 2**24)
        found.append(np.stack([magnitude, mantissa, shift])[:, fits])
    magnitude, mantissa, shift = np.concatenate(found, axis=1)[:, :count]
    return magnitude, mantissa, shift


def edges(config: RequantConfig, shifts: range) -> Columns:
    """Accumulators 0, +-1, extremes, exact ties and powers of two, under the extreme constants."""
    top = 2 ** (config.acc_width - 1)
    powers = np.array([1 << bit for bit in range(config.acc_width - 1)])
    acc = np.concatenate([[0, 1, -1, top - 1, -top], powers, -powers, 3 * powers // 2])
    constants = [(m, n) for m in (0, 2**23, 2**23 + 1, 2**24 - 1, 3 * 2**22) for n in shifts]
    mantissa, shift = np.tile(constants, (acc.size, 1)).T
    return np.repeat(acc, len(constants)), mantissa, shift


def wide_sums(rng: np.random.Generator, count: int, shifts: range) -> Columns:
    """Sums of 24 to 31 bits, at and around what rounds to nearly a half behind the mantissa.

    Their low bits are nothing, half a step of the first rounding, or one more or less than those.
    """
    magnitude, mantissa, shift = near_halves(rng, count, range(shifts.start, shifts.stop - 8))
    moved = np.maximum(0, 25 - np.ceil(np.log2(magnitude + 1)).astype(np.int64))
    moved += rng.integers(-1, 7, count)
    moved = np.minimum(moved, shifts.stop - 1 - shift)
    total = magnitude << moved
    steps = np.maximum(1, 2 ** np.ceil(np.log2(total + 1)).astype(np.int64) >> 24)
    total += rng.choice([0, 0, 1, 2, -1], count) * steps // 2 + rng.integers(-1, 2, count)
    total = np.clip(total, 1, 2**31 - 1)
    return np.where(rng.integers(0, 2, count), total, -total), mantissa, shift + moved


def vectors(
    config: RequantConfig, rng: np.random.Generator, shifts: range, values: int = RANDOM_VECTORS
) -> Columns:
    """Accumulator + bias (32 bits), mantissa and shift: edges, near ties, then random ones."""
    half, count = 2 ** (config.acc_width - 1), values // 2
    magnitude, mantissa, shift = near_halves(rng, count, shifts)
    near = (np.where(rng.integers(0, 2, count), magnitude, -magnitude), mantissa, shift)
    shift = rng.integers(shifts.start, shifts.stop, count)
    mantissa = rng.integers(2**23, 2**24, count)
    scale = mantissa * 2.0**-shift
    acc = np.clip(rng.normal(0, 90, count) / scale, -half, half - 1).astype(np.int64)
    anything = rng.integers(-(2**31), 2**31, count)
    acc = np.where(rng.integers(0, 10, count) == 0, anything, acc)
    mantissa = np.where(rng.integers(0, 50, count) == 0, 0, mantissa)
    parts = (edges(config, shifts), near, (acc, mantissa, shift))
    acc, mantissa, shift = np.concatenate(parts, axis=1)
    return acc, mantissa, shift


def by_float32(
    total: Int64Array, mantissa: Int64Array, shift: Int64Array, layer: tuple[int, int, int, bool]
) -> Int64Array:
    """Codes as ONNX Runtime's QLinearConv computes them: float32(acc) * float32(scale), rounded."""
    zero_point, low, high, inside = layer
    scale = np.ldexp(mantissa.astype(np.float32), -shift).astype(np.float32)
    product = (total.astype(np.float32) * scale).astype(np.float64)
    rounded = np.rint(product + zero_point) if inside else np.rint(product) + zero_point
    return np.clip(rounded, low, high).astype(np.int64)


def by_golden(
    total: Int64Array,
    mantissa: Int64Array,
    shift: Int64Array,
    layer: tuple[int, int, int, bool],
    mode: str = "exact",
    fraction: int = 0,
) -> Int64Array:
    """Codes as golden defines them; every value is a channel of its own."""
    zero_point, low, high, inside = layer
    requant = Requant(
        mode="exact" if mode == "exact" else "shift",
        mantissa=mantissa,
        shift=shift,
        zero_point=zero_point,
        low=low,
        high=high,
        zero_point_inside=inside,
        fraction=fraction,
    )
    return numerics.requantize(total, requant).astype(np.int64)


def simulate(
    unit: Requantizer,
    columns: Columns,
    layer: tuple[int, int, int, bool],
    folder: Path,
    rng: np.random.Generator,
    seed: int,
    *,
    fraction: int = 0,
    netlist: xc7.Netlist | None = None,
) -> Int64Array:
    """Codes of the unit for totals, mantissas and shifts, with random gaps between them."""
    width, latency = unit.config.acc_width, unit.LATENCY
    total, mantissa, shift = columns
    half = 2 ** (width - 1)
    acc = np.clip(total - rng.integers(-1000, 1000, total.size) >> fraction, -half, half - 1)
    bias = total - (acc << fraction)
    if not fraction:
        acc, bias = np.where(bias >= 2**31, total, acc), np.where(bias >= 2**31, 0, bias)
    valid = rng.integers(0, 8, total.size + total.size // 4) > 1
    valid[np.flatnonzero(valid)[total.size :]] = False
    valid = np.concatenate([valid, np.ones(max(0, total.size - int(valid.sum())), bool)])
    place = np.flatnonzero(valid)
    cycles = valid.size + latency
    inputs = {"valid": np.zeros(cycles, np.int64)}
    inputs["valid"][place] = 1
    named = {"acc": acc, "bias": bias, "mantissa": mantissa, "shift": shift}
    widths = {"acc": width, "bias": 32, "mantissa": 24, "shift": 6}
    for name, values in named.items():
        inputs[name] = rng.integers(0, 2 ** widths[name], cycles)  # between values: anything
        inputs[name][place] = values
    for name, value in zip(("zero_point", "low", "high", "zero_point_inside"), layer, strict=True):
        inputs[name] = np.full(cycles, int(value))
    inputs["fraction"] = np.full(cycles, int(fraction > 0))
    out = cosim.run_vectors(
        unit,
        inputs,
        folder,
        seed=seed,
        netlist=netlist.verilog if netlist else None,
        sources=[xc7.vendor_models()] if netlist else [],
    )
    np.testing.assert_array_equal(out["code_valid"][latency:], inputs["valid"][:-latency])
    return out["code"][latency:][place]


def assert_codes(got: Int64Array, expected: Int64Array, columns: Columns) -> None:
    """Equal, or the first difference with its operands."""
    wrong = np.flatnonzero(got != expected)
    if wrong.size:
        first = int(wrong[0])
        operands = [int(column[first]) for column in columns]
        pytest.fail(
            f"{wrong.size} of {got.size} differ; the first is number {first}: total, mantissa,"
            f" shift = {operands}: expected {expected[first]}, got {got[first]}"
        )
