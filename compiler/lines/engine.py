"""Runs a build's array of lines in Verilator under cocotb: the engine of `qcompile sim`.

What is simulated is the array with its memories (accelerator.v); program and weights go into them
as the bitstream has them, and tensors go through the host's port. Memories and registers without a
reset value start with random contents.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from qcompile.compiler import simulator, toolchain
from qcompile.compiler.artifact import Build
from qcompile.compiler.cache import ONCE, make_once
from qcompile.compiler.flow import Progress
from qcompile.compiler.ir import Int8Array
from qcompile.compiler.libpython import require_libpython
from qcompile.compiler.lines.hardware import config_of
from qcompile.compiler.lines.places import SET_BIT
from qcompile.compiler.simulate import EngineRun
from qcompile.compiler.simulated_board import without_empty_memories
from qcompile.runtime.layouts import IMAGE_FIELD_BYTES, pack_tensor, unpack_tensor, word_order

TOP = "accelerator"
Place = Mapping[str, Any]


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
        self.simulator = _compiled(build, cache, progress)

    def run(self, codes: Mapping[str, Int8Array], *, layers: bool) -> EngineRun:
        """Run N inputs; see `simulate.Engine`."""
        memory = self.build.manifest["accelerator"]
        wanted = memory["layers"] if layers else []
        with tempfile.TemporaryDirectory(prefix="qcompile-") as name:
            folder = Path(name)
            np.savez(folder / "job.npz", **self._job(codes, memory, wanted))
            simulator.run(
                self.simulator,
                TOP,
                "qcompile.compiler.lines.core_bench",
                folder,
                seed=self.seed,
                subject=str(self.build.folder),
            )
            result = np.load(folder / "result.npz")
            tensors = _unpack(result["layers"], wanted) if layers else {}
            tensors |= _unpack(result["outputs"], memory["outputs"])
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
        config = config_of(self.build.manifest["configuration"])
        image = (self.build.folder / "flash.bin").read_bytes()
        program = self.build.manifest["program"]
        end = program["offset"] + program["bytes"]
        weights = np.frombuffer(image[end:], np.int8).reshape(-1, config.columns)
        count = len(next(iter(codes.values())))
        places = [*memory["inputs"], *memory["stored"]]
        held = np.load(self.build.folder / "stored.npz")
        stored = {x["value"]: np.repeat(held[x["value"]][None], count, 0) for x in memory["stored"]}
        parts = [_pack({**codes, **stored}[place["value"]], place) for place in places]
        return {
            "program": np.frombuffer(image[:end], "<u8"),
            "start_address": IMAGE_FIELD_BYTES // 8,
            "weights": weights,
            "weights_at": np.array([config.weight_address(i) for i in range(len(weights))]),
            "inputs": np.array([_region(place) for place in places]),
            "outputs": np.array([_region(place) for place in memory["outputs"]]),
            "layers": np.array([(place["done"], *_region(place)) for place in layers]),
            "words": np.concatenate(parts, axis=1),
        }


def _region(place: Place) -> tuple[int, int, int]:
    """Set, first word, words."""
    set_, first = divmod(place["address"], 1 << SET_BIT)
    return set_, first, place["words"]


def _pack(codes: Int8Array, place: Place) -> Any:
    """int8 [N, ...] to memory words [N, words, bytes]."""
    images = codes.reshape(len(codes), *place["shape"])
    form = place["word_bytes"], place["pitch"]
    return np.stack(
        [pack_tensor(image, *form).view(np.int8).reshape(-1, form[0]) for image in images]
    )


def _unpack(words: Any, places: Sequence[Place]) -> dict[str, Int8Array]:
    """Bytes of memory words [N, all places] to int8 [N, ...] by value name."""
    tensors = {}
    begin = 0
    for place in places:
        end = begin + place["words"] * place["word_bytes"]
        parts = np.ascontiguousarray(words[:, begin:end]).view(np.uint32)
        begin = end
        if "turned_bit" in place:
            order = word_order(place["address"], place["words"], place["turned_bit"])
            by_word = parts.reshape(len(parts), place["words"], -1)
            parts = by_word[:, order].reshape(len(parts), -1)
        form = {"word_bytes": place["word_bytes"], "pitch": place["pitch"]}
        name = place.get("name", place["value"])
        tensors[name] = np.stack([unpack_tensor(row, *place["shape"], **form) for row in parts])
    return tensors


def _compiled(build: Build, cache: Path, progress: Progress) -> Path:
    """Folder of the compiled simulation; processes that build the same one wait for each other."""
    text = without_empty_memories((build.folder / "accelerator.v").read_text())
    versions = (version("cocotb"), version("verilator"))
    key = "\0".join((text, *simulator.BUILD_OPTIONS, *versions))
    folder = cache / hashlib.sha256(key.encode()).hexdigest()[:20]

    def make() -> None:
        toolchain.require_tools(toolchain.SIMULATION_TOOLS)
        progress(f"compile the simulation, minutes {ONCE}")
        source = folder / "accelerator.v"
        source.write_text(text)
        simulator.build(folder, TOP, [source])

    make_once(folder, make)
    return folder
