"""Compiled models in plain Python: layers by their definition, and the plans that were chosen."""

from __future__ import annotations

import numpy as np

from qcompile.compiler.backend import Compiled
from qcompile.compiler.golden.interpreter import run_graph
from sim_tests.compiler.layer_runs import convolve, run_layers, written
from sim_tests.compiler.networks import random_codes
from sim_tests.compiler.walker import UNWRITTEN, walk

WALKED_MACS = 20_000
"""Products of a model, above which Python takes seconds."""


def check_compiled(
    compiled: Compiled, rng: np.random.Generator, *, limit: int = WALKED_MACS
) -> bool:
    """Layers give golden's tensors, plans give their layers' sums; False: too large to try."""
    if sum(layer.macs for layer in compiled.layers) > limit:
        return False
    graph = compiled.model.graph
    codes = {name: random_codes(rng, graph.values[name].shape, "int8") for name in graph.inputs}
    expected = run_graph(graph, codes)
    found = {name: array[0] for name, array in codes.items()}
    run_layers(compiled.layers, found)
    for layer, plan in zip(compiled.layers, compiled.plans, strict=True):
        if not layer.inner:
            wanted = expected[layer.output][0]
            shaped = found[layer.output].reshape(wanted.shape)
            np.testing.assert_array_equal(shaped, wanted, layer.name)
        inputs = random_codes(rng, layer.input_shape, "int8")
        sums = np.full(layer.tensor_shape, UNWRITTEN)
        written(layer, convolve(layer, inputs), sums)
        np.testing.assert_array_equal(walk(layer, plan, inputs), sums, layer.name)
    return True
