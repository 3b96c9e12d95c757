"""report.json and report.txt: what a build costs and what it reaches, predicted before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qcompile.compiler.layers import Layer

BITS_PER_BYTE_ON_LINK = 10
"""UART 8N1: start bit, eight data bits, stop bit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFigures:
    """A layer of the accelerator: its output tensor's name, operator, MACs and predicted cycles;
    `limit` is what it waits for most, where the machine tells; `depthwise` where each output
    channel has one input channel."""

    name: str
    op: str
    macs: int
    cycles: int
    limit: str | None = None
    depthwise: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Cells used, and how many the device has."""

    used: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Everything that a report says.

    Attributes
    ----------
    weights : int
        Weights of the model, biases not counted.
    cycles : int
        Predicted, from start to the last output byte.
    memory : mapping
        As report.json lists it: words or bytes used and available by name.
    resources : mapping of lut, ff, dsp, bram, spram to Resource, or None without place and route
    resources_from : str
        Who counted them.
    fmax_mhz : float or None
        After the margins for paths that the tools do not time; None without place and route.
    clock_mhz : float
        The clock that the design runs at.
    link_bytes : int
        Bytes on the host link for one inference, both directions.
    link_baud : int or None
        None: the link is no serial line.
    machine : mapping
        What was chosen for the model, by name.
    larger : mapping
        Larger devices of the family -> predicted cycles there.
    bitstream : str or None
        Its file name inside the build directory.
    """

    model: str
    sha256: str
    weights: int
    family: str
    device: str
    board: str
    rows: int
    columns: int
    requant: str
    layers: tuple[LayerFigures, ...]
    cycles: int
    memory: Mapping[str, Any]
    resources: Mapping[str, Resource] | None
    fmax_mhz: float | None
    clock_mhz: float
    link_bytes: int
    link_baud: int | None
    bitstream: str | None
    resources_from: str = "nextpnr"
    machine: Mapping[str, Any] = field(default_factory=dict)
    larger: Mapping[str, int] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(layer.macs for layer in self.layers)

    @property
    def macs_per_cycle(self) -> int:
        """The array's peak."""
        return self.rows * self.columns

    @property
    def latency_seconds(self) -> float:
        """One inference on the core."""
        return self.cycles / (self.clock_mhz * 1e6)

    @property
    def rate_with_link(self) -> float | None:
        """Inferences a second with their bytes on the serial line; None where there is none."""
        if self.link_baud is None:
            return None
        link_seconds = self.link_bytes * BITS_PER_BYTE_ON_LINK / self.link_baud
        return round(1 / (self.latency_seconds + link_seconds), 2)

    def utilization(self, macs: int, cycles: int) -> float:
        """Share of the array's multiplications that are the model's."""
        return macs / (cycles * self.macs_per_cycle) if cycles else 0.0


def to_record(figures: Figures) -> dict[str, Any]:
    """The content of report.json."""
    resources = None
    if figures.resources is not None:
        resources = {
            name: {"used": resource.used, "total": resource.total}
            for name, resource in figures.resources.items()
        }
    record: dict[str, Any] = {
        "model": {
            "name": figures.model,
            "sha256": figures.sha256,
            "macs": figures.macs,
            "weights": figures.weights,
        },
        "target": {
            "family": figures.family,
            "device": figures.device,
            "board": figures.board,
        },
        "array": {
            "rows": figures.rows,
            "columns": figures.columns,
            "macs_per_cycle": figures.macs_per_cycle,
        },
        "requant": figures.requant,
        "layers": [
            {
                "name": layer.name,
                "op": layer.op,
                "macs": layer.macs,
                "cycles": layer.cycles,
                "utilization": round(figures.utilization(layer.macs, layer.cycles), 4),
            }
            for layer in figures.layers
        ],
        "cycles": figures.cycles,
        "utilization": round(figures.utilization(figures.macs, figures.cycles), 4),
        "memory": dict(figures.memory),
        "resources": resources,
        "fmax_mhz": figures.fmax_mhz,
        "clock_mhz": figures.clock_mhz,
        "latency_ms": round(figures.latency_seconds * 1e3, 4),
        "inferences_per_second": round(1 / figures.latency_seconds, 2),
        "inferences_per_second_with_link": figures.rate_with_link,
        "bitstream": figures.bitstream,
    }
    if figures.machine:
        record |= {
            "machine": dict(figures.machine),
            "resources_from": figures.resources_from,
            "larger_devices": dict(figures.larger),
        }
        for entry, layer in zip(record["layers"], figures.layers, strict=True):
            entry |= {"limit": layer.limit, "depthwise": layer.depthwise}
    return record


def to_text(record: Mapping[str, Any]) -> str:
    """report.txt: the same figures as tables of plain text, from report.json's content."""
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
        ("bitstream", record["bitstream"] or "none"),
        *_machine_facts(record),
    ]
    width = max(len(name) for name, _ in facts)
    lines = [f"{name:<{width}}  {value}" for name, value in facts]
    return "\n".join([*lines, "", *_layer_lines(record), "", *_usage_lines(record), ""])


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
    facts = [(name.replace("_", " "), _plain(value)) for name, value in record["machine"].items()]
    larger = record["larger_devices"].items()
    gains = ", ".join(
        f"{name}: {cycles:,} cycles ({record['cycles'] / cycles:.2f} times as fast)"
        for name, cycles in larger
    )
    return [*facts, ("larger devices", gains or "none of the family")]


def _layer_lines(record: Mapping[str, Any]) -> list[str]:
    limited = "machine" in record
    rows = [
        (
            shorten(layer["name"]),
            layer["op"],
            f"{layer['macs']:,}",
            f"{layer['cycles']:,}",
            f"{layer['utilization']:.1%}",
            *([layer["limit"] or "-"] if limited else []),
        )
        for layer in record["layers"]
    ]
    head = ("layer", "op", "MACs", "cycles", "array", *(["limited by"] if limited else []))
    return table(head, rows)


def _usage_lines(record: Mapping[str, Any]) -> list[str]:
    memory = [
        (f"memory: {name.replace('_', ' ')}", _plain(x)) for name, x in record["memory"].items()
    ]
    cells = [
        (name, f"{cell['used']:,} of {cell['total']:,} ({cell['used'] / cell['total']:.1%})")
        for name, cell in (record["resources"] or {}).items()
    ]
    if record["resources"] and "resources_from" in record:
        cells.append(("resources", f"counted by {record['resources_from']}"))
    width = max((len(name) for name, _ in memory + cells), default=0)
    return [f"{name:<{width}}  {value}" for name, value in memory + cells]


def _plain(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def weight_count(layers: Sequence[Layer]) -> int:
    """Weights of a model, biases not counted; bands of one layer share theirs."""
    return sum(int(layer.weight[0].size) for layer in layers if layer.macs and layer.band == 0)


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
