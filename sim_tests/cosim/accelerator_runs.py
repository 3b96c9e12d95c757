"""Compiles integer graphs and runs many of them in one simulation of the real Verilog."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.artifact import Build
from qcompile.compiler.backend import Compiled, outputs_of
from qcompile.compiler.cycle_model import predict
from qcompile.compiler.golden.interpreter import run_graph
from qcompile.compiler.passes.allocate import allocate
from qcompile.compiler.passes.bands import cut_bands
from qcompile.compiler.passes.emit_program import emit_program
from qcompile.compiler.passes.lower import lower
from qcompile.compiler.passes.prefetch import prefetch
from qcompile.compiler.passes.tile import tile
from qcompile.compiler.verilator_engine import TOP, VerilatorEngine
from qcompile.hw.accelerator import Accelerator
from qcompile.hw.boards import Board
from qcompile.hw.boards.icebreaker import ICEBREAKER
from qcompile.hw.config import AcceleratorConfig
from qcompile.hw.layouts import IMAGE_OFFSET, pack_tensor, unpack_tensor
from qcompile.hw.program import program_bytes
from sim_tests.compiler.integer_graphs import model_of
from sim_tests.hw import cosim

CLOCK_HZ = 24_000_000
PROGRAM_ALIGNMENT = 256

Step = list[Any]
"""A method of `accelerator_bench.ScriptBench` and its arguments."""


def compile_graph(graph: ir.Graph, config: AcceleratorConfig, board: Board) -> Compiled:
    """What `backend.compile_model` does, for a configuration that is given."""
    layers = lower(graph, config.requant)
    layers = cut_bands(layers, graph.inputs, outputs_of(graph), config.bank_words)[0]
    assert max(layer.acc_bound for layer in layers) < 1 << (config.acc_width - 1)
    plans = tile(layers, config)
    places = allocate(layers, graph.inputs, outputs_of(graph), config.bank_words)
    program = emit_program(layers, plans, places, config)
    if config.stores_weights:
        program = prefetch(program, layers, plans, places, config, board.flash_lines)
    return Compiled(
        model=model_of(graph),
        config=config,
        layers=layers,
        plans=plans,
        places=places,
        program=program,
        cycles=predict(layers, plans, places, program, config, board.flash_lines),
    )


@dataclass(frozen=True, slots=True)
class Run:
    """What a start or a resume gave."""

    state: int
    error: int
    layers_done: int
    cycles: int
    layer_ends: list[int]

    @property
    def layer_cycles(self) -> list[int]:
        """From the end of the layer before to each layer's own."""
        begins = [0, *self.layer_ends]
        return [end - begin for begin, end in zip(begins, self.layer_ends, strict=False)]


@dataclass(slots=True)
class Subject:
    """A compiled graph with one input; makes the steps that run it and checks what comes out."""

    compiled: Compiled
    codes: dict[str, ir.Int8Array]
    address: int = 0
    expected: dict[str, ir.Int8Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.expected = run_graph(self.compiled.model.graph, self.codes)

    def inputs(self) -> list[Step]:
        """Steps that choose the program and store the input."""
        places = self.compiled.places
        steps: list[Step] = [["program", self.address]]
        for name, codes in self.codes.items():
            words = pack_tensor(codes[0].reshape(places[name].shape), fill=77)
            steps.append(["store", places[name].address, words.tolist()])
        return steps

    def load(self, name: str) -> Step:
        """The step that reads a tensor."""
        place = self.compiled.places[name]
        return ["load", place.address, place.words]

    def outputs(self) -> list[Step]:
        """Steps that read all outputs."""
        return [self.load(name) for name in self.output_names]

    @property
    def output_names(self) -> list[str]:
        """Tensors of the graph's outputs."""
        return list(dict.fromkeys(outputs_of(self.compiled.model.graph)))

    def layer_by_layer(self) -> list[Step]:
        """Steps that pause after every layer and read its tensor."""
        steps = self.inputs()
        for index, layer in enumerate(self.compiled.layers):
            steps.append(["go", "resume" if index else "start", index + 1])
            steps.append(self.load(layer.output))
        return steps

    def check(self, name: str, words: Sequence[int]) -> None:
        """A tensor's words are golden's codes; padded channels may hold anything."""
        place = self.compiled.places[name]
        found = unpack_tensor(np.array(words, np.uint32), *place.shape)
        if any(layer.halves for layer in self.compiled.layers if layer.output == name):
            found = found[::2] & 15 | found[1::2] << 4
        np.testing.assert_array_equal(
            found,
            self.expected[name][0].reshape(found.shape),
            err_msg=f"{self.compiled.model.name}: {name}",
        )


class Machine:
    """The accelerator of a configuration, compiled; runs scripts for several subjects at once.

    `core` is Verilog of the accelerator that takes the place of the configuration's own, `board` a
    registered board whose flash and flash lines the program comes through.
    """

    bench = "sim_tests.cosim.accelerator_bench"

    def __init__(
        self,
        config: AcceleratorConfig,
        folder: Path,
        *,
        core: str = "",
        board: Board = ICEBREAKER,
    ) -> None:
        self.folder = folder
        self.board = board
        self._simulation = self._compiled(config, core)
        self._flash = bytearray()

    def _compiled(self, config: AcceleratorConfig, core: str) -> cosim.Simulation:
        core = core or cosim.verilog_of(Accelerator, config, name="accelerator")
        (self.folder / "accelerator.v").write_text(core)
        target = {"board": self.board.name}
        build = Build(folder=self.folder, manifest={"clock_hz": CLOCK_HZ, "target": target})
        engine = VerilatorEngine(build, cache=cosim.CACHE.parent / "engine", seed=1)
        return cosim.Simulation(folder=engine.simulator, top=TOP)

    def place(self, program: bytes) -> int:
        """Put a program into the flash; its byte address."""
        self._flash += bytes(-len(self._flash) % PROGRAM_ALIGNMENT)
        self._flash += program
        return IMAGE_OFFSET + len(self._flash) - len(program)

    def add(self, compiled: Compiled, codes: dict[str, ir.Int8Array]) -> Subject:
        """A subject whose program is in the flash."""
        address = self.place(program_bytes(compiled.program.words))
        return Subject(compiled, codes, address)

    def run(self, script: Sequence[Step], *, seed: int) -> list[Any]:
        """Do the steps; what each gave (`Run` for starts, words for loads)."""
        (self.folder / "flash.bin").write_bytes(self._flash)
        (self.folder / "script.json").write_text(json.dumps(list(script)))
        cosim.run_module(
            self._simulation,
            self.bench,
            self.folder,
            seed=seed,
            environment={"QCOMPILE_SCRIPT": str(self.folder), "QCOMPILE_SEED": str(seed)},
            plusargs=[f"+flash={self.folder / 'flash.bin'}", f"+flash_offset={IMAGE_OFFSET}"],
        )
        results = json.loads((self.folder / "results.json").read_text())
        return [Run(**result) if isinstance(result, dict) else result for result in results]
