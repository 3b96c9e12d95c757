# amaranth: UnusedElaboratable=no
"""The encoder against golden, at every threshold's edges first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from qcompile.compiler.golden.log_domain import (
    encode,
    joined,
    search_constants,
    thresholds,
)
from qcompile.compiler.ir import Int64Array
from qcompile.compiler.log_format import LogFormat
from qcompile.hw.log.config import LogArrayConfig
from qcompile.hw.log.encoder import LogEncoder
from sim_tests.hw import cosim

full = pytest.mark.full
CASES = [
    (LogArrayConfig(levels=8, step=16, acc_width=24), 1),
    (LogArrayConfig(levels=16, step=8, acc_width=24), 2),
    pytest.param(LogArrayConfig(levels=8, step=16, acc_width=20), 3, marks=full),
    pytest.param(LogArrayConfig(levels=16, step=16, acc_width=32), 2, marks=full),
    pytest.param(LogArrayConfig(levels=32, step=8, acc_width=28), 1, marks=full),
]
NAMES = ["8-16-24", "16-8-24", "8-16-20", "16-16-32", "32-8-28"]
CHANNELS = 60


class EncoderWithLimits(wiring.Component):  # type: ignore[type-arg]  # generic in its stub only
    """The encoder with one port for every sum and limit."""

    def __init__(self, encoder: LogEncoder) -> None:
        self.encoder = encoder
        self.classes = encoder.config.classes
        super().__init__(
            {
                "valid": In(1),
                "bias": In(32),
                "code": Out(encoder.config.code_bits),
                "code_valid": Out(1),
                **{f"sum{i}": In(encoder.config.acc_width) for i in range(self.classes)},
                **{f"limit{i}": In(encoder.limit_bits) for i in range(self.classes)},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.encoder = encoder = self.encoder
        ports: dict[str, Signal] = {name: getattr(self, name) for name in self.signature.members}
        m.d.comb += [
            encoder.valid.eq(ports["valid"]),
            encoder.bias.eq(ports["bias"]),
            encoder.sums.eq(Cat(ports[f"sum{i}"] for i in range(self.classes))),
            encoder.limits.eq(Cat(ports[f"limit{i}"] for i in range(self.classes))),
            ports["code"].eq(encoder.code),
            ports["code_valid"].eq(encoder.code_valid),
        ]
        return m


def clipped(value: int, bits: int) -> int:
    """The nearest signed number of so many bits."""
    return max(-(1 << (bits - 1)), min(value, (1 << (bits - 1)) - 1))


def grids(config: LogArrayConfig, rng: np.random.Generator) -> tuple[LogFormat, LogFormat, float]:
    """Random input and output grids and a weight scale: thresholds all over the totals' range."""
    first, second = (
        LogFormat(fsr=int(rng.integers(-90, 30)), step=config.step, levels=config.levels)
        for _ in range(2)
    )
    # The first threshold becomes 2**octaves: one too large for any total is among them.
    octaves = rng.uniform(-2, config.total_bits + 0.2)
    unit = 2.0 ** ((second.fsr - second.step / 2 - first.fsr) / 16 - octaves)
    return first, second, float(np.float32(unit * (32768 if config.classes > 1 else 1)))


def totals(reached: tuple[int, ...], bits: int, rng: np.random.Generator) -> list[int]:
    """At every threshold and beside it, at the range's ends and 0, and anywhere."""
    edges = [value + d for value in reached for d in (-1, 0, 1)]
    ends = [0, 1, -1, (1 << (bits - 1)) - 1, -(1 << (bits - 1))]
    anywhere = (rng.choice([-1, 1], 20) * 2.0 ** rng.uniform(0, bits - 1, 20)).astype(np.int64)
    return [clipped(value, bits) for value in [*edges, *ends, *anywhere.tolist()]]


def parts(total: int, config: LogArrayConfig, rng: np.random.Generator) -> list[int]:
    """Sums and a bias that make a total, or one near it where their widths do not allow it."""
    width = config.acc_width
    halves = []
    if config.classes > 1:
        # 46341 is odd: some multiple of it has any remainder modulo 32768.
        half = total * pow(46341, -1, 32768) % 32768 + 32768 * int(rng.integers(-99, 99))
        halves, total = [half], (total - 46341 * half) // 32768
    share = clipped(total - int(rng.integers(-(1 << width), 1 << width) >> 3), width)
    return [share, *halves, clipped(total - share, 32)]


@pytest.mark.cosim
@pytest.mark.parametrize(("config", "bits_per_stage"), CASES, ids=NAMES)
def test_code_is_the_number_of_thresholds_reached(
    config: LogArrayConfig, bits_per_stage: int, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    lowest = -(1 << (config.limit_bits - 1))
    rows: list[list[int]] = []
    codes: list[int] = []
    for _ in range(CHANNELS):
        inputs, outputs, scale = grids(config, rng)
        reached = thresholds(inputs, outputs, scale)
        limits = [max(-value, lowest) for value in search_constants(reached, config.step)]
        drawn = [parts(total, config, rng) for total in totals(reached, config.total_bits, rng)]
        sums: Int64Array = np.array(drawn).T
        sum_and_bias = joined(sums[:-1], sums[-1], config.step)
        fits = np.abs(sum_and_bias) < 1 << (config.total_bits - 1)
        assert fits.mean() > 0.8
        rows += [[*row, *limits] for row in sums.T[fits].tolist()]
        codes += encode(sum_and_bias[fits], reached).tolist()
    assert set(codes) == set(range(config.levels))
    valid = rng.random(2 * len(rows)) < 0.6
    valid[-20:] = False
    taken = np.flatnonzero(valid)[: len(rows)]
    valid[taken[-1] + 1 :] = False
    names = [*(f"sum{i}" for i in range(config.classes)), "bias"]
    names += [f"limit{i}" for i in range(config.classes)]
    columns = {name: rng.integers(-99, 99, len(valid)) for name in names}
    for name, column in zip(names, np.array(rows[: len(taken)], object).T, strict=True):
        columns[name][taken] = column.astype(np.int64)
    encoder = LogEncoder(config, bits_per_stage)
    out = cosim.run_vectors(
        EncoderWithLimits(encoder), {"valid": valid, **columns}, tmp_path, seed=seed
    )
    assert len(taken) > 1000
    ready = np.flatnonzero(out["code_valid"])
    np.testing.assert_array_equal(ready, taken + encoder.LATENCY)
    np.testing.assert_array_equal(out["code"][ready], codes[: len(taken)])


def test_stages_without_bits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^bits_per_stage must be 1 to 3, not 4$"):
        LogEncoder(LogArrayConfig(levels=8), bits_per_stage=4)
