"""Layers that are parts of one: tables show them as one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def folded(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows by the layer that they belong to, itself last, in the order in which these stand.

    A part has its layer's name with a colon and more behind it, such as `y:channels0` of `y`.
    """
    names = {row["name"] for row in rows}
    parts: dict[str, list[Row]] = {name: [] for name in names}
    for row in rows:
        owner = _owner(row["name"], names)
        if owner != row["name"]:
            parts[owner].append(row)
    return [[*parts[row["name"]], row] for row in rows if _owner(row["name"], names) == row["name"]]


def _owner(name: str, names: set[str]) -> str:
    """The layer whose part `name` is; itself where it is none."""
    pieces = name.split(":")
    fronts = (":".join(pieces[:count]) for count in range(1, len(pieces)))
    return next((front for front in fronts if front in names), name)


def operator_of(parts: Sequence[Row]) -> str:
    """The operator, and in how many parts it runs."""
    operator = str(parts[-1]["op"])
    return operator if len(parts) == 1 else f"{operator} in {len(parts)}"


def total(parts: Sequence[Row], field: str) -> int | None:
    """The sum of what the parts have; None where none has it."""
    known = [row[field] for row in parts if row[field] is not None]
    return sum(known) if known else None
