"""Throughput of many inputs behind one another, as reports say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """Many inputs behind one another.

    Attributes
    ----------
    beats_in, beats_out : int
        Of 32 bits: one input's, and its outputs'.
    cycles : int or None
        Predicted from one start to the next; None: the serial line sets the pace.
    note : str
        What overlaps, or why nothing does.
    """

    beats_in: int
    beats_out: int
    cycles: int | None
    note: str

    def record(self, clock_mhz: float, rate_with_link: float | None) -> dict[str, Any]:
        """For report.json; without cycles the rate is that of the serial line."""
        rate = rate_with_link if self.cycles is None else round(clock_mhz * 1e6 / self.cycles, 2)
        return {"inferences_per_second": rate, **asdict(self)}


def queued_facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """For report.txt, from report.json's content: beside the latency, where it is known."""
    queued = record.get("queued")
    if queued is None:
        return []
    if queued["cycles"] is None:  # what the line `inferences` says already
        return [("inputs queued", f"no faster: {queued['note']}")]
    rate = f"{queued['inferences_per_second']:,.1f} a second"
    return [("inputs queued", f"{rate}: {queued['note']}")]
