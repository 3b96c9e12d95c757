"""Integer constants of the hardware's residual adder, found and proved for all pairs of codes.

The hardware computes a sum of two table entries with `ADD_FRACTION` fraction bits (`hw.eltwise`). A
pair of codes whose result is c wants that sum within an interval of c: 65,536 constraints of the
form low <= table_a[a] + table_b[b] <= high over 512 integers. Such *difference constraints* either
have an integer solution, which the shortest-path relaxation of Bellman and Ford finds, or provably
none; then tables near the plane of the codes are returned with the pairs that they get wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompile.compiler.ir import Int8Array, Int32Array, Int64Array
from qcompile.hw.program import ADD_ENTRY_BITS, ADD_FRACTION

CODES = 256
HALF = 1 << (ADD_FRACTION - 1)
LARGEST = (1 << (ADD_ENTRY_BITS - 1)) - 1
ANY = 1 << 40
"""A bound that no sum reaches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddTables:
    """Tables for the hardware's residual adder.

    Attributes
    ----------
    a, b : int32 [256]
        Entries by code + 128, as the hardware wants them: table `a` holds the rounding's half.
    differing : int64 [n, 2]
        Pairs of codes whose result is not the wanted one; empty when the tables are proved.
    """

    a: Int32Array
    b: Int32Array
    differing: Int64Array


def add_codes(a: Int32Array, b: Int32Array, *, low: int = -128, high: int = 127) -> Int8Array:
    """What the hardware computes with tables a and b for all pairs: int8 [256, 256]."""
    total = a.astype(np.int64)[:, np.newaxis] + b.astype(np.int64)[np.newaxis, :]
    tie = total & ((1 << ADD_FRACTION) - 1) == 0
    rounded = np.where(tie, total >> ADD_FRACTION & ~1, total >> ADD_FRACTION)
    return np.clip(rounded, low, high).astype(np.int8)


def sum_tables(offset: int) -> AddTables:
    """Tables for a + b + offset, saturated; `b` is the same for all offsets. |offset| <= 256."""
    codes = np.arange(CODES) - CODES // 2
    return AddTables(
        a=((codes + offset << ADD_FRACTION) + HALF).astype(np.int32),
        b=(codes << ADD_FRACTION).astype(np.int32),
        differing=np.zeros((0, 2), np.int64),
    )


def solve_add_tables(table: Int8Array, *, low: int = -128, high: int = 127) -> AddTables:
    """Tables whose sum gives `table` for every pair of codes.

    Parameters
    ----------
    table : int8 [256, 256]
        Wanted codes, by code + 128 of both operands, rising in both.
    low, high : int
        What a later clamp does: a wanted code at a limit may come from any sum beyond it.
    """
    least, most = _bounds(table.astype(np.int64), low, high)
    start = _nearest_plane(table, low, high)
    entries_a, entries_b = (
        np.clip(entries, -LARGEST, LARGEST).astype(np.int32)
        for entries in _relax(start, least, most)
    )
    differing = np.argwhere(add_codes(entries_a, entries_b, low=low, high=high) != table)
    return AddTables(a=entries_a, b=entries_b, differing=differing - CODES // 2)


def _bounds(codes: Int64Array, low: int, high: int) -> tuple[Int64Array, Int64Array]:
    """Smallest and largest sum (with the half inside) that gives each code.

    A sum without rest is a tie: its code is even, so an odd code's interval leaves both ends out.
    """
    odd = codes & 1
    least = np.where(codes <= low, -ANY, (codes << ADD_FRACTION) + odd)
    most = np.where(codes >= high, ANY, ((codes + 1) << ADD_FRACTION) - odd)
    return least, most


def _nearest_plane(table: Int8Array, low: int, high: int) -> tuple[Int64Array, Int64Array]:
    """Entries of the plane c = p * a + q * b + r that is nearest to the codes within limits."""
    within = (table > low) & (table < high)
    rows, columns = np.nonzero(within if within.any() else np.ones_like(within))
    terms = np.stack([rows, columns, np.ones_like(rows)], axis=1).astype(np.float64)
    wanted = table[rows, columns].astype(np.float64)
    (p, q, r), *_ = np.linalg.lstsq(terms, wanted, rcond=None)
    index = np.arange(CODES) - CODES // 2
    centre = ((p + q) * (CODES // 2) + r) / 2  # a half of the constant in each table
    a, b = ((slope * index + centre) * (1 << ADD_FRACTION) for slope in (p, q))
    return np.rint(a).astype(np.int64) + HALF, np.rint(b).astype(np.int64)


def _relax(
    start: tuple[Int64Array, Int64Array], least: Int64Array, most: Int64Array
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Entries within all bounds, or `start` where there are none.

    Only ever lowers table a and raises table b. A shortest path has at most 2 * 256 edges, so a
    change after as many rounds means that no solution exists.
    """
    a, b = start
    for _ in range(2 * CODES):
        lower_a = np.minimum(a, (most - b[np.newaxis, :]).min(axis=1))
        higher_b = np.maximum(b, (least - lower_a[:, np.newaxis]).max(axis=0))
        if np.array_equal(lower_a, a) and np.array_equal(higher_b, b):
            return a, b
        a, b = lower_a, higher_b
    return start
