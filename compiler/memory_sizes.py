"""Chooses the sizes of banks and weight FIFO for a model, and says which device would hold it.

A device with SPRAM has one size for every model. On one without, the banks are block RAMs as well
and share them with the weight FIFO: more for one is less for the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from qcompile.compiler.errors import CapacityError
from qcompile.compiler.layers import Layer
from qcompile.compiler.passes.allocate import Placement, allocate
from qcompile.compiler.passes.bands import cut_bands
from qcompile.compiler.passes.lowering.cost import small_machine
from qcompile.compiler.passes.tile import tile
from qcompile.compiler.plan import Plan
from qcompile.hw.config import (
    ACC_WIDTHS,
    MAX_BANK_WORDS,
    MAX_SHIFTS,
    MIN_WORDS,
    AcceleratorConfig,
)
from qcompile.hw.devices import DEVICES, Device
from qcompile.hw.drain import FIFO_ROWS, GROUP_SLOTS
from qcompile.hw.program import (
    ADD_ENTRY_BITS,
    CODEBOOK_LEVELS,
    CODEBOOKS,
    LAYER_ENTRIES,
    PAIR_WORDS,
)
from qcompile.hw.residual import SLOTS
from qcompile.hw.sequencer import LAYER_SLOTS

RAM_WORDS, RAM_WIDTH = 256, 16
"""An EBR: 256 words of 16 bits, or up to 8 times as many of as many times fewer bits."""
MOST_FOLDS = 8

CELLS = 4313
"""Logic cells of the whole design with codebooks on iCE40UP5K: sums of 20 bits, shifts to 39, no
adder."""
LOG_CELLS = {(8, 16): 4775, (16, 16): 5288, (8, 8): 5801, (16, 8): 6386, (32, 8): 6386}
"""Of an array of shifts, by levels and step; with 32 levels at least so many."""
LOG_CELLS_PER_SUM_BIT = 40
WHOLE_OCTAVES = 16
"""The step, in sixteenths, with which a sum has one residue class."""
CELLS_OF_EXACT = 950
"""Which exact requantization takes more than a shift."""
CELLS_PER_SUM_BIT = 30.5
CELLS_PER_SHIFT = 46
CELLS_OF_ADDER = 174
MOST_CELLS = 0.97
"""Share of a device's cells that place and route can be expected to fill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A configuration that holds a model: its layers, where tensors lie, and how layers run."""

    layers: tuple[Layer, ...]
    config: AcceleratorConfig
    places: Mapping[str, Placement]
    plans: tuple[Plan, ...]


def block_rams(config: AcceleratorConfig) -> int:
    """EBRs that a configuration takes on iCE40."""
    memories = [
        *[(config.weight_depth, 16)] * 2,
        (FIFO_ROWS, config.sum_bits * config.columns),
        *[(4 * GROUP_SLOTS, 16)] * config.constant_words,
        *[(LAYER_SLOTS * LAYER_ENTRIES, 16)] * 3,
        (128, 16),  # the activation table
    ]
    if config.adder:
        if config.pe == "int8":
            memories += [(256, 16), (256, ADD_ENTRY_BITS - 16)] * 2
        memories.append((2 * SLOTS, 16))  # residual words on their way
    if config.pairs:
        memories.append((PAIR_WORDS, 16))
    if config.codebook:
        memories += [(CODEBOOKS * CODEBOOK_LEVELS, 8)] * config.columns
    if config.vendor == "ice40hx":
        memories += [(config.bank_words, config.word_bits)] * 2
    return sum(_block_rams(words, width) for words, width in memories)


def codebooks_fit(config: AcceleratorConfig, device: Device) -> bool:
    """Whether a device has the logic cells of a configuration with codebooks.

    iCE40UP5K is tight: cells are estimated by a line through placed designs (docs/budget.md),
    within half a percent of each. HX8K has room beside its largest configuration, and an array of
    shifts takes all of UP5K.
    """
    if not device.single_port_rams:
        return True
    if config.pe == "log":
        return False
    cells = CELLS + CELLS_PER_SUM_BIT * (config.acc_width - ACC_WIDTHS[0])
    if config.requant == "exact":
        cells += CELLS_PER_SHIFT * (config.max_shift - MAX_SHIFTS[0])
    if config.adder:
        cells += CELLS_OF_ADDER
    return cells <= MOST_CELLS * device.logic_cells


def check_cells(config: AcceleratorConfig, device: Device) -> None:
    """CapacityError for an array of shifts that iCE40UP5K has no logic cells for; HX8K has.

    Estimated from packed designs, within 2 % (docs/log_domain.md).
    """
    if config.pe == "int8" or not device.single_port_rams:
        return
    smallest = (config.levels, config.step) == (8, 16)
    smaller = "" if smallest else "quantize with --activations log:8 --log-step 16, "
    cells = LOG_CELLS[config.levels, config.step]
    cells += LOG_CELLS_PER_SUM_BIT * (config.acc_width - ACC_WIDTHS[0])
    cells -= CELLS_OF_EXACT if config.requant == "shift" else 0
    if cells > MOST_CELLS * device.logic_cells:
        raise CapacityError(
            f"an array of shifts for {config.levels} levels, {config.step} sixteenths of an octave "
            f"apart, needs about {round(cells, -2):,} logic cells",
            context=[f"{device.name} has {device.logic_cells:,}"],
            help=f"{smaller}take --device hx8k, or simulate it with --no-bitstream",
        )


def has_cells(config: AcceleratorConfig, device: Device) -> bool:
    """Whether `check_cells` passes a configuration."""
    try:
        check_cells(config, device)
    except CapacityError:
        return False
    return True


def _block_rams(words: int, width: int) -> int:
    folds = min(max(1, words // RAM_WORDS), MOST_FOLDS)
    deep = max(1, words // (RAM_WORDS * folds))
    return deep * -(-width // (RAM_WIDTH // folds))


def sizes(device: Device, wanted: AcceleratorConfig) -> tuple[AcceleratorConfig, ...]:
    """`wanted` in the device's sizes, largest banks first; no one of them is inside another.

    With SPRAM the banks have one size, and without codebooks the machine is the same for all
    models. With codebooks the weight FIFO gives way, which holds twice as many packed words.
    """
    if device.single_port_rams:
        config = wanted if wanted.codebook else replace(wanted, adder=True)
        while block_rams(config) > device.block_rams:
            if config.weight_depth == MIN_WORDS:
                return ()
            config = replace(config, weight_depth=config.weight_depth // 2)
        return (config,)
    found: list[AcceleratorConfig] = []
    bank_words = MAX_BANK_WORDS
    while bank_words >= MIN_WORDS:
        config = replace(wanted, bank_words=bank_words, weight_depth=MIN_WORDS)
        while block_rams(replace(config, weight_depth=2 * config.weight_depth)) <= (
            device.block_rams
        ):
            config = replace(config, weight_depth=2 * config.weight_depth)
        deepest = found[-1].weight_depth if found else 0
        if block_rams(config) <= device.block_rams and config.weight_depth > deepest:
            found.append(config)
        bank_words //= 2
    return tuple(found)


def fits(
    layers: tuple[Layer, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    device: Device,
    wanted: AcceleratorConfig,
) -> tuple[Fit, ...]:
    """Every size of the device that holds the model, and every way in bands that fits it.

    CapacityError where none does: the tensor that the largest banks do not hold, or, where tensors
    fit some banks, the layer that the weight FIFO beside them does not hold. It names the smallest
    device that would do.
    """
    needs_adder = any(layer.residual is not None for layer in layers)
    pairs = any(layer.pairs is not None for layer in layers)
    wanted = replace(wanted, adder=needs_adder, pairs=pairs)
    found = _fits(layers, inputs, outputs, device, wanted)
    if not isinstance(found, CapacityError):
        return found
    context = [
        *found.context,
        *_shared(device, wanted),
        _who_would(layers, inputs, outputs, device, wanted),
    ]
    raise CapacityError(found.message, context=context, help=found.help)


def _fits(
    layers: tuple[Layer, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    device: Device,
    wanted: AcceleratorConfig,
) -> tuple[Fit, ...] | CapacityError:
    found: list[Fit] = []
    too_large: CapacityError | None = None
    for config in sizes(device, wanted):
        try:
            ways = cut_bands(layers, inputs, outputs, config.bank_words, small_machine(config))
        except CapacityError as error:
            too_large = too_large or error
            continue
        for way in ways:
            try:
                plans = tile(way, config)
            except CapacityError as error:
                too_large = error
                continue
            places = allocate(way, inputs, outputs, config.bank_words)
            found.append(Fit(layers=way, config=config, places=places, plans=plans))
    if found:
        return tuple(found)
    return _no_size(device, wanted) if too_large is None else too_large


def _no_size(device: Device, wanted: AcceleratorConfig) -> CapacityError:
    """Of an array of shifts, whose sums take more block RAMs than int8's."""
    context = [f"{device.name} has {device.block_rams}"]
    if wanted.pairs:
        table = _block_rams(PAIR_WORDS, RAM_WIDTH)
        context.append(f"sums and products of two tensors take {table} of them")
    few = device.single_port_rams or wanted.step == WHOLE_OCTAVES
    levels = 8 if few else min(wanted.levels, 16)
    smaller = [] if levels == wanted.levels else [f"--activations log:{levels}"]
    smaller += [] if wanted.step == WHOLE_OCTAVES else [f"--log-step {WHOLE_OCTAVES}"]
    return CapacityError(
        f"the machine needs more block RAMs than the {device.name} has",
        context=context,
        help=f"quantize with {' '.join(smaller) or 'int8 activations'}",
    )


def _shared(device: Device, wanted: AcceleratorConfig) -> list[str]:
    """What banks and weight FIFO can be where they share the block RAMs."""
    if device.single_port_rams:
        return []
    texts = [
        f"{config.bank_words * config.word_bits // 8:,} bytes a bank with {config.weight_depth:,}"
        for config in sizes(device, wanted)
    ]
    return [f"{device.name} has {' or '.join(texts)} words of weight FIFO"] if texts else []


def _who_would(
    layers: tuple[Layer, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    refused: Device,
    wanted: AcceleratorConfig,
) -> str:
    """The smallest device beside `refused` that holds a model, as a line of an error's context."""
    others = [device for device in DEVICES.values() if device is not refused]
    for device in sorted(others, key=lambda device: device.activation_bytes):
        own = device.config
        config = replace(
            wanted,
            bank_words=own.bank_words,
            weight_depth=own.weight_depth,
            vendor=own.vendor,
        )
        found = _fits(layers, inputs, outputs, device, config)
        if not isinstance(found, CapacityError) and has_cells(found[0].config, device):
            return f"the smallest device that would do: {device.name} ({device.part})"
    return f"no device that qcompile knows would do ({', '.join(DEVICES)})"
