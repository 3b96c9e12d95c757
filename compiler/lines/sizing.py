"""The array of lines for a model and a device: a search over the cycle model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from itertools import product

from qcompile.compiler import ir, search
from qcompile.compiler.errors import CapacityError
from qcompile.compiler.lines.backend import compile_graph
from qcompile.compiler.lines.candidate import Candidate
from qcompile.compiler.lines.refusal import too_large
from qcompile.compiler.lines.resources import LinesResources, resources, roomy
from qcompile.compiler.lines.trials import Trial, narrowed, standing, streamed, weight_bytes
from qcompile.hw.lines.config import LANE_CHOICES, MAX_LINES, DspStyle, LinesConfig
from qcompile.hw.lines.devices import DEVICES, LinesDevice
from qcompile.hw.lines.flash_program import FlashTiming
from qcompile.hw.lines.ram import BLOCK_ROWS

BLOCK_BYTES = 4608
"""Of a block RAM."""
MOST_BYTES = max(device.block_rams for device in DEVICES.values()) * BLOCK_BYTES
"""That the block RAM of any device holds."""
COLUMNS = (16, 8)
"""That are tried, or asked for. 8 suit narrow layers where multipliers are few."""
STREAM_LINES, STREAM_LANES = {16: (1, 2, 4, 8), 8: (1, 2)}, (1,)
"""Sizes that are tried for programs from a flash, lines by columns."""


class Sizes:
    """The arrays of all sizes, or of those asked for, that run a model.

    The model is compiled once for each size, whatever the number of devices. Weights stand in block
    RAM; where no array fits so, and the board has a flash, they come from it. Where tensors do not
    fit either, layers are cut into bands of rows.

    Parameters
    ----------
    lines, columns, lanes : int
        Of `LinesConfig`; without, the search chooses.
    dsp : "instance", "inferred" or "none"
        How pairs are written that could take a DSP.
    streams : bool
        Weights come from the board's flash even where they would fit block RAM.
    resident_rows : int
        Of the weight memory that keep weights then, at most; without, all that the device has.
    """

    def __init__(
        self,
        model: ir.Model,
        *,
        lines: int | None = None,
        columns: int | None = None,
        lanes: int | None = None,
        dsp: DspStyle = "inferred",
        streams: bool = False,
        resident_rows: int | None = None,
    ) -> None:
        self._model = model
        self._dsp: DspStyle = dsp
        self._streams = streams
        self._most_resident = resident_rows
        self._streamed: dict[FlashTiming, list[Trial]] = {}
        if columns not in (None, *COLUMNS):
            raise CapacityError(
                f"an array of lines has 16 or 8 columns, not {columns}",
                help="leave the columns to the compiler",
            )
        self._columns = COLUMNS if columns is None else (columns,)
        self._lines = range(1, MAX_LINES + 1) if lines is None else (lines,)
        self._lanes = LANE_CHOICES if lanes is None else (lanes,)

    @cached_property
    def _standing(self) -> list[Trial]:
        if weight_bytes(self._model) > MOST_BYTES:
            return []
        return [trial for size in self._sizes() for trial in self._of_size(size)]

    def _of_size(self, size: LinesConfig) -> list[Trial]:
        try:
            return list(standing(self._model, size))
        except CapacityError:
            if size.columns == self._columns[0]:
                raise
            return []  # as many words of 8 channels as an address has hold half as much

    def _sizes(self) -> Iterator[LinesConfig]:
        for columns, lines, lanes in product(self._columns, self._lines, self._lanes):
            yield LinesConfig(lines=lines, lanes=lanes, columns=columns)

    def _is_tried(self, size: LinesConfig) -> bool:
        """Where weights come from a flash: it decides the cycles, so a few sizes will do."""
        few = size.lines in STREAM_LINES[size.columns] and size.lanes in STREAM_LANES
        return few or len(self._lines) == 1

    def _from_flash(self, flash: FlashTiming) -> list[Trial]:
        if flash not in self._streamed:
            sizes = filter(self._is_tried, self._sizes())
            found = (streamed(self._model, size, flash) for size in sizes)
            self._streamed[flash] = [trial for trials in found for trial in trials]
        return self._streamed[flash]

    def candidates(self, device: LinesDevice, flash: FlashTiming | None = None) -> list[Candidate]:
        """An array for each size and form of its memories, with as many pairs in DSPs as the device
        has; not all fit it. With `flash` weights come from it."""
        trials = self._standing if flash is None else self._from_flash(flash)
        return [c for trial in trials for c in _candidates(trial, device, self._dsp)]

    def best(self, device: LinesDevice, flash: FlashTiming | None = None) -> Candidate:
        """The array with the fewest cycles, then LUTs; CapacityError says what does not fit.

        `flash` is how the board's is read; None: it has none that the array can read.
        """
        found = self.fitting(device, flash)
        if found is None:
            raise too_large(self, device, flash)
        return found

    def fitting(self, device: LinesDevice, flash: FlashTiming | None = None) -> Candidate | None:
        """As `best`; None where no array fits."""
        held = weight_bytes(self._model) <= device.block_rams * BLOCK_BYTES
        ways = [None] if held and not (self._streams and flash) else []
        for way in ways if flash is None else [*ways, flash]:
            found = [*self.candidates(device, way), *self._banded(device, way)]
            fitting = (
                with_residents(c, device, self._most_resident)
                for c in found
                if fits(c.resources, device)
            )
            chosen = search.best_used(fitting, lambda candidate: candidate.trial.depthwise)
            if chosen is not None:
                return chosen
        return None

    def _banded(self, device: LinesDevice, flash: FlashTiming | None) -> list[Candidate]:
        """With as much activation memory as the device has beside the rest, where it is short."""
        trials = self._standing if flash is None else self._from_flash(flash)
        found = ((trial, _most_bank_words(trial, device, self._dsp)) for trial in trials)
        fewer = (narrowed(trial, words, flash) for trial, words in found if words)
        narrow = [trial for trial in fewer if trial is not None]
        return [c for trial in narrow for c in _candidates(trial, device, self._dsp)]

    @property
    def refusal(self) -> str:
        """Why there is no candidate at all."""
        needed = weight_bytes(self._model)
        if needed > MOST_BYTES:
            return f"its weights are {needed:,} bytes, all block RAM of the largest {MOST_BYTES:,}"
        return "its sums or loops are too long"

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


def with_residents(chosen: Candidate, device: LinesDevice, most: int | None) -> Candidate:
    """With the block RAM that is left for weights that stay, where they come from a flash."""
    compiled = chosen.compiled
    if compiled.flash is None:
        return chosen
    words = sum(plan.weight_words for plan in compiled.plans)
    most = -(-words // chosen.config.lines) if most is None else most
    rows, config, need = 0, chosen.config, chosen.resources
    while rows < most:
        more = min(rows + BLOCK_ROWS, most)
        larger = replace(chosen.config, weight_rows=chosen.config.weight_rows + more)
        taken = resources(larger, chosen.program_words)
        if not fits(taken, device):
            break
        rows, config, need = more, larger, taken
    if not rows:
        return chosen
    room = replace(compiled.config, weight_rows=config.weight_rows)
    found = compile_graph(chosen.model.graph, room, flash=compiled.flash, resident_rows=rows)
    own = replace(chosen.trial.config, weight_rows=config.weight_rows)
    trial = replace(chosen.trial, config=own, compiled=found)
    return replace(chosen, trial=trial, config=config, resources=need)


def _most_bank_words(trial: Trial, device: LinesDevice, dsp: DspStyle) -> int:
    """The most words of a bank, fewer than the trial's, with which the array fits a device; 0: it
    fits as it is, or not at all."""
    own = next(_candidates(trial, device, dsp), None)
    if own is None:
        return 0
    for words in range(own.config.bank_words, 0, -BLOCK_ROWS):
        config = replace(own.config, bank_words=words // BLOCK_ROWS * BLOCK_ROWS or BLOCK_ROWS)
        if fits(resources(config, trial.program_words), device):
            return config.bank_words if config.bank_words < trial.config.bank_words else 0
    return 0


def _candidates(trial: Trial, device: LinesDevice, dsp: DspStyle) -> Iterator[Candidate]:
    """With the last rows of the memories in LUTs, where that saves block RAM, or not."""
    dsps = device.dsp_budget - 2 * trial.config.lines * trial.config.lanes
    if dsps < 0:
        return
    own = replace(trial.config, dsp=dsp, dsp_pairs=min(trial.config.pairs, dsps))
    for bank_words, weight_rows in product(_depths(own.bank_words), _depths(own.weight_rows)):
        config = replace(own, bank_words=bank_words, weight_rows=weight_rows)
        need = resources(config, trial.program_words)
        yield Candidate(trial=trial, config=config, resources=need)


def _depths(rows: int) -> set[int]:
    """With room for as many rows as come for nothing."""
    return {roomy(rows), -(-rows // BLOCK_ROWS) * BLOCK_ROWS}
