"""The pair of multiply-accumulators of 7-series, in its three builds, against numpy."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import numpy.typing as npt
import pytest
from amaranth.hdl import Elaboratable, Module
from amaranth.lib import wiring

from qcompile.compiler.ir import Int64Array
from qcompile.hw.config import ACC_WIDTHS
from qcompile.hw.lines.config import DspStyle
from qcompile.hw.vendor import dual_mac
from qcompile.hw.vendor.xilinx_dsp import DualMac
from sim_tests.hw import cosim, xc7

pytestmark = pytest.mark.cosim

STYLES: tuple[DspStyle, ...] = get_args(DspStyle)
CORNERS = np.array(list(itertools.product((-128, -127, -1, 0, 1, 127), repeat=3)))
"""All triples (a0, a1, b) of extreme operands."""
OPERANDS = ("a0", "a1", "b")


class Together(wiring.Component):  # type: ignore[type-arg]  # generic in its stub only
    """Several pairs on the same inputs; outputs are STYLE_WIDTH_NAME."""

    def __init__(self, styles: tuple[DspStyle, ...], widths: tuple[int, ...]) -> None:
        self.macs = {(style, n): dual_mac(style, n) for style in styles for n in widths}
        ports: dict[str, Any] = {}
        for (style, width), mac in self.macs.items():
            for name, member in mac.signature.members.items():
                ports[name if member.flow == wiring.In else f"{style}_{width}_{name}"] = member
        super().__init__(ports)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        for (style, width), mac in self.macs.items():
            # The stubs' base class has no `elaborate`; every component has.
            m.submodules[f"{style}_{width}"] = cast(Any, mac)
            for name, member in mac.signature.members.items():
                if member.flow == wiring.In:
                    m.d.comb += getattr(mac, name).eq(getattr(self, name))
                else:
                    m.d.comb += getattr(self, f"{style}_{width}_{name}").eq(getattr(mac, name))
        return m


@dataclass(frozen=True, slots=True, kw_only=True)
class Stimulus:
    """Inputs, an element a cycle, and both sums as they stand behind each cycle's product."""

    inputs: dict[str, npt.NDArray[Any]]
    sums: tuple[Int64Array, Int64Array]
    largest: Int64Array
    """Magnitude of the largest sum since the last `first`."""

    def assert_sums(self, out: dict[str, Int64Array], acc_width: int, prefix: str = "") -> None:
        """Compare outputs wherever the sums have fitted the accumulators."""
        fit = self.largest < 1 << (acc_width - 1)
        assert np.mean(fit) > 0.25, "hardly any sum fits"
        fit = fit[: -DualMac.LATENCY]
        sum0, sum1 = (total[: -DualMac.LATENCY][fit] for total in self.sums)
        upper = wrapped(sum1 + (sum0 >> 16), acc_width)
        for name, expected in (("acc0", sum0), ("acc1", sum1), ("upper", upper)):
            if prefix + name in out:
                got = out[prefix + name][DualMac.LATENCY :][fit]
                np.testing.assert_array_equal(got, expected, err_msg=prefix + name)


def wrapped(values: Int64Array, bits: int) -> Int64Array:
    """Values as a signed port of so many bits shows them."""
    half = np.int64(1) << np.int64(bits - 1)
    return (values + half) % (2 * half) - half


def stimulus(
    operands: Int64Array, first: npt.NDArray[np.bool_], valid: npt.NDArray[np.bool_] | None = None
) -> Stimulus:
    """Of rows (a0, a1, b); cycle 0 starts a sum."""
    valid = np.ones(len(first), bool) if valid is None else valid.copy()
    valid[0] = True
    starts = first & valid
    starts[0] = True
    cycles = np.arange(len(first))
    start = np.maximum.accumulate(np.where(starts, cycles, 0))
    a0, a1, b = operands.T
    sums = []
    largest = np.zeros(len(first), np.int64)
    for products in (a0 * b, a1 * b):
        running = np.cumsum(np.where(valid, products, 0))
        sums.append(running - (running - products)[start])
        np.maximum(largest, np.abs(sums[-1]), out=largest)
    for begin, end in itertools.pairwise([*np.flatnonzero(starts), len(first)]):
        np.maximum.accumulate(largest[begin:end], out=largest[begin:end])
    inputs = dict(zip(OPERANDS, operands.T, strict=True))
    inputs |= {"valid": valid, "first": first | (cycles == 0)}
    return Stimulus(inputs=inputs, sums=(sums[0], sums[1]), largest=largest)


def corner_sums() -> Stimulus:
    """Four products of every corner, then five of every other one: all pairs of corners."""
    former, latter = (axis.reshape(-1) for axis in np.indices([len(CORNERS)] * 2))
    order = np.stack([former] * 4 + [latter] * 5, axis=1).reshape(-1)
    return stimulus(CORNERS[order], np.arange(order.size) % 9 == 0)


def all_products(rng: np.random.Generator) -> Stimulus:
    """Sums of one product each: all pairs (a0, b) and, in another order, (a1, b)."""
    a, b = (axis.reshape(-1) - 128 for axis in np.indices([256, 256]))
    other = rng.permuted(a.reshape(256, 256), axis=0).reshape(-1)
    return stimulus(np.stack([a, other, b], axis=1), np.ones(a.size, bool))


def long_sums(rng: np.random.Generator) -> Stimulus:
    """Short sums and sums of 5,000 products and more, with pauses; `first` is noise in them."""
    lengths = [*rng.integers(1, 30, 300), 5_000, 6_000, 7_000, 5_000, 5_000, 5_000]
    parts = [rng.integers(-128, 128, (length, 3)) for length in lengths]
    parts[-1] = CORNERS[rng.integers(0, len(CORNERS), lengths[-1])]
    parts[-2] = np.full((lengths[-2], 3), -128)
    parts[-3] = np.where(np.arange(3) == 2, -128, np.full((lengths[-3], 3), 127))
    for index in (-4, -5):  # these fit 20 bits
        parts[index][:, 2] = rng.integers(-12, 13, lengths[index])
    order = rng.permutation(len(parts))
    rows = np.concatenate([parts[index] for index in order])
    starts = np.cumsum([0, *(len(parts[index]) for index in order)])[:-1]
    # A pause is a row of noise; a sum's first row stays in front of its others.
    repeats = np.where(rng.random(len(rows)) < 0.2, rng.integers(1, 5, len(rows)), 1)
    ends = np.cumsum(repeats) - 1
    operands = rng.integers(-128, 128, (ends[-1] + 1, 3))
    operands[ends] = rows
    valid, first = np.zeros(len(operands), bool), rng.random(len(operands)) < 0.5
    valid[ends] = True
    first[ends] = False
    first[ends[starts]] = True
    # The stimulus starts with a product.
    return stimulus(operands[ends[0] :], first[ends[0] :], valid[ends[0] :])


def test_all_pairs_of_corners_spill_both_ways_and_sum_exactly(tmp_path: Path, seed: int) -> None:
    tested = corner_sums()
    spills = np.diff(tested.sums[0] >> 16)[~tested.inputs["first"][1:]]
    counts = {
        int(step): int(n) for step, n in zip(*np.unique(spills, return_counts=True), strict=True)
    }
    assert set(counts) == {-1, 0, 1}
    assert min(counts.values()) > 1_000
    pairs = Together(STYLES, (24,))
    sources = [xc7.vendor_models()]
    out = cosim.run_vectors(pairs, tested.inputs, tmp_path, seed=seed, sources=sources)
    for style in STYLES:
        tested.assert_sums(out, 24, f"{style}_24_")


def test_all_products_are_exact(tmp_path: Path, rng: np.random.Generator, seed: int) -> None:
    tested = all_products(rng)
    pairs = Together(STYLES, (24,))
    sources = [xc7.vendor_models()]
    out = cosim.run_vectors(pairs, tested.inputs, tmp_path, seed=seed, sources=sources)
    for style in STYLES:
        tested.assert_sums(out, 24, f"{style}_24_")


def test_long_sums_with_pauses_are_exact_in_all_widths(
    tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    tested = long_sums(rng)
    pairs = Together(STYLES, ACC_WIDTHS)
    sources = [xc7.vendor_models()]
    out = cosim.run_vectors(pairs, tested.inputs, tmp_path, seed=seed, sources=sources)
    for style, acc_width in itertools.product(STYLES, ACC_WIDTHS):
        tested.assert_sums(out, acc_width, f"{style}_{acc_width}_")


@pytest.mark.parametrize(
    ("style", "unused", "multipliers", "luts", "flip_flops", "depth"),
    [
        ("instance", "acc1", 1, 12, 15, 4),
        ("inferred", "acc1", 1, 12, 15, 4),
        ("none", "upper", 0, 121, 131, 4),
    ],
)
def test_netlist_is_no_larger_than_documented(
    style: DspStyle, unused: str, multipliers: int, luts: int, flip_flops: int, depth: int
) -> None:
    netlist = xc7.synthesize(xc7.Without(dual_mac(style, 24), [unused]))
    print(style, netlist)
    assert netlist.multipliers == multipliers
    assert netlist.luts <= luts
    assert netlist.flip_flops <= flip_flops
    assert netlist.depth <= depth


@pytest.mark.parametrize("style", ["instance", "inferred"])
def test_netlist_sums_exactly(
    style: DspStyle, tmp_path: Path, rng: np.random.Generator, seed: int
) -> None:
    tested = long_sums(rng)
    pair = xc7.Without(dual_mac(style, 24), ["acc1"])
    sources, netlist = [xc7.vendor_models()], xc7.synthesize(pair).verilog
    out = cosim.run_vectors(
        pair, tested.inputs, tmp_path, seed=seed, sources=sources, netlist=netlist
    )
    out["acc1"] = wrapped(out["upper"] - (out["acc0"] >> 16), 24)
    tested.assert_sums(out, 24)
