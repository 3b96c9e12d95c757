"""What the commands ask of a kind of machine; `small_flow` and `lines.flow` answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from qcompile.compiler import ir, report
from qcompile.compiler.artifact import Build
from qcompile.compiler.layer_table import Row
from qcompile.compiler.simulate import Engine
from qcompile.compiler.targets import AnyBoard
from qcompile.hw.lines.config import DspStyle

Mode = Literal["exact", "shift"]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a user may ask for; None and True leave it to the machine.

    Attributes
    ----------
    requant : "exact" or "shift"
    softmax : "host" or "chip"
    bitstream : bool
        Make one, if tools at hand can.
    rows, columns : int or None
        Of the array, all lines together.
    clock_hz : int or None
    dsp : "instance", "inferred", "none" or None
        How multipliers are written.
    pe : "int8", "log" or None
        The array's elements: multipliers, or shifts by logarithmic activations.
    synth : bool
        Count what the design takes with Yosys, rather than estimate it.
    """

    requant: Mode = "exact"
    softmax: Literal["host", "chip"] = "host"
    bitstream: bool = True
    rows: int | None = None
    columns: int | None = None
    clock_hz: int | None = None
    dsp: DspStyle | None = None
    pe: Literal["int8", "log"] | None = None
    synth: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a build directory gets, but for the model's own files and the report.

    Attributes
    ----------
    model : ir.Model
        With inputs as the host sends them.
    files : mapping of name to content
    figures : report.Figures
    manifest : mapping
        What depends on the machine: target, configuration, accelerator, program, clock_hz...
    notes : tuple of str
        Sentences for the user.
    place : callable or None
        Given the build directory that was written from all this, makes a bitstream there and
        returns the build that has it; None where nothing is left to do.
    """

    model: ir.Model
    files: Mapping[str, bytes]
    figures: report.Figures
    manifest: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    place: Callable[[Path, Progress], Built] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What `check` says of a model that fits: its layers, its figures, its program in flash (None:
    it stands in the bitstream)."""

    rows: list[Row]
    figures: report.Figures
    flash: Mapping[str, int] | None


class Flow(Protocol):
    """A machine on a board: compiles models for it, and simulates what was compiled.

    `QcompileError` where a model, an option or a tool does not do.
    """

    @property
    def board(self) -> AnyBoard: ...

    def require(self, options: Options) -> None:
        """Refuse options that no model can be built with; UsageError."""

    def build(self, model: ir.Model, options: Options, progress: Progress) -> Built:
        """Everything for a build directory."""
        ...

    def check(self, model: ir.Model, options: Options) -> Checked:
        """Without Verilog; CapacityError or UnsupportedError where the model does not fit."""
        ...

    def rows(self, model: ir.Model, options: Options) -> list[Row]:
        """The layers of a model that does not fit; none where an operator has no layer form."""
        ...

    def form(self, model: ir.Model, build: Build) -> ir.Model:
        """The model with its inputs as the build has them."""
        ...

    def engine(self, build: Build, *, seed: int, progress: Progress) -> Engine:
        """The build's Verilog in a simulator, compiled once."""
        ...


def values_manifest(model: ir.Model) -> dict[str, Any]:
    """The manifest's part that is the same for all machines: the host's side of a model."""
    return {
        "inputs": [_value(value) for value in model.inputs],
        "outputs": [_value(value) for value in model.outputs],
        "prologue": list(model.prologue),
        "epilogue": list(model.epilogue),
    }


def _value(value: ir.Value) -> dict[str, Any]:
    """A model input or output as the manifest lists it."""
    quantization = None if value.quantization is None else asdict(value.quantization)
    return {
        "name": value.name,
        "shape": list(value.shape),
        "dtype": value.dtype,
        "quantization": quantization,
    }
