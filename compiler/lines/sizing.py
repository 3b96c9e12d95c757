"""The array of lines for a model and a device: a search over the cycle model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qcompile.compiler import ir
from qcompile.compiler.backend import for_accelerator, outputs_of
from qcompile.compiler.errors import CapacityError
from qcompile.compiler.lines.backend import LinesCompiled, compile_graph
from qcompile.compiler.lines.machine import LinesMachine
from qcompile.compiler.lines.plan import LinePlan
from qcompile.compiler.lines.resources import CONTROL_DSPS, LinesResources, resources
from qcompile.compiler.passes.allocate import allocate
from qcompile.hw.config import ACC_WIDTHS
from qcompile.hw.lines.config import LANE_CHOICES, MAX_LINES, LinesConfig
from qcompile.hw.lines.devices import DEVICES, LinesDevice

ROOM = 1 << 15
"""Words of an activation memory at most: 512 KB, more than any device has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """A model compiled for a number of lines and lanes, in the memories that it needs.

    The device decides only which pairs take a DSP: one trial serves all devices.
    """

    config: LinesConfig
    compiled: LinesCompiled
    cycles: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An array that runs the model, what it takes, and its estimated cycles."""

    config: LinesConfig
    compiled: LinesCompiled
    resources: LinesResources
    cycles: int

    def limits(self) -> dict[str, str]:
        """Layer name -> "compute", "activation reads" or "drain"."""
        pairs = zip(self.compiled.layers, self.compiled.plans, strict=True)
        return {layer.name: _limit(plan, self.config) for layer, plan in pairs}


def _limit(plan: LinePlan, config: LinesConfig) -> str:
    array = plan.tiles * plan.passes * plan.pass_cycles
    if plan.cycles_estimate(config) > plan.groups * array:
        return "drain"
    return "compute" if plan.pass_cycles == plan.products else "activation reads"


def size_for(model: ir.Model, device: LinesDevice) -> Candidate:
    """The array with the fewest cycles, then LUTs; CapacityError says what does not fit."""
    trials = _trials(model)
    found = _candidates(trials, device)
    fitting = [c for c in found if fits(c.resources, device)]
    if fitting:
        return min(fitting, key=lambda c: (c.cycles, c.resources.luts))
    raise _too_large(trials, found, device)


def fits(need: LinesResources, device: LinesDevice) -> bool:
    """Within the share of the device that an array may take."""
    return (
        need.luts <= device.lut_budget
        and need.dsps <= device.dsp_budget
        and need.block_rams <= device.block_ram_budget
    )


def candidates(model: ir.Model, device: LinesDevice) -> list[Candidate]:
    """An array for each number of lines and lanes, with as many pairs in DSPs as the device has."""
    return _candidates(_trials(model), device)


def _trials(model: ir.Model) -> list[_Trial]:
    found = (_trial(model, n, lanes) for n in range(1, MAX_LINES + 1) for lanes in LANE_CHOICES)
    return [trial for trial in found if trial is not None]


def _trial(model: ir.Model, lines: int, lanes: int) -> _Trial | None:
    config = LinesConfig(lines=lines, lanes=lanes, weight_rows=1 << 15)
    config = replace(config, bank_words=ROOM // config.banks)
    graph = for_accelerator(model, LinesMachine(config)).graph
    compiled = compile_graph(graph, config)
    bound = max(layer.acc_bound for layer in compiled.layers)
    width = next((w for w in ACC_WIDTHS if bound < 1 << (w - 1)), None)
    cycles = LinesMachine(config).estimate(compiled.layers)
    if width is None or cycles is None:
        return None
    config = replace(
        config,
        acc_width=width,
        adder=any(layer.residual is not None for layer in compiled.layers),
        weight_rows=max(16, -(-len(compiled.program.weights) // lines)),
    )
    config = _smallest_banks(compiled, config)
    return _Trial(config=config, compiled=compiled, cycles=cycles)


def _candidates(trials: Sequence[_Trial], device: LinesDevice) -> list[Candidate]:
    found = (_candidate(trial, device) for trial in trials)
    return [c for c in found if c is not None]


def _candidate(trial: _Trial, device: LinesDevice) -> Candidate | None:
    config = trial.config
    dsps = device.dsp_budget - 2 * config.lines * config.lanes - CONTROL_DSPS
    if dsps < 0:
        return None
    config = replace(config, dsp_pairs=min(config.pairs, dsps))
    need = resources(config, len(trial.compiled.program.words))
    return Candidate(config=config, compiled=trial.compiled, resources=need, cycles=trial.cycles)


def _smallest_banks(compiled: LinesCompiled, config: LinesConfig) -> LinesConfig:
    """With the smallest activation memory that holds the model's tensors."""
    graph, machine, words = compiled.graph, LinesMachine(config), 16
    while words < config.bank_words:
        try:
            allocate(
                compiled.layers, graph.inputs, outputs_of(graph), config.banks * words, machine
            )
        except CapacityError:
            words *= 2
        else:
            break
    return replace(config, bank_words=words)


def _too_large(
    trials: Sequence[_Trial], found: Sequence[Candidate], device: LinesDevice
) -> CapacityError:
    context: list[str] = []
    if found:
        least = min(found, key=lambda c: (c.resources.block_rams, c.resources.luts)).resources
        text = (
            f"the array with the least block RAM takes {least.block_rams:g} of"
            f" {device.block_ram_budget:g} block RAMs, {least.luts} of {device.lut_budget} LUTs,"
            f" {least.dsps} of {device.dsp_budget} DSPs; all weights stand in block RAM"
        )
        context = [text]
    larger = [
        d.name
        for d in DEVICES.values()
        if d.luts > device.luts and any(fits(c.resources, d) for c in _candidates(trials, d))
    ]
    way = f"use {larger[0]}" if larger else "use a smaller model: no device of the list holds it"
    return CapacityError(f"no array of lines fits {device.name}", context=context, help=way)
