"""golden.npz: random inputs and what golden makes of them, for the board's self-test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompile.compiler import ir
from qcompile.compiler.artifact import to_npz
from qcompile.compiler.golden.interpreter import run_graph
from qcompile.compiler.layers import Layer
from qcompile.compiler.passes.allocate import Placement

VECTORS = 2
SEED = 2024
"""The same vectors for the same model, so that builds are reproducible."""


def golden_vectors(
    graph: ir.Graph, layers: Sequence[Layer], places: Mapping[str, Placement]
) -> bytes:
    """The npz that `runtime.run.self_test` reads.

    `input/NAME` and `output/NAME` are int8 codes [vectors, ...] of the accelerator's inputs and
    outputs, `layer/INDEX` those of the tensor of the manifest's layer INDEX for the first vector,
    [channels, height, width].
    """
    random = np.random.default_rng(SEED)
    inputs = {}
    for name in graph.inputs:
        value = graph.values[name]
        low, end = (-128, 128) if value.log is None else (0, value.log.levels)
        inputs[name] = random.integers(low, end, (VECTORS, *value.shape[1:])).astype(np.int8)
    values = run_graph(graph, inputs)
    arrays: dict[str, npt.NDArray[Any]] = {f"input/{name}": codes for name, codes in inputs.items()}
    arrays |= {f"output/{name}": values[name] for name in graph.outputs}
    named = [layer for layer in layers if not layer.inner]
    for index, layer in enumerate(named):
        channels, height, width = places[layer.output].shape
        shape = (channels // 2 if layer.halves else channels, height, width)
        arrays[f"layer/{index}"] = values[layer.output][0].reshape(shape)
    return to_npz(arrays)
