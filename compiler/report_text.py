"""report.txt: report.json's figures as tables of plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qcompile.compiler.parts import Row, folded, operator_of
from qcompile.compiler.throughput import queued_facts

PATH_END = 48
"""Characters of a register's name."""


def to_text(record: Mapping[str, Any]) -> str:
    """The whole report, from report.json's content."""
    model, target, array = record["model"], record["target"], record["array"]
    facts = [
        ("model", f"{model['name']}, {model['macs']:,} MACs, {model['weights']:,} weights"),
        ("target", f"{target['family']} {target['device']} on {target['board']}"),
        ("array", f"{array['rows']} x {array['columns']}, {array['macs_per_cycle']} MACs a cycle"),
        ("requantization", record["requant"]),
        ("cycles", f"{record['cycles']:,} predicted, {record['utilization']:.1%} of the array"),
        ("clock", _clock(record)),
        ("latency", f"{record['latency_ms']:.2f} ms"),
        ("inferences", _inferences(record)),
        *queued_facts(record),
        ("bitstream", record["bitstream"] or "none"),
        *_machine_facts(record),
    ]
    width = max(len(name) for name, _ in facts)
    lines = [f"{name:<{width}}  {value}" for name, value in facts]
    tables = (_layer_lines(record), _usage_lines(record), _path_lines(record))
    return "\n".join([*lines, *(line for rows in tables if rows for line in ("", *rows)), ""])


def _clock(record: Mapping[str, Any]) -> str:
    reached = record["fmax_mhz"]
    timed = f", {reached:.2f} MHz reached" if reached is not None else ", not placed and routed"
    return f"{record['clock_mhz']:.2f} MHz{timed}"


def _inferences(record: Mapping[str, Any]) -> str:
    linked = record["inferences_per_second_with_link"]
    behind = f", {linked:,.1f} with the host link" if linked is not None else ""
    return f"{record['inferences_per_second']:,.1f} a second{behind}"


def _machine_facts(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was chosen for the model, and what larger devices would give."""
    if "machine" not in record:
        return []
    facts = [(name.replace("_", " "), plain(value)) for name, value in record["machine"].items()]
    larger = record["larger_devices"]
    gains = ", ".join(
        f"{name}: {cycles:,} cycles ({record['cycles'] / cycles:.2f} times as fast)"
        for name, cycles in larger.items()
        if round(record["cycles"] / cycles, 2) > 1
    )
    none = "none is faster with this model and these options" if larger else "none of the family"
    return [*facts, ("larger devices", gains or none)]


def _layer_lines(record: Mapping[str, Any]) -> list[str]:
    limited = "machine" in record
    packed = any(layer.get("weight_bits", 8) < 8 for layer in record["layers"])
    peak = record["array"]["macs_per_cycle"]
    rows = [
        _layer_cells(parts, peak, packed=packed, limited=limited)
        for parts in folded(record["layers"])
    ]
    head = ["layer", "op", "MACs", "cycles", "array", *(["weights"] if packed else [])]
    return table([*head, *(["limited by"] if limited else [])], rows)


def _layer_cells(
    parts: Sequence[Row], peak: int, *, packed: bool, limited: bool
) -> tuple[str, ...]:
    """A layer with all its parts; what limits it is what limits its longest."""
    macs, cycles = (sum(part[name] for part in parts) for name in ("macs", "cycles"))
    longest = max(parts, key=lambda part: part["cycles"])
    bits = " and ".join(sorted({str(part.get("weight_bits")) for part in parts}))
    return (
        shorten(parts[-1]["name"]),
        operator_of(parts),
        f"{macs:,}",
        f"{cycles:,}",
        f"{macs / (cycles * peak) if cycles else 0:.1%}",
        *([f"{bits} bits"] if packed else []),
        *([longest["limit"] or "-"] if limited else []),
    )


def _usage_lines(record: Mapping[str, Any]) -> list[str]:
    memory = [
        (f"memory: {name.replace('_', ' ')}", plain(x)) for name, x in record["memory"].items()
    ]
    cells = [(name, _used(cell)) for name, cell in (record["resources"] or {}).items()]
    if record["resources"] and "resources_from" in record:
        cells.append(("resources", f"counted by {record['resources_from']}"))
    width = max((len(name) for name, _ in memory + cells), default=0)
    return [f"{name:<{width}}  {value}" for name, value in memory + cells]


def _used(cell: Mapping[str, int]) -> str:
    used, total = cell["used"], cell["total"]
    text = f"{used:,} of {total:,} ({used / total:.1%}"
    if "budget" not in cell:
        return f"{text})"
    kept = "within" if used <= cell["budget"] else "beyond"
    return f"{text}, {kept} the {cell['budget']:,} that an array may take)"


def _path_lines(record: Mapping[str, Any]) -> list[str]:
    """What limits the clock, as far as a netlist shows it."""
    if not record.get("paths"):
        return []
    rows = [
        (
            shorten(path["start"], PATH_END),
            shorten(path["end"], PATH_END),
            *(str(path[kind]) for kind in ("levels", "luts", "carries", "dsps")),
        )
        for path in record["paths"]
    ]
    head = ("deepest paths from", "to", "levels", "LUTs", "carry chains", "DSPs")
    return table(head, rows)


def plain(value: object) -> str:
    """A fact as tables show it: whole numbers with commas."""
    return f"{value:,}" if isinstance(value, int) else str(value)


def shorten(name: str, limit: int = 40) -> str:
    """A tensor's name for a table: TensorFlow joins all fused names with semicolons.

    The middle is cut: a path's beginning tells blocks apart, its end the operator.
    """
    last = name.rsplit(";", 1)[-1]
    if len(last) <= limit:
        return last
    front = (limit - 3) // 2
    return f"{last[:front]}...{last[front + 3 - limit :]}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 2) -> list[str]:
    """Lines of a plain table: the first `left` columns left, the others right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines = []
    for row in (head, ["-" * width for width in widths], *rows):
        cells = [
            f"{cell:<{width}}" if i < left else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
