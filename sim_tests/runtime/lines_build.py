"""A build directory for an array of one line, and what its memories hold."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from qcompile.compiler import ir
from qcompile.compiler.golden.interpreter import run_graph
from qcompile.compiler.lines.backend import LinesCompiled, compile_graph, with_queue
from qcompile.compiler.lines.places import host_place
from qcompile.compiler.lines.selftest import SelfTest, with_self_test
from qcompile.hw.lines.config import LinesConfig
from qcompile.hw.lines.contents import LinesContents
from qcompile.runtime.layouts import IMAGE_FIELD_BYTES
from sim_tests.compiler.integer_graphs import IntegerGraph
from sim_tests.runtime import small_build

CLOCK_HZ = 24_000_000
CONFIG = LinesConfig(lines=1, lanes=4, acc_width=20, bank_words=512, weight_rows=700)
SHA256 = hashlib.sha256(b"lines").hexdigest()


class LinesBuild:
    """A network of three input channels with a stored constant, compiled, with its self-test;
    inputs queue or not.

    Always the same ones, so that simulated boards are compiled once.
    """

    def __init__(self, *, queued: bool = False) -> None:
        rng = np.random.default_rng(7)
        g = IntegerGraph(rng)
        x = g.input(3, 6, 4)
        a = g.conv(x, 20, (3, 3), pads=(1, 1, 1, 1))
        held = g.constant(rng.integers(-128, 128, (1, 20, 6, 4)).astype(np.int8))
        y = g.conv(g.add(a, held), 5, (3, 3))
        self.graph = g.graph(y)
        self.compiled: LinesCompiled = compile_graph(self.graph, CONFIG)
        assert self.compiled.stored, "the constant is an operand of the residual adder"
        if queued:
            found = with_queue(self.compiled)
            assert found is not None, "the sets have room"
            self.compiled = found
        program, self.test = with_self_test(self.compiled)
        body = np.array(program.words, "<u8").tobytes() + program.weights.tobytes()
        identity, length = CONFIG.id, len(body)
        crc, sha256 = zlib.crc32(body), bytes.fromhex(SHA256)
        header = struct.pack("<4sHHIII12x32s", *(b"QCIM", 1, 0, identity, length, crc, sha256))
        words = [*np.frombuffer(header, "<u8").tolist(), *program.words]
        self.contents = LinesContents(program=words, weights=program.weights)

    def golden(self, samples: int) -> dict[str, Any]:
        """golden.npz."""
        rng = np.random.default_rng(8)
        shape = (samples, *self.graph.values[self.graph.inputs[0]].shape[1:])
        codes = {self.graph.inputs[0]: rng.integers(-128, 128, shape).astype(np.int8)}
        values = run_graph(self.graph, codes)
        found: dict[str, Any] = {f"input/{name}": array for name, array in codes.items()}
        found |= {f"output/{name}": values[name] for name in self.graph.outputs}
        for index, layer in enumerate(self._named()):
            shape3 = self.compiled.places[layer.output].shape
            found[f"layer/{index}"] = values[layer.output][0].reshape(shape3)
        return found

    def _named(self) -> list[Any]:
        return [layer for layer in self.compiled.layers if not layer.inner]

    def manifest(self) -> dict[str, Any]:
        """Codes are the model's own inputs and outputs."""
        done = {layer.output: number for number, layer in enumerate(self.compiled.layers, 1)}
        layers = [
            {**self._place(layer.output), "name": layer.name, "done": done[layer.output]}
            for layer in self._named()
        ]
        graph = self.graph
        return {
            **small_build.manifest(),
            "model": {"name": "lines", "file": "model.onnx", "sha256": SHA256},
            "target": {
                "family": "xc7",
                "device": "xc7a100t",
                "board": "arty_a7_100t",
                "part": "xc7a100tcsg324-1",
                "loader": "arty_a7_100t",
                "cable": None,
            },
            "configuration": {**asdict(CONFIG), "id": CONFIG.id, "kind": "lines"},
            "inputs": [_value(graph.values[name]) for name in graph.inputs],
            "outputs": [_value(graph.values[name]) for name in graph.outputs],
            "prologue": [],
            "epilogue": [],
            "accelerator": {
                "inputs": [self._place(name) for name in graph.inputs],
                "outputs": [self._place(name) for name in graph.outputs],
                "layers": layers,
                "stored": [self._place(name) for name in self.compiled.stored],
                "queue": self.compiled.queue and asdict(self.compiled.queue),
            },
            "selftest": self.test.manifest(IMAGE_FIELD_BYTES),
            "program": {
                "offset": IMAGE_FIELD_BYTES,
                "bytes": 8 * len(self.compiled.program.words),
            },
            "clock_hz": CLOCK_HZ,
        }

    def _place(self, name: str) -> dict[str, Any]:
        return host_place(name, self.compiled.places[name], CONFIG)

    def write(self, folder: Path, *, test: SelfTest | None = None) -> Path:
        """The build directory; `test` replaces the vectors of the self-test."""
        folder.mkdir()
        np.savez(folder / "golden.npz", **self.golden(2))
        stored: dict[str, Any] = dict(self.compiled.stored)
        np.savez(folder / "stored.npz", **stored)
        (folder / "selftest.npz").write_bytes((test or self.test).vectors())
        (folder / "flash.bin").write_bytes(self.contents.image)
        small_build.write_manifest(folder, {**self.manifest(), "parts": {}})
        return folder


def _value(value: ir.Value) -> dict[str, Any]:
    return {"name": value.name, "shape": value.shape, "dtype": value.dtype, "quantization": None}
