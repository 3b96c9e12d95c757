"""Runs a build's array of lines in Verilator under cocotb: the engine of `qcompile sim`.

What is simulated is the array with its memories (accelerator.v); program and weights go into them
as the bitstream has them, or lie in a model of the board's flash, and tensors go through the host's
port. Memories and registers without a reset value start with random contents.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qcompile.compiler import simulator, toolchain
from qcompile.compiler.artifact import Build
from qcompile.compiler.cache import ONCE
from qcompile.compiler.flow import Progress
from qcompile.compiler.ir import Int8Array
from qcompile.compiler.libpython import require_libpython
from qcompile.compiler.lines import flash_bench
from qcompile.compiler.lines.hardware import config_of
from qcompile.compiler.lines.places import SET_BIT
from qcompile.compiler.memory_words import pack_all, places_of, unpack_all
from qcompile.compiler.simulate import EngineRun
from qcompile.compiler.simulated_board import without_empty_memories
from qcompile.compiler.targets import board_of_build
from qcompile.hw.boards import LinesBoard
from qcompile.runtime.artifact import Place
from qcompile.runtime.layouts import image_address

TOP = "accelerator"


class LinesEngine:
    """A compiled simulation of one build.

    Parameters
    ----------
    build : Build
    cache : Path
        Folder in which compiled simulations are kept, by the hash of all that goes in.
    seed : int
        Chooses the random contents.
    progress : callable
        Gets a sentence when the simulation has to be compiled, which takes minutes for many lines.

    Attributes
    ----------
    simulator : Path
        Folder of the compiled simulation, top module `TOP`.
    """

    def __init__(self, build: Build, *, cache: Path, seed: int, progress: Progress) -> None:
        require_libpython()
        self.build = build
        self.seed = seed
        self._config = config_of(build.manifest["configuration"])
        self._in_flash = self._config.streams
        self.simulator = self._compiled(cache, progress)

    def run(self, codes: Mapping[str, Int8Array], *, layers: bool) -> EngineRun:
        """Run N inputs; see `simulate.Engine`."""
        memory = self.build.manifest["accelerator"]
        wanted = places_of(memory["layers"], "name") if layers else ()
        with tempfile.TemporaryDirectory(prefix="qcompile-") as name:
            folder = Path(name)
            np.savez(folder / "job.npz", **self._job(codes, memory, wanted))
            simulator.run(
                self.simulator,
                flash_bench.TOP if self._in_flash else TOP,
                "qcompile.compiler.lines.core_bench",
                folder,
                seed=self.seed,
                plusargs=self._flash_contents(),
                subject=str(self.build.folder),
            )
            result = np.load(folder / "result.npz")
            tensors = unpack_all(result["layers"].view(np.uint32), wanted) if layers else {}
            outputs = places_of(memory["outputs"], "value")
            tensors |= unpack_all(result["outputs"].view(np.uint32), outputs)
            cycles = result["cycles"]
            # The last layer's cycles include the end of the run, as the predicted ones do.
            ends = np.concatenate([result["ends"][:, :-1], cycles[:, np.newaxis]], axis=1)
            spans = np.diff(ends, axis=1, prepend=0)
            names = memory["program_layers"]
            return EngineRun(
                tensors=tensors,
                cycles=tuple(cycles.tolist()),
                layer_cycles=dict(zip(names, spans.T.tolist(), strict=True)),
            )

    def _job(
        self, codes: Mapping[str, Int8Array], memory: Mapping[str, Any], layers: Sequence[Place]
    ) -> dict[str, Any]:
        """What `core_bench` reads."""
        count = len(next(iter(codes.values())))
        stored = places_of(memory["stored"], "value")
        places = (*places_of(memory["inputs"], "value"), *stored)
        held = np.load(self.build.folder / "stored.npz")
        repeated = {x.name: np.repeat(held[x.name][None], count, 0) for x in stored}
        words = pack_all({**codes, **repeated}, places)
        return {
            **({} if self._in_flash else self._memories()),
            "start_address": self.build.manifest["program"]["offset"] // 8,
            **self._load(),
            "inputs": np.array([_region(place) for place in places]),
            "outputs": np.array([_region(x) for x in places_of(memory["outputs"], "value")]),
            "layers": np.array([(place.done, *_region(place)) for place in layers]),
            "words": words.view(np.int8).reshape(count, -1, self._config.columns),
        }

    def _memories(self) -> dict[str, Any]:
        """What program and weight memory hold."""
        image = (self.build.folder / "flash.bin").read_bytes()
        program = self.build.manifest["program"]
        end = program["offset"] + program["bytes"]
        weights = np.frombuffer(image[end:], np.int8).reshape(-1, self._config.columns)
        return {
            "program": np.frombuffer(image[:end], "<u8"),
            "weights": weights,
            "weights_at": np.array([self._config.weight_address(i) for i in range(len(weights))]),
        }

    def _load(self) -> dict[str, int]:
        """The program that brings weights that stay, where there is one."""
        load = self.build.manifest["program"].get("load")
        return {} if load is None else {"load_address": load // 8}

    def _flash_contents(self) -> list[str]:
        """The simulation's options."""
        if not self._in_flash:
            return []
        offset = image_address(self.build.manifest["program"]["offset"])
        return [f"+flash={self.build.folder.resolve() / 'flash.bin'}", f"+flash_offset={offset}"]

    def _models(self) -> list[Path]:
        """Verilog of what accelerator.v has without saying how it works."""
        found = [*flash_bench.MODELS] if self._in_flash else []
        if self._config.dsp == "instance" and self._config.pairs_in_dsp:
            found.append(toolchain.vendor_cells("xilinx"))
        return found

    def _compiled(self, cache: Path, progress: Progress) -> Path:
        """Folder of the compiled simulation."""
        text = without_empty_memories((self.build.folder / "accelerator.v").read_text())
        texts, top = {"accelerator.v": text}, TOP
        if self._in_flash:
            board = board_of_build(self.build.folder, self.build.manifest["target"]["board"])
            assert isinstance(board, LinesBoard) and board.flash is not None, "it reads a flash"
            texts = {
                "part.v": board.flash.part.verilog_defines(),
                "accelerator.v": text + flash_bench.flash_bench(text),
            }
            top = flash_bench.TOP
        return simulator.compiled(
            cache,
            top,
            texts,
            models=self._models(),
            on_build=lambda: progress(f"compile the simulation, minutes {ONCE}"),
        )


def _region(place: Place) -> tuple[int, int, int]:
    """Set, first word, words."""
    set_, first = divmod(place.address, 1 << SET_BIT)
    return set_, first, place.words
