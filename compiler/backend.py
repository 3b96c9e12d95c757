"""The accelerator's side of a compilation: integer graph in, program and predicted cycles out.

Nothing here starts a tool. `hardware.py` makes Verilog and bitstream of the configuration that is
chosen here.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from qcompile.compiler import ir, search
from qcompile.compiler.cycle_model import LayerCycles, predict
from qcompile.compiler.errors import CapacityError, UnsupportedError
from qcompile.compiler.layers import Layer
from qcompile.compiler.log_format import LogFormat
from qcompile.compiler.machine import Machine
from qcompile.compiler.memory_sizes import Fit, block_rams, codebooks_fit, fits
from qcompile.compiler.passes.allocate import Placement
from qcompile.compiler.passes.codebooks import parts_saved
from qcompile.compiler.passes.emit_program import Program, emit_program
from qcompile.compiler.passes.fold_constants import fold_constants
from qcompile.compiler.passes.input_forms import send_inputs
from qcompile.compiler.passes.join_tables import join_tables
from qcompile.compiler.passes.log_layers import log_form
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.passes.lowering.convolution import convolution
from qcompile.compiler.passes.lowering.cost import SMALL_MACHINE
from qcompile.compiler.passes.lowering.layer import shape3
from qcompile.compiler.passes.prefetch import prefetch
from qcompile.compiler.passes.reshape_words import reshape_words
from qcompile.compiler.passes.sink_moves import sink_moves
from qcompile.compiler.passes.softmax_layers import softmax_layers
from qcompile.compiler.plan import Plan
from qcompile.hw.boards import Board
from qcompile.hw.config import (
    ACC_WIDTHS,
    MAX_SHIFTS,
    SHIFT_RANGE,
    AcceleratorConfig,
)
from qcompile.hw.flash_reader import word_cycles
from qcompile.hw.layouts import (
    IMAGE_HEADER_BYTES,
    IMAGE_MAGIC,
    IMAGE_OFFSET,
    IMAGE_VERSION,
)
from qcompile.hw.log.config import LogArrayConfig
from qcompile.hw.program import program_bytes
from qcompile.runtime.protocol import BEAT_BITS

Mode = Literal["exact", "shift"]

CODEBOOK_WORTH = 0.97
"""A machine with codebooks must take at most this share of the cycles of the one without, which
serves all models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A model as the accelerator runs it; `model` is what the host sends and gets back."""

    model: ir.Model
    config: AcceleratorConfig
    layers: tuple[Layer, ...]
    plans: tuple[Plan, ...]
    places: Mapping[str, Placement]
    program: Program
    cycles: tuple[LayerCycles, ...]

    @property
    def total_cycles(self) -> int:
        """Predicted, from start to the last output word."""
        return sum(layer.cycles for layer in self.cycles)

    @property
    def cells(self) -> int:
        """EBRs."""
        return block_rams(self.config)


def for_accelerator(
    model: ir.Model, machine: Machine = SMALL_MACHINE, *, thrifty: bool = False
) -> ir.Model:
    """The model with its inputs as the host sends them, without what need not be computed.

    Inputs take the form with the fewest cycles, those of bringing it included, or `thrifty` that
    with the fewest words. A form of an input that no bank holds is not chosen.
    """

    def cost(graph: ir.Graph, conv: ir.Conv) -> tuple[int, ...] | None:
        shape = shape3(graph, conv.inputs[0])
        if not machine.holds(shape):
            return None
        cycles = machine.estimate(convolution(machine, graph, conv, conv.inputs[0]))
        if cycles is None:
            return None
        words = machine.words(shape)
        # A link brings BEAT_BITS a cycle at best; a serial line is slower than any machine.
        beats = words * machine.word_channels * 8 // BEAT_BITS
        return (words, cycles) if thrifty else (cycles + beats,)

    model = send_inputs(model, cost)
    graph = softmax_layers(fold_constants(model.graph), machine.word_channels)
    graph = sink_moves(reshape_words(graph))
    graph = join_tables(fold_constants(graph))
    return model if graph is model.graph else replace(model, graph=graph)


def compile_model(model: ir.Model, *, board: Board, requant: Mode) -> Compiled:
    """Lower, allocate, tile, emit, predict, for a board's device and its flash.

    Of the sizes that the device can have, and of the ways to cut what does not fit into bands of
    rows, those with the fewest cycles; with codebooks where they are worth a machine of its own.
    UnsupportedError or CapacityError name the layer.
    Memory comes first: a picture that is too large for it is often too large for counters too.
    """
    model = for_accelerator(model)
    graph = model.graph
    layers = lower(graph, requant)
    max_shift = _max_shift(layers) if requant == "exact" else MAX_SHIFTS[0]
    config = _configured(
        replace(board.device.config, max_shift=max_shift, requant=requant), layers, log_form(graph)
    )
    try:
        plain = _best(model, layers, board, config)
    except CapacityError:  # packed weights need half the weight FIFO
        packed = _packed(model, layers, board, config)
        if packed is None:
            raise
        return packed
    fewest = CODEBOOK_WORTH * plain.total_cycles
    saved = parts_saved(plain.layers, plain.plans)
    if plain.total_cycles - saved * word_cycles(board.flash_lines) > fewest:
        return plain
    packed = _packed(model, layers, board, config)
    return packed if packed is not None and packed.total_cycles <= fewest else plain


def _packed(
    model: ir.Model, layers: tuple[Layer, ...], board: Board, config: AcceleratorConfig
) -> Compiled | None:
    """The model on a machine with codebooks; None where the device does not hold one."""
    adder = any(layer.residual is not None for layer in layers)
    if not codebooks_fit(replace(config, codebook=True, adder=adder), board.device):
        return None
    try:
        return _best(model, layers, board, replace(config, codebook=True))
    except CapacityError:
        return None


def _best(
    model: ir.Model, layers: tuple[Layer, ...], board: Board, config: AcceleratorConfig
) -> Compiled:
    """The sizes of a configuration, and the way in bands, with the fewest cycles."""
    graph = model.graph
    found = fits(layers, graph.inputs, outputs_of(graph), board.device, config)
    candidates = (_finish(model, fit, board.flash_lines) for fit in found)
    chosen = search.best(candidates)
    assert chosen is not None, "`fits` has one at least"
    return chosen


def _finish(model: ir.Model, fit: Fit, flash_lines: int) -> Compiled:
    """Program and predicted cycles of layers whose tensors and loops are placed."""
    layers, config, places, plans = fit.layers, fit.config, fit.places, fit.plans
    program = emit_program(layers, plans, places, config)
    if config.stores_weights:
        program = prefetch(program, layers, plans, places, config, flash_lines)
    return Compiled(
        model=model,
        config=config,
        layers=layers,
        plans=plans,
        places=places,
        program=program,
        cycles=predict(layers, plans, places, program, config, flash_lines),
    )


def outputs_of(graph: ir.Graph) -> tuple[str, ...]:
    """The graph's outputs under the names of the tensors in memory (Reshape moves nothing)."""
    alias = {op.outputs[0]: op.inputs[0] for op in graph.ops if isinstance(op, ir.Reshape)}

    def source(name: str) -> str:
        while name in alias:
            name = alias[name]
        return name

    return tuple(source(name) for name in graph.outputs)


def _configured(
    config: AcceleratorConfig, layers: Sequence[Layer], log: LogFormat | None
) -> AcceleratorConfig:
    """With the model's array: `log` has levels and step of logarithmic codes."""
    if log is None:
        return replace(config, acc_width=_acc_width(layers))
    sizes = LogArrayConfig(levels=log.levels, step=log.step, acc_width=ACC_WIDTHS[-1])
    width = _acc_width(layers, least=sizes.product_bits + 1)
    return replace(config, acc_width=width, pe="log", levels=log.levels, step=log.step)


def _acc_width(layers: Sequence[Layer], least: int = 0) -> int:
    """The narrowest accumulator, `least` or more, that every sum of products fits, signed."""
    worst = max(layers, key=lambda layer: layer.acc_bound)
    needed = max(least, worst.acc_bound.bit_length() + 1)
    for width in ACC_WIDTHS:
        if needed <= width:
            return width
    raise CapacityError(
        f"'{worst.name}': its sums may need {needed} bits",
        context=[f"the widest accumulator has {ACC_WIDTHS[-1]}"],
        help="split the layer into layers with fewer inputs",
    )


def _max_shift(layers: Sequence[Layer]) -> int:
    """The smallest requantization unit that does every channel's shift."""
    layers = [layer for layer in layers if layer.limits is None]
    if not layers:
        return MAX_SHIFTS[0]
    widest = max(layers, key=lambda layer: int(layer.shift.max()))
    narrowest = min(layers, key=lambda layer: int(layer.shift.min()))
    largest, smallest = int(widest.shift.max()), int(narrowest.shift.min())
    limit = next(limit for limit in MAX_SHIFTS if largest <= limit)
    if smallest <= limit - SHIFT_RANGE:
        raise UnsupportedError(
            f"'{widest.name}' and '{narrowest.name}': their requantization shifts, {largest} and "
            f"{smallest}, are too far apart for one unit",
            context=[f"a unit for {limit} does {limit - SHIFT_RANGE + 1} to {limit}"],
            help="choose scales of the two layers nearer to each other",
        )
    return limit


def flash_image(compiled: Compiled) -> bytes:
    """Header and program, as docs/architecture.md section 5 lays them out."""
    program = program_bytes(compiled.program.words)
    header = image_header(program, compiled.config.id, compiled.model.sha256)
    return header.ljust(IMAGE_HEADER_BYTES, b"\0") + program


def image_header(body: bytes, configuration_id: int, sha256: str) -> bytes:
    """The fields of an image's header; `body` stands behind it."""
    return b"".join(
        (
            IMAGE_MAGIC,
            IMAGE_VERSION.to_bytes(4, "little"),
            configuration_id.to_bytes(4, "little"),
            len(body).to_bytes(4, "little"),
            zlib.crc32(body).to_bytes(4, "little"),
            bytes(12),
            bytes.fromhex(sha256),
        )
    )


def check_flash(compiled: Compiled, board: Board) -> None:
    """CapacityError where header and program are longer than the board's flash behind them."""
    needed = IMAGE_HEADER_BYTES + 2 * len(compiled.program.words)
    available = board.flash_part.size_bytes - IMAGE_OFFSET
    if needed > available:
        raise CapacityError(
            f"{board.name}: the weights do not fit the flash",
            context=[f"weights and program need {needed:,} bytes", f"available: {available:,}"],
            help="use fewer channels in the layers with the most weights",
        )


def tensor_map(
    graph: ir.Graph, layers: Sequence[Layer], place: Callable[[str], Mapping[str, object]]
) -> dict[str, object]:
    """The manifest's `accelerator`: where inputs, outputs and layers lie in memory, as `place` says
    of a tensor.

    `layers` are those whose tensor the model names; it stands when `done` layers of the program
    have ended. `program_layers` are all names.
    """
    outputs = zip(graph.outputs, outputs_of(graph), strict=True)
    return {
        "inputs": [{"value": name, **place(name)} for name in graph.inputs],
        "outputs": [{"value": name, **place(source)} for name, source in outputs],
        "layers": [
            {"op": layer.operator, "done": done, "name": layer.output, **place(layer.output)}
            for done, layer in enumerate(layers, 1)
            if not layer.inner
        ],
        "program_layers": [layer.name for layer in layers],
    }


def accelerator_map(compiled: Compiled) -> dict[str, object]:
    """`tensor_map` of a compilation for the small machine."""
    halves = {layer.output for layer in compiled.layers if layer.halves}

    def place(name: str) -> dict[str, object]:
        where = compiled.places[name]
        shape: list[int] = list(where.shape)
        more: dict[str, object] = {"halves": True} if name in halves else {}
        return {"address": where.address, "shape": shape, "words": where.words, **more}

    return tensor_map(compiled.model.graph, compiled.layers, place)


def memory_usage(compiled: Compiled) -> dict[str, int]:
    """The report's `memory`, in bytes."""
    word_bytes = compiled.config.word_bits // 8
    bank_bytes = compiled.config.bank_words * word_bytes
    ends = [0, 0]
    for place in compiled.places.values():
        ends[place.bank] = max(ends[place.bank], (place.offset + place.words) * word_bytes)
    return {
        "bank_0_bytes": ends[0],
        "bank_1_bytes": ends[1],
        "bank_size_bytes": bank_bytes,
        "flash_program_bytes": 2 * len(compiled.program.words),
        "flash_offset": IMAGE_OFFSET,
        "weight_fifo_words": compiled.config.weight_depth,
        "weight_words_of_largest_group": max(plan.weights.shape[1] for plan in compiled.plans),
    }
