"""The array of lines for a model and a device: a search over the cycle model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

from qcompile.compiler import ir, search
from qcompile.compiler.backend import for_accelerator, outputs_of
from qcompile.compiler.errors import CapacityError
from qcompile.compiler.lines import selftest
from qcompile.compiler.lines.backend import LinesCompiled, compile_graph
from qcompile.compiler.lines.machine import LinesMachine
from qcompile.compiler.lines.plan import LinePlan
from qcompile.compiler.lines.resources import CONTROL_DSPS, LinesResources, resources, roomy
from qcompile.compiler.passes.allocate import words_needed
from qcompile.hw.config import ACC_WIDTHS
from qcompile.hw.lines.config import LANE_CHOICES, MAX_LINES, DspStyle, LinesConfig
from qcompile.hw.lines.devices import DEVICES, LinesDevice
from qcompile.hw.lines.program import WORD_BITS
from qcompile.hw.lines.ram import BLOCK_ROWS
from qcompile.runtime.layouts import IMAGE_FIELD_BYTES

HEADER_WORDS = 8 * IMAGE_FIELD_BYTES // WORD_BITS
"""Of the program memory, before the program: the image's header."""
ROOM = 1 << 15
"""Words of an activation memory at most: 512 KB, more than any device has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """A model compiled for a number of lines and lanes, in the memories that it needs.

    The device decides only which pairs take a DSP: one trial serves all devices.
    """

    model: ir.Model
    config: LinesConfig
    compiled: LinesCompiled
    program_words: int
    cycles: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An array that runs the model, what it takes, and its estimated cycles.

    `model` has its inputs as the host sends them. `compiled` is for the same array with more
    memory: places and program are the smaller one's too.
    `program_words` are those of the header, the model's and the multiply self-test's.
    """

    model: ir.Model
    config: LinesConfig
    compiled: LinesCompiled
    program_words: int
    resources: LinesResources
    total_cycles: int

    @property
    def running(self) -> LinesCompiled:
        """The compilation for the array as it is."""
        return replace(self.compiled, config=self.config)

    @property
    def cells(self) -> int:
        """LUTs."""
        return self.resources.luts

    def limits(self) -> dict[str, str]:
        """Layer name -> "compute", "activation bandwidth" or "drain"."""
        pairs = zip(self.compiled.layers, self.compiled.plans, strict=True)
        return {layer.name: _limit(plan, self.config) for layer, plan in pairs}


def _limit(plan: LinePlan, config: LinesConfig) -> str:
    passes = plan.groups * plan.tiles * plan.passes
    return search.limit(
        {
            "compute": passes * plan.products,
            "activation bandwidth": passes * plan.pass_cycles,
            "drain": plan.cycles_estimate(config),
        }
    )


class Sizes:
    """The arrays of all sizes, or of those asked for, that run a model.

    The model is compiled once for each size, whatever the number of devices.

    Parameters
    ----------
    lines, columns, lanes : int
        Of `LinesConfig`; without, the search chooses. Columns are 16.
    dsp : "instance", "inferred" or "none"
        How pairs are written that could take a DSP.
    """

    def __init__(
        self,
        model: ir.Model,
        *,
        lines: int | None = None,
        columns: int | None = None,
        lanes: int | None = None,
        dsp: DspStyle = "inferred",
    ) -> None:
        self._model = model
        self._dsp: DspStyle = dsp
        if columns not in (None, 16):
            raise CapacityError(
                f"an array of lines has 16 columns, not {columns}",
                help="leave the columns to the compiler",
            )
        self._lines = range(1, MAX_LINES + 1) if lines is None else (lines,)
        self._lanes = LANE_CHOICES if lanes is None else (lanes,)

    @cached_property
    def _trials(self) -> list[_Trial]:
        sizes = product(self._lines, self._lanes)
        found = (_trials(self._model, lines, lanes) for lines, lanes in sizes)
        return [trial for trials in found for trial in trials]

    def candidates(self, device: LinesDevice) -> list[Candidate]:
        """An array for each size and form of its memories, with as many pairs in DSPs as the device
        has; not all fit it."""
        return [c for trial in self._trials for c in _candidates(trial, device, self._dsp)]

    def best(self, device: LinesDevice) -> Candidate:
        """The array with the fewest cycles, then LUTs; CapacityError says what does not fit."""
        found = self.fitting(device)
        if found is None:
            raise _too_large(self, device)
        return found

    def fitting(self, device: LinesDevice) -> Candidate | None:
        """As `best`; None where no array fits."""
        return search.best(c for c in self.candidates(device) if fits(c.resources, device))

    def larger(self, device: LinesDevice) -> dict[str, Candidate]:
        """What each larger device of the list would give, by its name; those that hold it."""
        beyond = (d for d in DEVICES.values() if d.luts > device.luts)
        return search.larger(beyond, self.fitting)


class SizesOf:
    """The `Sizes` of models that were asked for before; for all devices, they are made once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int | None, int | None, DspStyle], Sizes] = {}

    def __call__(
        self, model: ir.Model, lines: int | None, columns: int | None, dsp: DspStyle
    ) -> Sizes:
        key = (model.sha256, lines, columns, dsp)
        if key not in self._known:
            self._known[key] = Sizes(model, lines=lines, columns=columns, dsp=dsp)
        return self._known[key]


def size_for(
    model: ir.Model,
    device: LinesDevice,
    *,
    lines: int | None = None,
    columns: int | None = None,
    lanes: int | None = None,
) -> Candidate:
    """The best array for a device, of the size that is asked for; CapacityError where none fits."""
    return Sizes(model, lines=lines, columns=columns, lanes=lanes).best(device)


def fits(need: LinesResources, device: LinesDevice) -> bool:
    """Within the share of the device that an array may take."""
    return (
        need.luts <= device.lut_budget
        and need.dsps <= device.dsp_budget
        and need.block_rams <= device.block_ram_budget
    )


def with_room(config: LinesConfig) -> LinesConfig:
    """The same array with memories for every model that any device holds."""
    return replace(config, bank_words=ROOM // config.banks, weight_rows=1 << 15)


def forms(model: ir.Model, config: LinesConfig) -> Iterator[ir.Model]:
    """With inputs in the form of the fewest cycles, and in that of the fewest words if it is
    another; the size of the memories makes no difference."""
    machine = LinesMachine(with_room(config))
    fast, thrifty = (for_accelerator(model, machine, thrifty=few) for few in (False, True))
    yield fast
    if thrifty.graph.inputs != fast.graph.inputs:
        yield thrifty


def _trials(model: ir.Model, lines: int, lanes: int) -> Iterator[_Trial]:
    config = with_room(LinesConfig(lines=lines, lanes=lanes))
    found = (_trial(form, config) for form in forms(model, config))
    return (trial for trial in found if trial is not None)


def _trial(model: ir.Model, config: LinesConfig) -> _Trial | None:
    graph = model.graph
    compiled = compile_graph(graph, config)
    bound = max(layer.acc_bound for layer in compiled.layers)
    width = next((w for w in ACC_WIDTHS if bound < 1 << (w - 1)), None)
    if width is None:
        return None
    words = words_needed(compiled.layers, graph.inputs, outputs_of(graph), LinesMachine(config))
    rows = -(-len(compiled.program.weights) // config.lines)
    program = HEADER_WORDS + len(compiled.program.words) + selftest.program_words(config)
    return _Trial(
        model=model,
        config=replace(
            config,
            acc_width=width,
            adder=any(layer.residual is not None for layer in compiled.layers),
            bank_words=-(-max(words, selftest.set_words(config)) // config.banks),
            weight_rows=max(16, rows + selftest.weight_rows(config)),
        ),
        compiled=compiled,
        program_words=program,
        cycles=LinesMachine(config).estimate_plans(compiled.layers, compiled.plans),
    )


def _candidates(trial: _Trial, device: LinesDevice, dsp: DspStyle) -> Iterator[Candidate]:
    """With the last rows of the memories in LUTs, where that saves block RAM, or not."""
    dsps = device.dsp_budget - 2 * trial.config.lines * trial.config.lanes - CONTROL_DSPS
    if dsps < 0:
        return
    own = replace(trial.config, dsp=dsp, dsp_pairs=min(trial.config.pairs, dsps))
    for bank_words, weight_rows in product(_depths(own.bank_words), _depths(own.weight_rows)):
        config = replace(own, bank_words=bank_words, weight_rows=weight_rows)
        yield Candidate(
            model=trial.model,
            config=config,
            compiled=trial.compiled,
            program_words=trial.program_words,
            resources=resources(config, trial.program_words),
            total_cycles=trial.cycles,
        )


def _depths(rows: int) -> set[int]:
    """With room for as many rows as come for nothing."""
    return {roomy(rows), -(-rows // BLOCK_ROWS) * BLOCK_ROWS}


def _too_large(sizes: Sizes, device: LinesDevice) -> CapacityError:
    larger = sizes.larger(device)
    way = (
        f"use {next(iter(larger))}"
        if larger
        else "use a smaller model: no device of the list holds it"
    )
    found = sizes.candidates(device)
    context = _culprits(found, device) if found else ["its sums or loops are too long"]
    return CapacityError(f"no array of lines fits {device.name}", context=context, help=way)


def _culprits(found: Sequence[Candidate], device: LinesDevice) -> list[str]:
    """What the array with the least block RAM takes, and what takes most of it."""
    least = min(found, key=lambda c: (c.resources.block_rams, c.resources.luts))
    need, layers, plans = least.resources, least.compiled.layers, least.compiled.plans
    text = (
        f"the array with the least block RAM takes {need.block_rams:g} of"
        f" {device.block_ram_budget:g} block RAMs, {need.luts} of {device.lut_budget} LUTs,"
        f" {need.dsps} of {device.dsp_budget} DSPs"
    )
    word = least.config.columns
    by_bytes = {
        layer.name: plan.weight_words * word for layer, plan in zip(layers, plans, strict=True)
    }
    heaviest = max(by_bytes, key=lambda name: by_bytes[name])
    weights = (
        f"weights take {need.weight_blocks:g} of them: {sum(by_bytes.values()):,} bytes,"
        f" {by_bytes[heaviest]:,} of them in '{heaviest}'; all stand in block RAM"
    )
    widest, place = max(least.compiled.places.items(), key=lambda item: item[1].words)
    activations = (
        f"activations take {need.activation_blocks:g} of them: the largest is '{widest}'"
        f" {list(place.shape)}, {place.words * word:,} bytes"
    )
    parts = [weights, activations]
    return [text, *(parts if need.weight_blocks >= need.activation_blocks else reversed(parts))]
