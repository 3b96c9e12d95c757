"""report.json and report.txt: what a build costs and what it reaches, predicted before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BITS_PER_BYTE_ON_LINK = 10
"""UART 8N1: start bit, eight data bits, stop bit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFigures:
    """A layer of the accelerator: its output tensor's name, operator, MACs and predicted cycles."""

    name: str
    op: str
    macs: int
    cycles: int


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
    fmax_mhz : float or None
        After the margins for paths that the tools do not time; None without place and route.
    clock_mhz : float
        The clock that the design runs at.
    link_bytes : int
        Bytes on the host link for one inference, both directions.
    link_baud : int
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
    link_baud: int
    bitstream: str | None

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
    def link_seconds(self) -> float:
        """One inference's bytes on the host link."""
        return self.link_bytes * BITS_PER_BYTE_ON_LINK / self.link_baud

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
    return {
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
        "inferences_per_second_with_link": round(
            1 / (figures.latency_seconds + figures.link_seconds), 2
        ),
        "bitstream": figures.bitstream,
    }


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
    ]
    width = max(len(name) for name, _ in facts)
    lines = [f"{name:<{width}}  {value}" for name, value in facts]
    return "\n".join([*lines, "", *_layer_lines(record), "", *_usage_lines(record), ""])


def _clock(record: Mapping[str, Any]) -> str:
    reached = record["fmax_mhz"]
    timed = f", {reached:.2f} MHz reached" if reached is not None else ", not placed and routed"
    return f"{record['clock_mhz']:.2f} MHz{timed}"


def _inferences(record: Mapping[str, Any]) -> str:
    return (
        f"{record['inferences_per_second']:,.1f} a second, "
        f"{record['inferences_per_second_with_link']:,.1f} with the host link"
    )


def _layer_lines(record: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            shorten(layer["name"]),
            layer["op"],
            f"{layer['macs']:,}",
            f"{layer['cycles']:,}",
            f"{layer['utilization']:.1%}",
        )
        for layer in record["layers"]
    ]
    return table(("layer", "op", "MACs", "cycles", "array"), rows)


def _usage_lines(record: Mapping[str, Any]) -> list[str]:
    memory = [
        (f"memory: {name.replace('_', ' ')}", _plain(x)) for name, x in record["memory"].items()
    ]
    cells = [
        (name, f"{cell['used']:,} of {cell['total']:,} ({cell['used'] / cell['total']:.1%})")
        for name, cell in (record["resources"] or {}).items()
    ]
    width = max((len(name) for name, _ in memory + cells), default=0)
    return [f"{name:<{width}}  {value}" for name, value in memory + cells]


def _plain(value: object) -> str:
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
