"""Golden against ONNX Runtime: every layer and every output of a model, element for element."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from qcompile.compiler.compare import compare_layer
from qcompile.compiler.golden.interpreter import run_graph, run_model
from qcompile.compiler.ir import Model
from qcompile.compiler.reference import Reference
from qcompile.runtime.host_ops import run_host_ops
from sim_tests.compiler.networks import random_codes

Inputs = dict[str, npt.NDArray[Any]]


def assert_equal_everywhere(path: Path, model: Model, inputs: Inputs, *, renamed: int = 0) -> None:
    """Every layer and every output is the same, element for element; none is left out.

    Layers that are no tensor of the file (codes before they are moved) have nothing to equal, nor
    have the `renamed` ones, around which ONNX Runtime moves a Transpose.
    """
    tensors = {name for node in onnx.load(path).graph.node for name in node.output}
    layers = [op.name for op in model.graph.ops if op.name in tensors]
    reference = Reference(path, layers)
    assert reference.islands == ()
    run = reference.run(inputs)
    assert len(set(layers) - set(run.layers)) == renamed
    entered = run_host_ops(model.prologue, inputs)
    codes = run_graph(model.graph, {name: entered[name] for name in model.graph.inputs})
    for name in run.layers:
        record = compare_layer(name, codes[name], run.layers[name])
        assert record.mismatches == 0, record
    outputs = run_model(model, inputs)
    assert set(outputs) == set(run.outputs)
    for name, expected in run.outputs.items():
        assert outputs[name].dtype == expected.dtype
        assert np.array_equal(outputs[name], expected), name


def random_inputs(model: Model, rng: np.random.Generator, count: int) -> Inputs:
    """Codes over their whole range, and normal numbers, whose width is 3, for float inputs."""
    return {
        value.name: _random((count, *value.shape[1:]), value.dtype, rng) for value in model.inputs
    }


def _random(shape: tuple[int, ...], dtype: str, rng: np.random.Generator) -> npt.NDArray[Any]:
    if dtype == "float32":
        return (rng.normal(size=shape) * 3).astype(np.float32)
    return random_codes(rng, shape, dtype)
