"""A model compiled for arrays of lines of some sizes: what the search for the best one compares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

from qcompile.compiler import ir
from qcompile.compiler.backend import for_accelerator, outputs_of
from qcompile.compiler.cycle_model import LayerCycles
from qcompile.compiler.errors import CapacityError
from qcompile.compiler.lines import selftest
from qcompile.compiler.lines.backend import LinesCompiled, compile_graph
from qcompile.compiler.lines.machine import LinesMachine
from qcompile.compiler.passes.allocate import words_needed
from qcompile.hw.config import ACC_WIDTHS
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.flash_program import FlashTiming
from qcompile.hw.lines.program import WORD_BITS
from qcompile.runtime.layouts import IMAGE_FIELD_BYTES

STREAM_ROWS = (512, 1024, 2048)
"""Of a weight memory whose weights come from a flash."""
HEADER_WORDS = 8 * IMAGE_FIELD_BYTES // WORD_BITS
"""Of the program memory, before the program: the image's header."""
ROOM = 1 << 15
"""Words of an activation memory at most: 512 KB, more than any device has."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A model compiled for a number of lines and lanes, in the memories that it needs.

    The device decides only which pairs take a DSP: one trial serves all devices. `compiled` may be
    for the same array with more memory: places and program are the smaller one's too.
    """

    model: ir.Model
    config: LinesConfig
    compiled: LinesCompiled

    @property
    def program_words(self) -> int:
        """Those of the header, the model's and the multiply self-test's."""
        words = len(self.compiled.program.words)
        return HEADER_WORDS + words + selftest.program_words(self.config)

    @cached_property
    def layer_cycles(self) -> tuple[LayerCycles, ...]:
        """By the cycle model; looked at where it fits only, for programs from a flash are long."""
        return replace(self.compiled, config=self.config).cycles()

    @property
    def cycles(self) -> int:
        """Of one inference."""
        return sum(layer.cycles for layer in self.layer_cycles)

    @cached_property
    def depthwise(self) -> float | None:
        """The part of the multipliers that depthwise layers use; None without such layers, and
        where layers wait for their weights."""
        pairs = zip(self.compiled.layers, self.layer_cycles, strict=True)
        found = [(x.macs, y.cycles) for x, y in pairs if x.kind == "depthwise" and x.macs]
        if not found or self.config.streams:
            return None
        peak = self.config.macs_per_cycle * sum(cycles for _, cycles in found)
        return sum(macs for macs, _ in found) / peak


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


def weight_bytes(model: ir.Model) -> int:
    """Of all convolutions and products, without what fills up words."""
    return sum(op.weight.size for op in model.graph.ops if isinstance(op, ir.Conv))


def standing(model: ir.Model, size: LinesConfig) -> Iterator[Trial]:
    """With all weights in the weight memory, for each form of the inputs."""
    config = with_room(size)
    found = (_trial(form, config) for form in forms(model, config))
    return (trial for trial in found if trial is not None)


def streamed(model: ir.Model, size: LinesConfig, flash: FlashTiming) -> list[Trial]:
    """In the smallest weight memory that holds every layer's part while it is in use."""
    for rows in STREAM_ROWS:
        config = replace(with_room(size), weight_rows=rows, streams=True)
        try:
            found = [_trial(form, config, flash) for form in forms(model, config)]
        except CapacityError:
            continue
        return [trial for trial in found if trial is not None]
    return []


def narrowed(trial: Trial, bank_words: int, flash: FlashTiming | None) -> Trial | None:
    """The same with smaller banks, its layers in bands of rows; None where that does not fit."""
    config = replace(trial.config, bank_words=bank_words)
    if config.set_words < selftest.set_words(config):
        return None
    try:
        compiled = compile_graph(trial.model.graph, config, flash=flash)
    except CapacityError:
        return None
    return replace(trial, config=config, compiled=compiled)


def _trial(model: ir.Model, config: LinesConfig, flash: FlashTiming | None = None) -> Trial | None:
    graph = model.graph
    compiled = compile_graph(graph, config, flash=flash)
    bound = max(layer.acc_bound for layer in compiled.layers)
    width = next((w for w in ACC_WIDTHS if bound < 1 << (w - 1)), None)
    if width is None:
        return None
    words = words_needed(compiled.layers, graph.inputs, outputs_of(graph), LinesMachine(config))
    if flash is None:
        rows = -(-len(compiled.program.weights) // config.lines) + selftest.weight_rows(config)
    else:
        rows = config.weight_rows
    return Trial(
        model=model,
        config=replace(
            config,
            acc_width=width,
            adder=any(layer.residual is not None for layer in compiled.layers),
            bank_words=-(-max(words, selftest.set_words(config)) // config.banks),
            weight_rows=max(16, rows),
        ),
        compiled=compiled,
    )
