"""report.json: what a build costs and what it reaches, predicted before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from qcompile.compiler.layers import Layer
from qcompile.compiler.lines.paths import TimingPath
from qcompile.compiler.throughput import Queued

BITS_PER_BYTE_ON_LINK = 10
"""UART 8N1: start bit, eight data bits, stop bit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFigures:
    """A layer of the accelerator: its output tensor's name, operator, MACs and predicted cycles;
    `limit` is what it waits for most, where the machine tells; `depthwise` where each output
    channel has one input channel; `weight_bits` those of a weight in the program, where machines
    differ in it."""

    name: str
    op: str
    macs: int
    cycles: int
    limit: str | None = None
    depthwise: bool = False
    weight_bits: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Cells used, how many the device has, and, where the machine tells, how many it may take."""

    used: int
    total: int
    budget: int | None = None


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
    queued : Queued or None
        None: the machine takes one input at a time.
    bitstream : str or None
        Its file name inside the build directory.
    timing : mapping or None
        `met`, and `slack_ns` where the tool tells it; None where nothing was placed.
    paths : tuple of TimingPath
        The deepest ones of the netlist that was counted, before placement.
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
    paths: tuple[TimingPath, ...] = ()
    timing: Mapping[str, Any] | None = None
    queued: Queued | None = None

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
            name: {key: count for key, count in asdict(resource).items() if count is not None}
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
    if figures.queued is not None:
        record["queued"] = figures.queued.record(figures.clock_mhz, figures.rate_with_link)
    if figures.machine:
        record |= {
            "machine": dict(figures.machine),
            "resources_from": figures.resources_from,
            "larger_devices": dict(figures.larger),
            "timing": None if figures.timing is None else dict(figures.timing),
            "paths": [{"levels": path.levels, **asdict(path)} for path in figures.paths],
        }
        for entry, layer in zip(record["layers"], figures.layers, strict=True):
            entry |= {"limit": layer.limit, "depthwise": layer.depthwise}
            if layer.weight_bits is not None:
                entry["weight_bits"] = layer.weight_bits
    return record


def weight_count(layers: Sequence[Layer]) -> int:
    """Weights of a model, biases not counted; bands of one layer share theirs."""
    return sum(int(layer.weight[0].size) for layer in layers if layer.macs and layer.band == 0)
