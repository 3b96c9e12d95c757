"""Compiles integer graphs for arrays of lines and runs them in the real Verilog."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.backend import outputs_of
from qcompile.compiler.golden.interpreter import run_graph
from qcompile.compiler.lines import flash_bench
from qcompile.compiler.lines.backend import LinesCompiled
from qcompile.hw.flash_parts import S25FL128S
from qcompile.hw.lines.accelerator import LinesAccelerator
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.flash_program import FlashTiming
from sim_tests.compiler.lines_walker import memory_words
from sim_tests.hw import cosim


@dataclass(frozen=True, slots=True)
class LinesRun:
    """What a run of the whole program took; the last layer's cycles include the end."""

    cycles: int
    layer_cycles: tuple[int, ...]


def unpacked(words: np.ndarray, shape: tuple[int, int, int], word: int) -> np.ndarray:
    """Memory words [n * word] -> codes [channels, height, width]."""
    channels, height, width = shape
    pitch = width + 1 - width % 2
    by_group = words.reshape(-1, height, pitch, word).transpose(0, 3, 1, 2)
    return by_group.reshape(-1, height, pitch)[:channels, :, :width]


def turned_back(words: np.ndarray, first: int, config: LinesConfig) -> np.ndarray:
    """The words [n * V] of a turned tensor, read from address `first` on, in their order."""
    by_word = words.reshape(-1, config.columns)
    order = [config.place(first + at) - first for at in range(len(by_word))]
    return by_word[order].reshape(-1)


class LinesRuns:
    """The accelerator of a configuration, compiled; runs subjects one after the other.

    With `flash` their programs lie in a flash, which is read so.
    """

    def __init__(
        self,
        config: LinesConfig,
        folder: Path,
        program_words: int = 16384,
        flash: FlashTiming | None = None,
    ) -> None:
        self.config = config
        self.folder = folder
        self.flash = flash
        source = program_words if flash is None else flash
        text = cosim.verilog_of(LinesAccelerator, config, source, name="dut")
        text = cosim.with_random_memories(text)
        if flash is None:
            self.simulation = cosim.build(text, "dut")
            return
        (folder / "part.v").write_text(S25FL128S.verilog_defines())
        sources = [folder / "part.v", *flash_bench.MODELS]
        text += flash_bench.flash_bench(text, "dut")
        self.simulation = cosim.build(text, flash_bench.TOP, sources=sources)

    def check(
        self,
        subjects: Sequence[tuple[LinesCompiled, dict[str, ir.Int8Array]]],
        *,
        seed: int,
        layers: bool = True,
        busy_host: bool = False,
    ) -> list[LinesRun]:
        """Every subject's tensors, after each layer or only the outputs, are golden's; a busy host
        reads and writes words beside them meanwhile."""
        job: dict[str, object] = {
            "subjects": len(subjects),
            "whole": int(not layers),
            "in_flash": int(self.flash is not None),
            "busy_host": int(busy_host),
            "seed": seed,
        }
        for number, (compiled, codes) in enumerate(subjects):
            job |= {f"s{number}_{k}": v for k, v in self._job(compiled, codes, layers).items()}
        np.savez(self.folder / "job.npz", **job)  # type: ignore[arg-type]  # stubs know arrays only
        cosim.run_module(
            self.simulation,
            "sim_tests.cosim.lines_bench",
            self.folder,
            seed=seed,
            environment={"QCOMPILE_JOB": str(self.folder)},
            plusargs=self._write_flash([compiled for compiled, _ in subjects]),
        )
        result = np.load(self.folder / "result.npz")
        runs = []
        for number, (compiled, codes) in enumerate(subjects):
            expected = run_graph(compiled.graph, codes)
            assert (min(result[f"s{number}_accesses"]) > 10) == busy_host
            pairs = zip(compiled.layers, compiled.plans, strict=True)
            turned = {layer.output for layer, plan in pairs if plan.write_turned}
            for index, name in enumerate(self._tensors(compiled, layers)):
                place = compiled.places[name]
                words = result[f"s{number}_layer{index}"]
                if name in turned:
                    words = turned_back(words, place.offset, self.config)
                np.testing.assert_array_equal(
                    unpacked(words, place.shape, self.config.columns),
                    expected[name][0].reshape(place.shape),
                    err_msg=f"subject {number}: {name}",
                )
            if not layers:
                cycles = int(result[f"s{number}_cycles"])
                ends = [*result[f"s{number}_ends"].tolist()[:-1], cycles]
                spans = tuple(b - a for a, b in zip([0, *ends], ends, strict=False))
                runs.append(LinesRun(cycles, spans))
        return runs

    def _write_flash(self, compiled: Sequence[LinesCompiled]) -> list[str]:
        """All programs in a flash, one after the other from byte 0 on; the simulation's options."""
        if self.flash is None:
            return []
        path = self.folder / "flash.bin"
        words = [word for each in compiled for word in each.program.words]
        path.write_bytes(np.array(words, "<u8").tobytes())
        return [f"+flash={path}"]

    def _tensors(self, compiled: LinesCompiled, layers: bool) -> list[str]:
        if layers:
            return [layer.output for layer in compiled.layers if not layer.inner]
        return list(dict.fromkeys(outputs_of(compiled.graph)))

    def _free(self, compiled: LinesCompiled) -> list[tuple[int, int, int]]:
        """Set, first word, words: above all tensors of each set, a few words alone."""
        ends = [0, 0]
        for place in compiled.places.values():
            ends[place.bank] = max(ends[place.bank], place.offset + place.words)
        return [(s, end, min(64, self.config.set_words - end)) for s, end in enumerate(ends)]

    def _job(
        self, compiled: LinesCompiled, codes: dict[str, ir.Int8Array], layers: bool
    ) -> dict[str, object]:
        done = {layer.output: number for number, layer in enumerate(compiled.layers, 1)}
        reads = []
        for name in self._tensors(compiled, layers):
            place = compiled.places[name]
            reads.append((done.get(name, 0), place.bank, place.offset, place.words))
        job: dict[str, object] = {
            "program": np.array(compiled.program.words, np.uint64),
            "weights": compiled.program.weights,
            "weights_at": np.array(
                [self.config.weight_address(i) for i in range(len(compiled.program.weights))]
            ),
            "layers": np.array(reads),
            "free": np.array(self._free(compiled)),
            "inputs": len(codes) + len(compiled.stored),
        }
        stored = {name: tensor[np.newaxis] for name, tensor in compiled.stored.items()}
        for index, (name, tensor) in enumerate({**codes, **stored}.items()):
            place = compiled.places[name]
            job[f"place{index}"] = np.array([place.bank, place.offset])
            words = memory_words(tensor[0].reshape(place.shape), self.config.columns)
            job[f"words{index}"] = words.astype(np.int8)
        return job
