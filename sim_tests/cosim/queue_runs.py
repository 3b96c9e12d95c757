"""Runs an array of lines behind AXI in the real Verilog, with inputs that queue and that do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.backend import outputs_of
from qcompile.compiler.golden.interpreter import run_graph
from qcompile.compiler.lines.backend import LinesCompiled
from qcompile.compiler.lines.places import host_place
from qcompile.compiler.lines.throughput import throughput
from qcompile.hw.lines.contents import LinesContents
from qcompile.hw.lines.system import LinesSystem
from qcompile.runtime.artifact import Place, read_place
from sim_tests.compiler.lines_walker import memory_words
from sim_tests.cosim.lines_runs import unpacked
from sim_tests.hw import axi_board, cosim

CLOCK_HZ = 25_000_000


@dataclass(frozen=True, slots=True)
class QueueRun:
    """Cycles of the runs themselves, and from each start to the next."""

    cycles: tuple[int, ...]
    periods: tuple[int, ...]


class QueueRuns:
    """A compilation whose inputs queue, behind AXI, with its program and weights."""

    def __init__(self, compiled: LinesCompiled, folder: Path) -> None:
        assert compiled.queue is not None
        self.compiled = compiled
        self.queue = compiled.queue
        self.folder = folder
        program, config = compiled.program, compiled.config
        contents = LinesContents(program=program.words, weights=program.weights)
        system = LinesSystem(
            config, contents.program_words, contents, clock_hz=CLOCK_HZ, link="axi"
        )
        text = cosim.with_random_memories(cosim.to_verilog(system, name="lines_system"))
        more = "assign violated = 0;"
        top = axi_board.wrapper(system, "lines_system", more=more)
        self.simulation = cosim.build(text + top, axi_board.TOP)

    @property
    def cycles(self) -> list[int]:
        """Predicted, of every layer."""
        return [layer.cycles for layer in self.compiled.cycles()]

    def predicted(self) -> int:
        """Cycles from one start to the next where inputs queue."""
        found = throughput(self.compiled, "axi").cycles
        assert found is not None
        return found

    def place(self, name: str) -> Place:
        """Of a tensor, as the host says it."""
        places, config = self.compiled.places, self.compiled.config
        return read_place(host_place(name, places[name], config), "value")

    def check(
        self, samples: Sequence[dict[str, ir.Int8Array]], *, seed: int, queued: bool
    ) -> QueueRun:
        """Every sample's outputs are golden's."""
        graph = self.compiled.graph
        outputs = [self.place(name) for name in dict.fromkeys(outputs_of(graph))]
        inputs = [self.place(name) for name in graph.inputs]
        stored = self.compiled.stored
        held = [self.place(name) for name in stored]
        np.savez(
            self.folder / "job.npz",
            inputs=np.array([(x.address, x.words) for x in inputs]),
            outputs=np.array([(x.address, x.words) for x in outputs]),
            stored=np.array([(x.address, x.words) for x in held]),
            stored_words=self._words({n: x[np.newaxis] for n, x in stored.items()}),
            words=np.stack([self._words(sample) for sample in samples]),
            inputs_free=np.array(self.queue.inputs_free),
            outputs_from=np.array(self.queue.outputs_from),
            queued=np.array(int(queued)),
        )
        cosim.run_module(
            self.simulation,
            "sim_tests.cosim.queue_bench",
            self.folder,
            seed=seed,
            environment={"QCOMPILE_JOB": str(self.folder)},
        )
        result = np.load(self.folder / "result.npz")
        columns = self.compiled.config.columns
        for sample, found in zip(samples, result["outputs"], strict=True):
            expected = run_graph(graph, sample)
            begin = 0
            for place in outputs:
                words = found[begin : begin + columns * place.words]
                begin += columns * place.words
                np.testing.assert_array_equal(
                    unpacked(words, place.shape, columns),
                    expected[place.name][0].reshape(place.shape),
                    err_msg=place.name,
                )
        times = result["times"]
        return QueueRun(tuple(result["cycles"].tolist()), tuple(np.diff(times).tolist()))

    def _words(self, tensors: dict[str, ir.Int8Array]) -> np.ndarray:
        """Of all tensors, in order, [n, V]."""
        places, columns = self.compiled.places, self.compiled.config.columns
        parts = [
            memory_words(tensor[0].reshape(places[name].shape), columns)
            for name, tensor in tensors.items()
        ]
        return np.concatenate([np.zeros((0, columns)), *parts]).astype(np.int8)
