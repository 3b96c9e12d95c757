"""Tensors that lie turned in the activation memory, because that spares cycles.

Where lines are two rows of pixels apart they meet in banks, unless the tensor lies turned
(`LinesConfig.place`); lines that are an odd number of words apart then cannot be read at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from qcompile.compiler.layers import Layer
from qcompile.compiler.lines.machine import best_plan
from qcompile.compiler.lines.plan import LinePlan
from qcompile.compiler.passes.allocate import Placement
from qcompile.hw.lines.config import LinesConfig


def turned_tensors(
    layers: Sequence[Layer],
    host: Collection[str],
    places: Mapping[str, Placement],
    config: LinesConfig,
) -> frozenset[str]:
    """Those that layers read in fewer cycles.

    None of `host`, which the host reads or writes, and none that has to do with a residual addition
    or is read as weights. Four neighbours change places, so a tensor consists of whole fours of
    words.
    """
    if not config.turns_words:
        return frozenset()
    readers: dict[str, list[Layer]] = {}
    for layer in layers:
        readers.setdefault(layer.input, []).append(layer)
    fixed = {*host, *_plain_tensors(layers)}
    written = {layer.output for layer in layers}
    return frozenset(
        name
        for name, found in readers.items()
        if name in written - fixed
        and not (places[name].offset % 4 or places[name].words % 4)
        and _spares(found, config)
    )


def with_turned(
    layers: Sequence[Layer],
    plans: Sequence[LinePlan],
    turned: Collection[str],
    config: LinesConfig,
) -> tuple[LinePlan, ...]:
    """The layers' plans where some tensors lie turned."""
    found = []
    for layer, plan in zip(layers, plans, strict=True):
        better = best_plan(layer, config, turned=True) if layer.input in turned else plan
        assert better is not None  # `turned_tensors` has found one
        found.append(replace(better, write_turned=layer.output in turned))
    return tuple(found)


def _plain_tensors(layers: Sequence[Layer]) -> set[str]:
    """What residual additions read and write, and weights."""
    found: set[str] = set()
    for layer in layers:
        if layer.residual is not None:
            found |= {layer.input, layer.residual, layer.output}
        if layer.weight_source is not None:
            found.add(layer.weight_source)
    return found


def _spares(readers: Sequence[Layer], config: LinesConfig) -> bool:
    """Whether the layers take fewer cycles if their input lies turned."""
    cycles = []
    for turned in (False, True):
        plans = [best_plan(layer, config, turned=turned) for layer in readers]
        known = [plan.cycles_estimate(config) for plan in plans if plan is not None]
        if len(known) < len(plans):
            return False
        cycles.append(sum(known))
    return cycles[True] < cycles[False]
