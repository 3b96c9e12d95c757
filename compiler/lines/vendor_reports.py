"""What place and route of a 7-series device came to, read from the tools' own reports.

Only what carries a name in its heading is read, never a place in a line: Vivado's columns change
from version to version.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

from qcompile.compiler.report import Resource

SLACKS = ("WNS(ns)", "WHS(ns)", "WPWS(ns)")
"""Vivado's worst slacks: setup, hold, pulse width; negative where the clock is too fast."""
VIVADO_CELLS = {
    "lut": ("Slice LUTs",),
    "ff": ("Slice Registers",),
    "dsp": ("DSPs",),
    "bram36": ("Block RAM Tile",),
}
NEXTPNR_CELLS = {"lut": "SLICE_LUTX", "ff": "SLICE_FFX", "dsp": "DSP48E1", "bram36": "RAMB36E1"}
"""Of `lut` and `ff`: nextpnr counts both halves of a look-up table, and has twice as many."""
UTILISATION = "Device utilisation:"
USED = re.compile(r"(\w+):\s*(\d+)\s*/\s*(\d+)")
FREQUENCY = re.compile(
    r"Max frequency for clock\s+'(?P<clock>[^']*)':\s*(?P<reached>[\d.]+) MHz"
    r" \((?:PASS|FAIL) at (?P<asked>[\d.]+) MHz\)"
)


class UnreadableReport(ValueError):
    """A report does not have what is looked for; says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A placed and routed design.

    Attributes
    ----------
    fmax_mhz : float
        The fastest clock of the array that its paths allow.
    slack_ns : float or None
        The worst setup slack, where the tool tells it.
    met : bool
        Whether every timing constraint holds.
    resources : mapping
        As in a report.
    """

    fmax_mhz: float
    slack_ns: float | None
    met: bool
    resources: Mapping[str, Resource]


def read_vivado(timing: str, utilization: str, clock_mhz: float) -> Placed:
    """From `report_timing_summary` and `report_utilization` after routing.

    The worst setup slack of any clock counts as the array's.
    """
    slacks = _slacks(timing)
    period = 1e3 / clock_mhz
    if slacks[0] >= period:
        raise UnreadableReport(f"a slack of {slacks[0]} ns in a clock of {period:.3f} ns")
    return Placed(
        fmax_mhz=round(1e3 / (period - slacks[0]), 3),
        slack_ns=slacks[0],
        met=all(slack >= 0 for slack in slacks),
        resources=_vivado_resources(utilization),
    )


def _slacks(timing: str) -> list[float]:
    """Those of `SLACKS`; of the first table that has them, which is the whole design's."""
    rows = timing.splitlines()
    for index, row in enumerate(rows):
        names = re.split(r"\s{2,}", row.strip())
        if not set(SLACKS) <= set(names):
            continue
        values = rows[index + 2].split() if index + 2 < len(rows) else []
        found = dict(zip(names, values, strict=False))
        try:
            return [float(found[name]) for name in SLACKS]
        except (KeyError, ValueError) as error:
            raise UnreadableReport(f"no number of {', '.join(SLACKS)}: {values}") from error
    raise UnreadableReport(f"no table with {', '.join(SLACKS)}")


def _vivado_resources(utilization: str) -> dict[str, Resource]:
    rows = {name: (used, total) for name, used, total in _site_rows(utilization)}
    found = {}
    for kind, names in VIVADO_CELLS.items():
        used = next((rows[name] for name in names if name in rows), None)
        if used is None:
            raise UnreadableReport(f"no row of {' or '.join(names)}")
        found[kind] = Resource(used=ceil(used[0]), total=int(used[1]))
    return found


def _site_rows(utilization: str) -> Iterator[tuple[str, float, float]]:
    """Site type, used, available; every table tells in its heading where these stand."""
    columns: dict[str, int] = {}
    for line in utilization.splitlines():
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if "Used" in cells and "Available" in cells:
            columns = {name: index for index, name in enumerate(cells)}
        elif columns and len(cells) == len(columns):
            name = cells[0].rstrip("*")
            try:
                yield name, float(cells[columns["Used"]]), float(cells[columns["Available"]])
            except ValueError:  # a row below another one leaves its cells empty
                continue


def read_nextpnr(log: str, clock_mhz: float) -> Placed:
    """From the log of nextpnr-xilinx: the last frequency of each clock, the last utilisation.

    It does not follow a clock through a PLL. The clock that is farthest behind what was asked of it
    counts as the array's.
    """
    last = {
        found["clock"]: float(found["reached"]) / float(found["asked"])
        for found in FREQUENCY.finditer(log)
    }
    if not last:
        raise UnreadableReport("no 'Max frequency for clock'")
    worst = min(last.values())
    return Placed(
        fmax_mhz=round(worst * clock_mhz, 3),
        slack_ns=None,
        met=worst >= 1,
        resources=_nextpnr_resources(log),
    )


def _nextpnr_resources(log: str) -> dict[str, Resource]:
    """Halves of block RAMs join those that are whole."""
    rows = {
        name: (int(used), int(total))
        for name, used, total in USED.findall(log.rpartition(UTILISATION)[2])
    }
    missing = [name for name in NEXTPNR_CELLS.values() if name not in rows]
    if missing:
        raise UnreadableReport(f"no utilisation of {', '.join(missing)}")
    found = {
        kind: Resource(used=rows[name][0], total=rows[name][1])
        for kind, name in NEXTPNR_CELLS.items()
    }
    halves = rows.get("RAMB18E1", (0, 0))[0]
    blocks = found["bram36"]
    return {**found, "bram36": Resource(used=blocks.used + ceil(halves / 2), total=blocks.total)}
