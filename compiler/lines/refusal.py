"""What is said of a model that no array of lines on a device holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from qcompile.compiler.errors import CapacityError
from qcompile.hw.boards import LINES_BOARDS
from qcompile.hw.lines.devices import LinesDevice
from qcompile.hw.lines.flash_program import FlashTiming


class Searched(Protocol):
    """What `sizing.Sizes` is asked; candidates are `candidate.Candidate`."""

    def candidates(self, device: LinesDevice, flash: FlashTiming | None = None) -> Sequence[Any]:
        """All, whether they fit or not."""
        ...

    def fitting(self, device: LinesDevice, flash: FlashTiming | None = None) -> object | None:
        """The best that fits."""
        ...

    def larger(self, device: LinesDevice) -> Mapping[str, object]:
        """What each larger device would give."""
        ...

    @property
    def refusal(self) -> str:
        """Why there is no candidate at all."""
        ...


def too_large(sizes: Searched, device: LinesDevice, flash: FlashTiming | None) -> CapacityError:
    """What takes more than a device has, and a way out."""
    found = sizes.candidates(device, flash) or sizes.candidates(device)
    context = _culprits(found, device) if found else [sizes.refusal]
    help = _way_out(sizes, device, flash)
    return CapacityError(f"no array of lines fits {device.name}", context=context, help=help)


def _way_out(sizes: Searched, device: LinesDevice, flash: FlashTiming | None) -> str:
    larger = sizes.larger(device)
    if larger:
        return f"use {next(iter(larger))}"
    for board in LINES_BOARDS.values() if flash is None else ():
        if board.flash and sizes.fitting(board.device, board.flash.timing(board.clock_hz)):
            return f"use --board {board.name}: its array takes weights from the board's flash"
    return "use a smaller model: no device of the list holds it"


def _culprits(found: Sequence[Any], device: LinesDevice) -> list[str]:
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
    standing = "a few layers' stand" if least.config.streams else "all stand"
    heaviest = max(by_bytes, key=lambda name: by_bytes[name])
    weights = (
        f"weights take {need.weight_blocks:g} of them: {sum(by_bytes.values()):,} bytes,"
        f" {by_bytes[heaviest]:,} of them in '{heaviest}'; {standing} in block RAM"
    )
    widest, place = max(least.compiled.places.items(), key=lambda item: item[1].words)
    activations = (
        f"activations take {need.activation_blocks:g} of them: the largest is '{widest}'"
        f" {list(place.shape)}, {place.words * word:,} bytes"
    )
    parts = [weights, activations]
    return [text, *(parts if need.weight_blocks >= need.activation_blocks else reversed(parts))]
