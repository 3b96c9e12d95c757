"""A compilation for an array of lines: integer graph in, memories' contents out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from qcompile.compiler import ir
from qcompile.compiler.backend import outputs_of
from qcompile.compiler.cycle_model import LayerCycles
from qcompile.compiler.errors import CapacityError
from qcompile.compiler.layers import Layer, stored_tensors
from qcompile.compiler.lines.cycle_model import predict
from qcompile.compiler.lines.emit import LinesProgram, emit_program
from qcompile.compiler.lines.input_queue import queue_of
from qcompile.compiler.lines.machine import LinesMachine, best_plan
from qcompile.compiler.lines.odd_rows import cut_odd_rows
from qcompile.compiler.lines.plan import LinePlan
from qcompile.compiler.lines.program_stream import weight_payload
from qcompile.compiler.lines.turned import turned_tensors, with_turned
from qcompile.compiler.passes.allocate import Placement, allocate
from qcompile.compiler.passes.bands import cut_bands
from qcompile.compiler.passes.lower import lower
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.flash_program import FlashTiming
from qcompile.hw.lines.program_memory import WORD_BITS
from qcompile.runtime.input_queue import InputQueue


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesCompiled:
    """A graph as an array of lines runs it; `stored` are constant tensors that stand in the
    activation memory before each run, `flash` is how the program's flash is read (None: it stands
    in a program memory); then `resident_rows` of the weight memory keep weights.

    With a `queue`, inputs, stored constants and outputs have places of their own for the whole run.
    """

    graph: ir.Graph
    config: LinesConfig
    layers: tuple[Layer, ...]
    plans: tuple[LinePlan, ...]
    places: Mapping[str, Placement]
    program: LinesProgram
    stored: Mapping[str, ir.Int8Array]
    flash: FlashTiming | None = None
    resident_rows: int = 0
    queue: InputQueue | None = None

    @property
    def sent(self) -> tuple[str, ...]:
        """Tensors that the host writes for each input; stored constants stay where inputs queue."""
        again = () if self.queue is not None else tuple(self.stored)
        return (*self.graph.inputs, *again)

    @property
    def weight_bytes(self) -> int:
        """Of all layers, with what fills up words; those that come once for several layers
        count once."""
        if not self.config.streams:
            return int(self.program.weights.nbytes)
        program = self.program
        return WORD_BITS // 8 * sum(weight_payload(x) for x in (program.words, program.load))

    def cycles(self) -> tuple[LayerCycles, ...]:
        """Of every layer, predicted; they sum up to the run's."""
        words = self.program.words
        return predict(self.layers, self.plans, self.places, words, self.config, self.flash)


def compile_graph(
    graph: ir.Graph,
    config: LinesConfig,
    *,
    first_weight: int = 0,
    flash: FlashTiming | None = None,
    resident_rows: int = 0,
) -> LinesCompiled:
    """Lower, plan, allocate, emit; UnsupportedError or CapacityError name the layer.

    Layers whose tensors do not fit the activation memory are cut into bands of rows. Weights
    begin with word `first_weight` of the weight memory, which begins a row. Where they come with
    the program, `resident_rows` of the memory keep some.
    """
    machine = LinesMachine(_ring(config, resident_rows))
    layers = lower(graph, "exact", machine)
    layers = cut_bands(layers, graph.inputs, outputs_of(graph), config.set_words, machine)[0]
    layers = cut_odd_rows(layers, machine)
    found = _placed(graph, layers, config, first_weight=first_weight, resident_rows=resident_rows)
    return replace(found, flash=flash)


def _ring(config: LinesConfig, resident_rows: int) -> LinesConfig:
    """With the part of the weight memory that layers pass through."""
    return replace(config, weight_rows=config.weight_rows - resident_rows)


def with_queue(compiled: LinesCompiled) -> LinesCompiled | None:
    """The same, weights from the memory's beginning, with places of their own for what the host
    reads and writes; None where the sets are too small for it, or where it costs anything else."""
    graph, layers = compiled.graph, compiled.layers
    queue = queue_of(layers, graph.inputs, outputs_of(graph))
    if queue is None:
        return None
    try:
        rows = compiled.resident_rows
        found = _placed(graph, layers, compiled.config, queued=True, resident_rows=rows)
    except CapacityError:
        return None
    found = replace(found, flash=compiled.flash, queue=queue)
    return found if _costs(found) == _costs(compiled) else None


def _costs(compiled: LinesCompiled) -> tuple[int, int, int]:
    """Cycles of a run, words of the program, weight words."""
    program = compiled.program
    return sum(x.cycles for x in compiled.cycles()), len(program.words), len(program.weights)


def _placed(
    graph: ir.Graph,
    layers: tuple[Layer, ...],
    config: LinesConfig,
    *,
    first_weight: int = 0,
    queued: bool = False,
    resident_rows: int = 0,
) -> LinesCompiled:
    """Plan, allocate, emit."""
    ring = _ring(config, resident_rows)
    machine = LinesMachine(ring)
    plans = tuple(_plan(layer, ring) for layer in layers)
    outputs, room = outputs_of(graph), config.set_words
    places = allocate(layers, graph.inputs, outputs, room, machine, queued=queued)
    host = {*graph.inputs, *outputs}
    plans = with_turned(layers, plans, turned_tensors(layers, host, places, config), config)
    return LinesCompiled(
        graph=graph,
        config=config,
        layers=layers,
        plans=plans,
        places=places,
        program=emit_program(
            layers,
            plans,
            places,
            config,
            first_weight=first_weight,
            resident_rows=resident_rows,
        ),
        stored=stored_tensors(layers),
        resident_rows=resident_rows,
    )


def _plan(layer: Layer, config: LinesConfig) -> LinePlan:
    plan = best_plan(layer, config)
    if plan is None:
        raise CapacityError(
            f"'{layer.name}': its loops are longer than the array counts",
            context=[f"input {list(layer.input_shape)}, output {list(layer.output_shape)}"],
            help="use a smaller picture, kernel or number of channels in this layer",
        )
    return plan
