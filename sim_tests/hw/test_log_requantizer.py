"""The log machine's ends of the drain: encoder beside requantization, and the larger of codes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from qcompile.compiler.golden.log_domain import joined, limits
from qcompile.compiler.golden.numerics import requantize
from qcompile.compiler.ir import FRACTION_BITS, Int64Array, Requant
from qcompile.compiler.log_format import LogFormat
from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.log.machine import LargerCode, LogRequantizer, PairTable
from qcompile.hw.program import pair_table_packet
from sim_tests.hw import cosim

pytestmark = pytest.mark.cosim

CYCLES = 20_000
ZERO_POINT, LOW, HIGH = -3, -128, 90
WIDE = ("sums", "constants")
PART = 32


class Parted(wiring.Component):  # type: ignore[type-arg]  # not a generic class at run time
    """A `LogRequantizer` whose wide inputs come in parts of 32 bits, which vectors can hold."""

    def __init__(self, unit: LogRequantizer) -> None:
        self.unit = unit
        members = dict(unit.signature.members)
        for name in WIDE:
            width = len(getattr(unit, name))
            del members[name]
            members |= {f"{name}{i}": In(PART) for i in range(-(-width // PART))}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.unit = unit = self.unit
        for name, member in unit.signature.members.items():
            inner = getattr(unit, name)
            if name in WIDE:
                parts = range(-(-len(inner) // PART))
                m.d.comb += inner.eq(Cat(getattr(self, f"{name}{i}") for i in parts))
            elif member.flow == In:
                m.d.comb += inner.eq(getattr(self, name))
            else:
                m.d.comb += getattr(self, name).eq(inner)
        return m


def _parts(name: str, values: list[int]) -> dict[str, Int64Array]:
    """Columns of `Parted`'s ports; more than there are parts are zeros."""
    mask = (1 << PART) - 1
    return {
        f"{name}{i}": np.array([value >> PART * i & mask for value in values]) for i in range(9)
    }


@pytest.mark.parametrize(("levels", "step"), [(8, 16), (16, 8)])
@pytest.mark.parametrize("requant", ["exact", "shift"])
def test_codes_are_those_that_the_constants_ask_for(
    levels: int, step: int, requant: str, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    config = AcceleratorConfig(pe="log", levels=levels, step=step, requant=requant)  # type: ignore[arg-type]
    unit = LogRequantizer(config)
    classes = config.log.classes
    reach = 1 << (config.acc_width - 3)
    sums = rng.integers(-reach, reach, (classes, CYCLES)) >> rng.integers(0, 18, CYCLES)
    bias = rng.integers(-reach, reach, CYCLES) >> rng.integers(0, 18, CYCLES)
    log = rng.integers(0, 2, CYCLES)
    form = LogFormat(fsr=0, step=step, levels=levels)
    last = np.array([limits(form, Fraction(2) ** -int(n)) for n in rng.integers(8, 20, CYCLES)]).T
    exact = requant == "exact"
    mantissa = rng.integers(1 << 23, 1 << 24, CYCLES) if exact else np.ones(CYCLES, np.int64)
    shift = rng.integers(25, 39, CYCLES) if exact else rng.integers(1, 15, CYCLES)
    linear = Requant(
        mode=requant,  # type: ignore[arg-type]
        mantissa=mantissa,
        shift=shift,
        zero_point=ZERO_POINT,
        low=LOW,
        high=HIGH,
        fraction=FRACTION_BITS if unit.fraction_bits else 0,
    )
    encoded = Requant(
        mode="log",
        mantissa=0 * last[0],
        shift=0 * shift,
        zero_point=0,
        low=0,
        high=levels - 1,
        log=form,
        limits=last,
    )
    whole = joined(sums, np.zeros(CYCLES, np.int64), step)
    expected = np.where(
        log,
        requantize(joined(sums, bias, step)[np.newaxis], encoded)[0],
        requantize((_rounded(whole, unit, classes) + bias)[np.newaxis], linear)[0],
    )
    given = {
        **{"valid": 1 + 0 * bias, "bias": bias, "log": log},
        **{"zero_point_inside": 0 * bias, "fraction": 0 * bias},
        **{"zero_point": ZERO_POINT + 0 * bias, "low": LOW + 0 * bias, "high": HIGH + 0 * bias},
        **_parts("sums", _packed(sums, config.acc_width)),
        **_parts("constants", _constants(log, last, mantissa, shift, config)),
    }
    for name in given:
        if name.startswith(("constants", "log")):
            given[name] = np.roll(given[name], unit.wait)
    parted = Parted(unit)
    inputs = {name: column for name, column in given.items() if hasattr(parted, name)}
    out = cosim.run_vectors(parted, inputs, tmp_path, seed=seed)
    kept = slice(unit.LATENCY, CYCLES)
    found = out["code"][kept].astype(np.int64)
    wanted = expected[: CYCLES - unit.LATENCY].astype(np.int64)
    np.testing.assert_array_equal(found & 0xFF, wanted & 0xFF)
    assert out["code_valid"][kept].all()


def _rounded(whole: Int64Array, unit: LogRequantizer, classes: int) -> Int64Array:
    """A joined sum of 15 fraction bits with as many as the unit takes, halves up."""
    if classes == 1:
        return whole
    dropped = 15 - unit.fraction_bits
    return np.floor(whole / 2.0**dropped + 0.5).astype(np.int64)


def _packed(sums: Int64Array, width: int) -> list[int]:
    mask = (1 << width) - 1
    return [sum((int(s) & mask) << width * c for c, s in enumerate(column)) for column in sums.T]


def _constants(
    log: Int64Array,
    last: Int64Array,
    mantissa: Int64Array,
    shift: Int64Array,
    config: AcceleratorConfig,
) -> list[int]:
    bits = config.log.limit_bits
    mask = (1 << bits) - 1
    return [
        sum((max(-int(t), -(1 << bits - 1)) & mask) << bits * c for c, t in enumerate(of_codes))
        if is_log
        else int(m) | int(s) << 24
        for is_log, of_codes, m, s in zip(log, last.T, mantissa, shift, strict=True)
    ]


@pytest.mark.parametrize("code_bits", [4, 8])
def test_larger_code_of_all_pairs(
    code_bits: int, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    count = 1 << code_bits
    pairs = rng.permutation(count * count)
    a, b = pairs // count, pairs % count
    for enable in (0, 1):
        inputs = {"code_a": a, "code_b": b, "valid": a * 0 + 1, "enable": a * 0 + enable}
        out = cosim.run_vectors(LargerCode(code_bits), inputs, tmp_path, seed=seed)
        wanted = np.maximum(a, b) if enable else a
        np.testing.assert_array_equal(out["code"][1:], wanted[:-1])


def test_pair_table_gives_every_entry(tmp_path: Path, rng: np.random.Generator, seed: int) -> None:
    table = rng.integers(0, 16, (16, 256)).astype(np.int8)
    words = np.array(pair_table_packet(table)[1:])
    pairs = rng.permutation(16 * 256)
    enable = np.tile([1] * 7 + [0], len(pairs) // 8)
    zeros = np.zeros(len(words), np.int64)
    b, a = pairs // 256, pairs % 256
    inputs = {
        **{"code_a": np.concatenate([zeros, a]), "code_b": np.concatenate([zeros, b])},
        **{"valid": np.concatenate([zeros, a * 0 + 1]), "enable": np.concatenate([zeros, enable])},
        "write": np.concatenate([zeros + 1, a * 0]),
        "write_index": np.concatenate([np.arange(len(words)), a * 0]),
        "write_data": np.concatenate([words, a * 0]),
    }
    out = cosim.run_vectors(PairTable(), inputs, tmp_path, seed=seed)
    # `enable` is a layer's: it counts in the cycle in which the code comes out.
    chosen = np.append(enable[1:], 0)
    wanted = np.where(chosen, table[b, a], a)
    np.testing.assert_array_equal(out["code"][len(words) + 1 :], wanted[:-1])
